#include "cli/options_internal.h"

#include "base/array.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/sys_file.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define KV_DISK_DEFAULT_GB 10
#define MODELS_VARIABLE    "TANDEM_MODELS" /* the models folder (cli/model_path.h): --models has no variable */

/* ---- defaults and environment ---- */

static bool set_defaults(enum command command, struct options *out, struct error *err)
{
    for (const struct option *o = options__table; o->name; o++) {
        if (o->fallback && o->commands & command && !options__set(o, o->fallback, out, o->name, err)) {
            return false;
        }
    }
    return true;
}

static bool read_environment(enum command command, struct options *out, struct error *err)
{
    for (const struct option *o = options__table; o->name; o++) {
        char name[80];
        snprintf(name, sizeof name, "TANDEM_%s", o->name);
        for (char *c = name; *c; c++) {
            *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        }
        bool taken = strcmp(name, MODELS_VARIABLE) == 0;
        const char *value = o->commands & command & ~COMMAND_ENGINE && !taken ? getenv(name) : NULL;
        if (value && o->kind == OPTION_LIST) {
            options__list(o, out)->n = 0; /* instead of the config file's */
        }
        if (value && !options__set(o, value, out, name, err)) {
            return false;
        }
    }
    return true;
}

/* ---- config file ---- */

static bool set_scalar(const struct option *o, const struct json *v, struct arena *arena, struct options *out,
                       const char *where, struct error *err)
{
    struct str text = json_type(v) == JSON_STRING ? json_str(v)
                      : json_type(v) == JSON_BOOL ? str_of(json_bool(v) ? "on" : "off")
                                                  : json_number_text(v);
    bool is_text = o->kind == OPTION_STR || o->kind == OPTION_LIST;
    if (json_type(v) == JSON_OBJECT || json_type(v) == JSON_ARRAY || json_type(v) == JSON_NULL ||
        (is_text && json_type(v) != JSON_STRING)) {
        return error_set(err, ERR_INVALID, "%s: expected %s, but got %s.", where,
                         is_text ? "a string" : "a string, a number or a boolean", json_type_name(json_type(v)));
    }
    if (text.len && memchr(text.ptr, '\0', text.len)) {
        return error_set(err, ERR_INVALID, "%s: a NUL character is not possible.", where);
    }
    const char *copy = arena_strdup(arena, text);
    return copy ? options__set(o, copy, out, where, err) : arena_full(arena, "the configuration", err);
}

bool options__set_json(const struct option *o, const struct json *v, struct arena *arena, struct options *out,
                       const char *where, struct error *err)
{
    if (json_type(v) != JSON_ARRAY || o->kind != OPTION_LIST) {
        return set_scalar(o, v, arena, out, where, err);
    }
    for (size_t i = 0; i < json_len(v); i++) {
        if (!set_scalar(o, json_at(v, i), arena, out, where, err)) {
            return false;
        }
    }
    return true;
}

bool options_read_config(enum command command, struct str text, struct arena *arena, struct options *out,
                         struct error *err)
{
    struct json *root = json_parse(text, 0, err);
    bool ok = root != NULL;
    if (ok && json_type(root) != JSON_OBJECT) {
        ok = error_set(err, ERR_INVALID, "an object is expected.");
    }
    for (struct json_iter it = json_members(root); ok && json_next(&it);) {
        char where[160];
        snprintf(where, sizeof where, "line %d, '%.60s'", json_line_of(text, it.key.ptr), it.key.ptr);
        const struct option *o = options__find(it.key, command & ~COMMAND_ENGINE);
        if (!o) { /* a name may mean something else to other commands */
            o = options__find(it.key, COMMAND_ALL & ~COMMAND_ENGINE);
        }
        if (!o) {
            ok = error_set(err, ERR_INVALID, "%s: no such option.", where);
        } else if (o->commands & command) {
            ok = options__set_json(o, it.value, arena, out, where, err);
        }
    }
    json_free(root);
    return ok;
}

static bool read_config(enum command command, const char *path, struct arena *arena, struct options *out,
                        struct error *err)
{
    struct buf text = {0};
    bool ok = file_read(path, MIB(1), &text, err) && options_read_config(command, buf_view(&text), arena, out, err);
    buf_release(&text);
    return ok || error_wrap(err, "config file '%s'", path);
}

/* ---- command line ---- */

/* One flag at argv[*i]; steps over its value. */
static bool read_flag(enum command command, int argc, char **argv, int *i, struct options *out, struct error *err)
{
    struct str word = str_of(argv[*i] + 2);
    size_t equals = str_find_char(word, '=');
    struct str name = str_slice(word, 0, equals == STR_NPOS ? word.len : equals);
    bool negated = false;
    const struct option *o = options__find(name, command);
    if (!o && str_starts(name, STR("no-"))) {
        o = options__find(str_slice(name, 3, name.len), command);
        negated = o && o->kind == OPTION_BOOL;
        o = negated ? o : NULL;
    }
    if (!o && command == COMMAND_SERVE && str_eq(name, STR("api-key"))) {
        return error_set(err, ERR_INVALID,
                         "--api-key: a key on the command line is seen by everybody who lists processes; set "
                         "TANDEM_API_KEY, or name a file with --api-keys.");
    }
    if (!o) {
        return error_set(err, ERR_INVALID, "unknown option '%.80s'; --help lists those there are.", argv[*i]);
    }
    char where[80];
    const char *value = equals == STR_NPOS ? NULL : word.ptr + equals + 1;
    options__flag(o, where, sizeof where);
    if (negated && value) {
        return error_set(err, ERR_INVALID, "--no-%s takes no value.", where + 2);
    }
    if (!value && o->kind == OPTION_BOOL) {
        bool explicit = *i + 1 < argc && (strcmp(argv[*i + 1], "on") == 0 || strcmp(argv[*i + 1], "off") == 0);
        value = negated ? "off" : explicit ? argv[++*i] : "on";
    } else if (!value && *i + 1 < argc) {
        value = argv[++*i];
    } else if (!value) {
        return error_set(err, ERR_INVALID, "%s needs a value: %s.", where, o->help);
    }
    return options__set(o, value, out, where, err);
}

static bool read_words(enum command command, int argc, char **argv, struct options *out, struct error *err)
{
    bool flags = true; /* until "--" */
    for (int i = 0; i < argc; i++) {
        if (flags && strcmp(argv[i], "--") == 0) {
            flags = false;
        } else if (flags && str_starts(str_of(argv[i]), STR("--"))) {
            if (!read_flag(command, argc, argv, &i, out, err)) {
                return false;
            }
        } else if (!out->model && !(command & (COMMAND_LIST | COMMAND_BENCH_SERVE))) {
            out->model = argv[i];
        } else if (!(command & (COMMAND_RUN | COMMAND_BENCH_SERVE | COMMAND_SERVE | COMMAND_QUANTIZE | COMMAND_CONVERT |
                                COMMAND_SEARCH | COMMAND_ALIAS))) {
            return error_set(err, ERR_INVALID, "unexpected argument '%.80s'.", argv[i]);
        } else if (out->arguments.n == OPTIONS_MAX_LIST) {
            return error_set(err, ERR_INVALID,
                             command == COMMAND_BENCH_SERVE ? "more than %d targets are not possible."
                             : command == COMMAND_SERVE     ? "more than %d models need a file: --models."
                                                            : "a prompt of more than %d words must be quoted.",
                             OPTIONS_MAX_LIST);
        } else {
            out->arguments.items[out->arguments.n++] = argv[i];
        }
    }
    return true;
}

/* ---- all of them ---- */

/* A list given on the command line replaces the one of the config file or the environment. */
static void clear_lists_given(struct options *words, struct options *out)
{
    for (const struct option *o = options__table; o->name; o++) {
        if (o->kind == OPTION_LIST && options__list(o, words)->n) {
            options__list(o, out)->n = 0;
        }
    }
}

/* ---- options that have no effect beside others ---- */

/* With `value`: no effect where the other one has it. Without: none unless the other one is given. */
struct pairing {
    const char *name, *other, *value;
};

static const struct pairing pairings[] = {
    {"mcp-max-turns", "mcp-config", NULL},
    {"journal-sync", "journal", NULL},
    {"journal-max-mb", "journal", NULL},
    {"journal-max-age-hours", "journal", NULL},
    {"file-max-mb", "journal", NULL},
    {"files-max-mb", "journal", NULL},
    {"batch-max-rows", "journal", NULL},
    {"batch-max-running", "journal", NULL},
    {"batch-patience-ms", "journal", NULL},
    {"otlp-sample", "otlp-endpoint", NULL},
    {"mlx-device", "backend", "cpu"},
    {"mlx-type", "backend", "cpu"},
    {"cpu-kernels", "backend", "mlx"},
    {"ops", "backend", "mlx"},
    {"system", "raw", "on"},
    {"chat-template", "raw", "on"},
    {"details", "json", NULL},
    {"window", "calibrate", NULL}, /* of quantize: the other commands have no --calibrate */
    {"kv-type", "calibrate", NULL},
    {"cpu-kernels", "calibrate", NULL},
};

static bool check_pairing(const struct pairing *p, const struct options *defaults, const struct options *out,
                          struct error *err)
{
    const struct option *o = options__find(str_of(p->name), out->command);
    const struct option *other = options__find(str_of(p->other), out->command);
    if (!o || !other || options__equal(o, defaults, out)) {
        return true;
    }
    struct options idle = *defaults;
    if (p->value && !options__set(other, p->value, &idle, p->other, err)) {
        return false;
    }
    return !options__equal(other, &idle, out) ||
           error_set(err, ERR_INVALID, "--%s has no effect %s --%s%s%s.", p->name, p->value ? "with" : "without",
                     p->other, p->value && other->kind != OPTION_BOOL ? " " : "",
                     p->value && other->kind != OPTION_BOOL ? p->value : "");
}

/* A value that is the default says nothing, and goes with everything. */
static bool check_pairings(const struct options *out, struct error *err)
{
    struct options defaults = {.command = out->command};
    bool ok = out->command == COMMAND_ENGINE || set_defaults(out->command, &defaults, err);
    for (size_t i = 0; ok && out->command != COMMAND_ENGINE && i < ARRAY_LEN(pairings); i++) {
        ok = check_pairing(&pairings[i], &defaults, out, err);
    }
    return ok;
}

static bool check_quantize(const struct options *o, struct error *err)
{
    static const char *const words[] = {"auto", "none", "8", "6", "4"};
    bool ok = !o->quantize; /* the command has no such option */
    for (size_t i = 0; !ok && i < ARRAY_LEN(words); i++) {
        ok = strcmp(o->quantize, words[i]) == 0;
    }
    return ok ||
           error_set(err, ERR_INVALID, "--quantize: expected auto, none, 8, 6 or 4, but got '%.40s'.", o->quantize);
}

bool options_parse(enum command command, int argc, char **argv, struct arena *arena, struct options *out,
                   struct error *err)
{
    *out = (struct options){
        .socket_fd = -1, .pool_fd = -1, .watch_fd = -1, .seals_fd = -1, .command = command, .argc = argc, .argv = argv};
    struct options words = *out;
    if (!read_words(command, argc, argv, &words, err)) { /* first, to know the config file */
        return false;
    }
    const char *config = words.config;
    if (!config && options__find(STR("config"), command)) {
        config = getenv("TANDEM_CONFIG");
    }
    if (!set_defaults(command, out, err) || (config && !read_config(command, config, arena, out, err)) ||
        !read_environment(command, out, err)) {
        return false;
    }
    clear_lists_given(&words, out);
    return read_words(command, argc, argv, out, err) && check_pairings(out, err) && check_quantize(out, err);
}

bool options_reload(const struct options *now, struct arena *arena, struct options *out, struct buf *fixed,
                    struct error *err)
{
    if (!options_parse(now->command, now->argc, now->argv, arena, out, err)) {
        return false;
    }
    for (const struct option *o = options__table; o->name; o++) {
        if (!(o->commands & now->command) || options__is_reloadable(o)) {
            continue;
        }
        if (!options__equal(o, now, out)) {
            buf_printf(fixed, "%s%s", fixed->len ? " " : "", o->name);
        }
        options__copy(o, now, out); /* equal ones too: strings of the start outlive this arena */
    }
    return true;
}

/* ---- options of one model ---- */

bool options__check_model(const struct options *o, struct error *err)
{
    uint64_t disk_size;
    enum speculation when;
    enum kv_type type;
    struct backend_options backend;
    struct backend_words words = options_backend(o);
    return check_pairings(o, err) && options_kv_disk(o, &disk_size, err) && options_speculation(o, &when, err) &&
           check_quantize(o, err) && kv_type_parse(o->kv_type, &type, err) &&
           backend_options_parse(&words, &backend, err);
}

static bool keep(const char **text, struct arena *arena)
{
    *text = *text ? arena_strdup(arena, str_of(*text)) : NULL;
    return *text != NULL;
}

bool options_keep_model_strings(struct options *out, struct arena *arena)
{
    for (const struct option *o = options__table; o->name; o++) {
        if (!(o->commands & COMMAND_SERVE) || !options__is_of_model(o)) {
            continue;
        }
        const char **text = (const char **)(void *)((char *)out + o->offset);
        if (o->kind == OPTION_STR && *text && !keep(text, arena)) {
            return false;
        }
        struct option_list *list = o->kind == OPTION_LIST ? options__list(o, out) : NULL;
        for (int i = 0; list && i < list->n; i++) {
            if (!keep(&list->items[i], arena)) {
                return false;
            }
        }
    }
    return true;
}

/* ---- options that belong together ---- */

struct backend_words options_backend(const struct options *o)
{
    return (struct backend_words){
        .backend = o->backend, .cpu_kernels = o->cpu_kernels, .mlx_device = o->mlx_device, .mlx_type = o->mlx_type};
}

bool options_kv_disk(const struct options *o, uint64_t *size, struct error *err)
{
    double gb = o->kv_disk_gb > 0 ? (double)o->kv_disk_gb : KV_DISK_DEFAULT_GB;
    *size = (uint64_t)(gb * (double)GIB(1));
    return o->kv_disk_gb == 0 || o->kv_disk_dir ||
           error_set(err, ERR_INVALID, "--kv-disk-gb is the limit of a folder: give --kv-disk-dir too.");
}

bool options_speculation(const struct options *o, enum speculation *when, struct error *err)
{
    return speculation_parse(str_of(o->speculation), when, err) &&
           (o->draft_kv_memory == 0 || o->draft_model ||
            error_set(err, ERR_INVALID, "--draft-kv-memory is that of a draft model: give --draft-model too."));
}
