/* The text of a file of models. What is taken is whole: every model has a name and what it names; what is refused says
 * why. */
#include "base/limits.h"
#include "cli/models_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct models_file *f)
{
    bool ok = f->n <= MODELS_FILE_MAX;
    for (size_t i = 0; ok && i < f->n; i++) {
        const struct models_entry *e = &f->entries[i];
        ok = e->name && e->name[0] && e->model && e->model[0] && e->aliases.n < MODELS_NAMES_MAX &&
             e->keep_alive_ms >= -1 && e->options.port == 8000 && e->options.overrides.n <= OPTIONS_MAX_LIST;
    }
    if (!ok || f->keep_alive_ms < -1) {
        __builtin_trap();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct options base;
    struct models_file file;
    struct error err = {0};
    struct arena *arena = arena_create(MIB(8));
    char *no_words[] = {NULL};
    if (!arena || !options_parse(COMMAND_SERVE, 0, no_words, arena, &base, &err)) {
        arena_free(arena);
        return 0;
    }
    bool ok = models_file_parse((struct str){(const char *)data, size}, &base, arena, &file, &err);
    if (ok) {
        check(&file);
    }
    if (ok ? err.code != ERR_NONE : err.code == ERR_NONE || !err.msg[0]) {
        __builtin_trap();
    }
    arena_free(arena);
    return 0;
}
