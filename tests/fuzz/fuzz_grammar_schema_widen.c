/* JSON Schemas of any kind: what is left has nothing more to leave out, and is not changed by being widened again. */
#include "grammar/schema_widen.h"

#include "base/limits.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool widen(const struct json *schema, bool binding, struct buf *out)
{
    struct error err = {0};
    struct arena *arena = arena_create(MIB(8));
    struct schema_drops drops;
    struct schema_widen_options options = {.binding = binding};
    bool ok = arena && schema_widen(schema, &options, arena, out, &drops, &err);
    arena_free(arena);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct json *schema = json_parse_bounded((struct str){(const char *)data, size}, 24, 20000, &err);
    struct buf once, twice;
    buf_init(&once, MIB(4));
    buf_init(&twice, MIB(8));
    if (schema && widen(schema, false, &once)) {
        struct json *again = json_parse(buf_view(&once), 64, &err);
        if (!again || !widen(again, true, &twice)) {
            abort();
        }
        json_free(again);
    }
    json_free(schema);
    buf_release(&once);
    buf_release(&twice);
    return 0;
}
