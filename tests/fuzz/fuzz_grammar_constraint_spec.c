/* Constraint specs as they come out of a SUBMIT frame: what decodes must encode to the same bytes. */
#include "grammar/constraint_spec.h"

#include "base/limits.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_create(MIB(8));
    struct str in = {(const char *)data, size};
    struct constraint_spec spec;
    struct error err = {0};
    if (arena && constraint_spec_decode(in, arena, &spec, &err)) {
        struct buf out;
        buf_init(&out, LIMIT_CONSTRAINT);
        if (!constraint_spec_encode(&spec, &out, &err) || !str_eq(buf_view(&out), in)) {
            abort();
        }
        buf_release(&out);
    }
    arena_free(arena);
    return 0;
}
