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

/* A class in a class, which only the patterns that are written have: read again, as ECMA-262, it would end at the first
 * bracket, and what follows be something else. In JSON text a pattern's backslash is two. */
static bool has_nested_class(struct str text)
{
    bool in_class = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '[' && in_class) {
            return true;
        }
        in_class = c == '[' || (in_class && c != ']' && c != '"');
        if (str_starts(str_slice(text, i, text.len), STR("\\\\"))) {
            i += 2; /* and what it escapes */
        } else if (c == '\\') {
            i++;
        }
    }
    return false;
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
        if (!again || (!has_nested_class(buf_view(&once)) && !widen(again, true, &twice))) {
            abort();
        }
        json_free(again);
    }
    json_free(schema);
    buf_release(&once);
    buf_release(&twice);
    return 0;
}
