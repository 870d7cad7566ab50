/* The registry of aliases: whatever is taken has a name and a reference that the rules allow. */
#include "base/limits.h"
#include "hub/registry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) {
        __builtin_trap();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct hub_registry r;
    struct hub_reference parsed;
    struct arena *arena = arena_create(MIB(4));
    if (!arena) {
        return 0;
    }
    bool ok = hub_registry_parse((struct str){(const char *)data, size}, arena, &r, &err);
    check(ok ? err.code == ERR_NONE : err.code != ERR_NONE && err.msg[0] && r.n == 0);
    for (size_t i = 0; i < r.n; i++) {
        check(hub_short_check(r.aliases[i].name, &err) && hub_reference_parse(r.aliases[i].reference, &parsed, &err));
        check(hub_registry_find(&r, r.aliases[i].name) == r.aliases[i].reference);
    }
    arena_free(arena);
    return 0;
}
