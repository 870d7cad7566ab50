/* The text of a config file, for each command: the first byte chooses the command. */
#include "base/limits.h"
#include "cli/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum command commands[] = {COMMAND_SERVE, COMMAND_RUN, COMMAND_INSPECT, COMMAND_LIST};
    struct options options = {0};
    struct error err = {0};
    struct arena *arena = size ? arena_create(MIB(4)) : NULL;
    if (!arena) {
        return 0;
    }
    struct str text = {(const char *)data + 1, size - 1};
    bool ok = options_read_config(commands[data[0] % 4], text, arena, &options, &err);
    if (ok ? err.code != ERR_NONE : err.code == ERR_NONE || !err.msg[0]) {
        __builtin_trap(); /* a refusal says why, and only a refusal does */
    }
    if (options.listen.n > OPTIONS_MAX_LIST || options.port < 0 || options.port > 65535) {
        __builtin_trap();
    }
    arena_free(arena);
    return 0;
}
