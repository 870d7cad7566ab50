#include "cli/options_internal.h"

#include "base/array.h"
#include "pipeline/output_formats.h"

#include <stdio.h>

static const struct {
    enum command command;
    const char *name;
} commands[] = {
    /* those that people start */
    {COMMAND_SERVE, "serve"},
    {COMMAND_RUN, "run"},
    {COMMAND_INSPECT, "inspect"},
    {COMMAND_LIST, "list"},
    {COMMAND_PULL, "pull"},
    {COMMAND_RM, "rm"},
    {COMMAND_SEARCH, "search"},
    {COMMAND_ALIAS, "alias"},
    {COMMAND_BENCH, "bench"},
    {COMMAND_BENCH_KERNELS, "bench-kernels"},
    {COMMAND_BENCH_SERVE, "bench-serve"},
    {COMMAND_QUANTIZE, "quantize"},
    {COMMAND_CONVERT, "convert"},
    {COMMAND_EVAL, "eval"},
};

/* Options whose values are the names of a table. */
static const struct {
    const char *name;
    void (*list)(struct buf *out);
} value_lists[] = {
    {"tool-format", output_formats_list_tools},
    {"reasoning-format", output_formats_list_reasoning},
};

static void put_values(const struct option *o, struct buf *out)
{
    for (size_t i = 0; i < ARRAY_LEN(value_lists); i++) {
        if (strcmp(o->name, value_lists[i].name) == 0) {
            buf_puts(out, "; one of ");
            value_lists[i].list(out);
        }
    }
}

/* "--top-k VALUE" */
static void usage_of(const struct option *o, char *out, size_t size)
{
    char flag[80];
    options__flag(o, flag, sizeof flag);
    snprintf(out, size, "%s%s%s", flag, o->value ? " " : "", o->value ? o->value : "");
}

void options_help(enum command command, struct buf *out)
{
    for (const struct option *o = options__table; o->name; o++) {
        char usage[120];
        if (!(o->commands & command)) {
            continue;
        }
        usage_of(o, usage, sizeof usage);
        buf_printf(out, "  %-38s %s", usage, o->help);
        put_values(o, out);
        if (o->fallback) {
            buf_printf(out, " [%s]", o->fallback);
        }
        buf_puts(out, options__is_reloadable(o) && command == COMMAND_SERVE ? " (again on SIGHUP)\n" : "\n");
    }
}

void options_docs(struct buf *out)
{
    buf_puts(
        out,
        "# Options\n\n"
        "Generated from the program's table by `make docs`; do not edit.\n\n"
        "Each option can be given as a flag, as an environment variable (`TANDEM_KV_MEMORY` for `--kv-memory`) or "
        "in the JSON file named\n"
        "by `--config` (`\"kv-memory\": \"2G\"`). Flags win over the environment, the environment over the file.\n"
        "One file may serve all commands: what is for another one is passed over, what is for none is refused. Other "
        "variables that begin with\n`TANDEM_` are not looked at. An option that has no effect beside another one, or "
        "without it, is refused, unless it has its default.\n\n"
        "What is marked with \"again on SIGHUP\" `tandem serve` reads again from the file when it gets that "
        "signal\n"
        "([SECURITY.md](SECURITY.md), Reloading). What is \"of a model\" a model of --models may have for itself "
        "([ON_DEMAND.md](ON_DEMAND.md)).\n\n"
        "| option | default | commands | |\n"
        "| --- | --- | --- | --- |\n");
    for (const struct option *o = options__table; o->name; o++) {
        char usage[120];
        if (!(o->commands & ~COMMAND_ENGINE)) {
            continue;
        }
        usage_of(o, usage, sizeof usage);
        buf_printf(out, "| `%s` | %s |", usage, o->fallback ? o->fallback : "");
        for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
            if (o->commands & (int)commands[i].command) {
                buf_printf(out, " %s", commands[i].name);
            }
        }
        buf_printf(out, " | %s", o->help);
        put_values(o, out);
        bool own = o->commands & COMMAND_SERVE && options__is_of_model(o);
        buf_printf(out, "%s%s |\n", own ? "; of a model" : "", options__is_reloadable(o) ? "; again on SIGHUP" : "");
    }
}
