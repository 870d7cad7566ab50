#include "api/app.h"
#include "base/log.h"
#include "base/sys_proc.h"
#include "cli/commands.h"

#include <stdio.h>
#include <string.h>

struct command_row {
    const char *name;
    enum command command;
    int (*run)(const struct options *o);
    const char *usage, *help;
};

static const struct command_row commands[] = {
    {"serve", COMMAND_SERVE, command_serve, "serve [MODEL ...] [options]", "serve models over HTTP"},
    {"run", COMMAND_RUN, command_run, "run MODEL [PROMPT] [options]", "chat with a model, or answer one prompt"},
    {"pull", COMMAND_PULL, command_pull, "pull MODEL", "bring a model from the Hugging Face Hub"},
    {"search", COMMAND_SEARCH, command_search, "search WORDS [options]", "models on the Hugging Face Hub"},
    {"inspect", COMMAND_INSPECT, command_inspect, "inspect MODEL [options]",
     "what a model holds and needs, here or on the Hub"},
    {"list", COMMAND_LIST, command_list, "list [options]", "models in the models folder and in the Hub's cache"},
    {"rm", COMMAND_RM, command_rm, "rm MODEL", "remove a model from the Hub's cache"},
    {"alias", COMMAND_ALIAS, command_alias, "alias [NAME [MODEL]] [options]", "short names for models"},
    {"bench", COMMAND_BENCH, command_bench, "bench MODEL [options]", "speed of a model, beside the machine's limits"},
    {"bench-kernels", COMMAND_BENCH_KERNELS, command_bench_kernels, "bench-kernels [options]",
     "speed of the cpu backend's ops, beside the machine's limits"},
    {"bench-serve", COMMAND_BENCH_SERVE, command_bench_serve, "bench-serve [LABEL=]URL[#MODEL] ... [options]",
     "measure OpenAI-compatible servers"},
    {"quantize", COMMAND_QUANTIZE, command_quantize, "quantize MODEL OUT [options]", "write a model in 8, 6 or 4 bits"},
    {"convert", COMMAND_CONVERT, command_convert, "convert MODEL OUT [options]",
     "write a model in the other format: GGUF file or folder"},
    {"eval", COMMAND_EVAL, command_eval, "eval MODEL --text FILE [options]",
     "perplexity, and distance from another precision"},
    {"engine", COMMAND_ENGINE, command_engine, NULL, NULL},
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

int command_fail(const struct error *err)
{
    fprintf(stderr, "tandem: %s\n", err->msg);
    return error_info(err->code)->exit_status;
}

static void print(struct buf *b)
{
    fputs(b->data ? b->data : "", stdout);
    buf_release(b);
}

static int usage(FILE *out, int status)
{
    fprintf(out, "Tandem %s: a local inference server.\n\n", tandem_version());
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (commands[i].usage) {
            fprintf(out, "  tandem %-46s %s\n", commands[i].usage, commands[i].help);
        }
    }
    fprintf(out, "  tandem %-46s %s\n  tandem %-46s %s\n", "version", "version, processor, kernels", "COMMAND --help",
            "options of a command");
    return status;
}

static int help(const struct command_row *row)
{
    struct buf text;
    buf_init(&text, (size_t)1 << 20);
    const char *model =
        strstr(row->usage, " MODEL") || strstr(row->usage, "[MODEL")
            ? " MODEL is a path, a name such as smollm2:135m, or owner/name of the Hugging Face Hub, with "
              "@revision and :precision or :file behind it (docs/HUB.md)."
            : "";
    printf("usage: tandem %s\n\n%s.%s\n\n", row->usage, row->help, model);
    options_help(row->command, &text);
    print(&text);
    return 0;
}

static const struct {
    const char *name;
    void (*write)(struct buf *out);
} documents[] = {{"options", options_docs}, {"api", app_write_docs}, {"metrics", metrics_write_docs}};

static int docs(const char *kind)
{
    struct buf text;
    buf_init(&text, (size_t)4 << 20);
    for (size_t i = 0; i < sizeof documents / sizeof documents[0]; i++) {
        if (strcmp(kind, documents[i].name) == 0) {
            documents[i].write(&text);
            print(&text);
            return 0;
        }
    }
    return usage(stderr, 2);
}

static bool start_log(const struct options *o, const struct command_row *row, struct error *err)
{
    struct log_options log = {.fd = 2, .process = row->command == COMMAND_ENGINE ? "engine" : "tandem"};
    const char *format = o->log_format ? o->log_format : "text";
    log.format = strcmp(format, "json") == 0     ? LOG_FORMAT_JSON
                 : strcmp(format, "logfmt") == 0 ? LOG_FORMAT_LOGFMT
                                                 : LOG_FORMAT_TEXT;
    if (log.format == LOG_FORMAT_TEXT && strcmp(format, "text") != 0) {
        return error_set(err, ERR_INVALID, "--log-format: '%.40s' is none of text, logfmt, json.", format);
    }
    if (o->log_level && !log_level_parse(o->log_level, &log.level, err)) {
        return error_wrap(err, "--log-level");
    }
    log.level = o->log_level ? log.level : LOG_LEVEL_WARN;
    log_init(&log);
    return true;
}

static int run_command(const struct command_row *row, int argc, char **argv)
{
    struct error err = {0};
    struct options options;
    for (int i = 0; i < argc && row->usage; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return help(row);
        }
    }
    struct arena *arena = arena_create((size_t)16 << 20);
    if (!arena) {
        error_set(&err, ERR_NO_MEMORY, "no memory to start.");
        return command_fail(&err);
    }
    int status;
    if (options_parse(row->command, argc, argv, arena, &options, &err) && start_log(&options, row, &err)) {
        status = row->run(&options);
    } else {
        status = command_fail(&err);
    }
    arena_free(arena);
    return status;
}

int main(int argc, char **argv)
{
    sys_ignore_sigpipe();
    const char *word = argc > 1 ? argv[1] : "--help";
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(word, commands[i].name) == 0) {
            return run_command(&commands[i], argc - 2, argv + 2);
        }
    }
    if (strcmp(word, "version") == 0 || strcmp(word, "--version") == 0) {
        return command_version();
    }
    if (strcmp(word, "docs") == 0 && argc == 3) {
        return docs(argv[2]);
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        return usage(stdout, 0);
    }
    fprintf(stderr, "tandem: unknown command '%s'\n\n", word);
    return usage(stderr, 2);
}
