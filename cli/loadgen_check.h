/* What a workload's line demands of an answer: the object `check`, all of whose members must hold.
 *
 *     {"contains": "Paris"}            also a list: all of them        {"equals": "4"}    without blanks around it
 *     {"not_contains": ["sorry"]}      none of them                    {"json": true}     parses as JSON
 *     {"regex": "^[0-9]+$"}            POSIX extended, somewhere       {"finish_reason": "stop"}
 *
 * A check is read-only once it is made: any thread may use it. */
#ifndef TANDEM_CLI_LOADGEN_CHECK_H
#define TANDEM_CLI_LOADGEN_CHECK_H

#include "base/arena.h"
#include "base/json.h"

struct loadgen_check;

/* Made in the arena, which also frees it. INVALID names the member at fault. */
NODISCARD struct loadgen_check *loadgen_check_create(const struct json *spec, struct arena *arena, struct error *err);

/* text: what the model has said (without reasoning); finish_reason: "" when none came. False: *err is a sentence that
 * says which demand is not met (code INVALID). */
NODISCARD bool loadgen_check_passes(const struct loadgen_check *c, struct str text, const char *finish_reason,
                                    struct error *err);

#endif
