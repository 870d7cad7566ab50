/* The requests that `tandem bench-serve` sends: a built-in prompt set, without end, or the lines of a file, over and
 * over. Each line of a file is a JSON object:
 *
 *     {"messages": [{"role": "user", "content": "2+2?"}], "max_tokens": 8, "temperature": 0,
 *      "at_ms": 1200, "check": {"contains": "4"}}
 *
 * `messages`, or `prompt` (with --api chat it becomes one user message); `at_ms`, when the request is sent after the
 * run's start (in all lines or in none, ascending); `check` as in loadgen_check.h; every other member is a field of the
 * request's body. Of equal fields those of the command line win (--max-tokens, --ignore-eos), then the line's, then
 * --body's, then the prompt set's. `model`, `stream` and `stream_options` are the command's business.
 *
 * Read-only once it is made: any thread may use it. */
#ifndef TANDEM_CLI_LOADGEN_WORKLOAD_H
#define TANDEM_CLI_LOADGEN_WORKLOAD_H

#include "cli/loadgen_check.h"
#include "cli/loadgen_prompts.h"
#include "cli/loadgen_target.h"

#define LOADGEN_WORKLOAD_FILE_MAX ((size_t)256 << 20)
#define LOADGEN_WORKLOAD_LINES    1000000
#define LOADGEN_BODY_MAX          ((size_t)64 << 20) /* bytes of one request's body */

struct loadgen_workload_options { /* strings are copied */
    enum loadgen_api api;
    const char *path;               /* NULL: the prompt set */
    struct loadgen_prompts prompts; /* prompt_tokens 0: the set's */
    int64_t max_tokens;             /* 0: the line's, the body's or the set's */
    const char *body;               /* --body, or NULL */
    bool ignore_eos, stream;
};

struct loadgen_workload;

NODISCARD struct loadgen_workload *loadgen_workload_create(const struct loadgen_workload_options *options,
                                                           struct error *err);
void loadgen_workload_free(struct loadgen_workload *w); /* NULL is fine */

/* The same with the file's text; create reads the file for it. Errors name the line. */
NODISCARD struct loadgen_workload *loadgen_workload_parse(const struct loadgen_workload_options *options,
                                                          struct str text, struct error *err);

size_t loadgen_workload_lines(const struct loadgen_workload *w);                     /* 0: a prompt set */
bool loadgen_workload_timed(const struct loadgen_workload *w);                       /* its lines have at_ms */
double loadgen_workload_at_ms(const struct loadgen_workload *w, uint64_t index);     /* index < lines */
const struct loadgen_check *loadgen_workload_check(const struct loadgen_workload *w, /* NULL: none */
                                                   uint64_t index);

/* Appends the JSON body of request `index`. Overflow and memory show in the buf. */
void loadgen_workload_body(const struct loadgen_workload *w, uint64_t index, const char *model, struct buf *out);

#endif
