#include "cli/models_file.h"

#include "base/array.h"
#include "base/duration.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"
#include "cli/options_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MODELS_DEPTH  8
#define MODELS_VALUES 65536
#define NAME_MAX_LEN  200

struct reading {
    struct str text;
    const struct options *base;
    struct arena *arena;
    struct error *err;
    char path[160]; /* of the field at hand: "models[2].options.max-context" */
};

/* ---- errors and fields ---- */

PRINTF_FORMAT(2, 3) static bool wrong(struct reading *r, const char *fmt, ...)
{
    char what[160];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    int line = json_line_of(r->text, r->path);
    return error_set(r->err, ERR_INVALID, "line %d, '%s': %s", line > 0 ? line : 1, r->path, what);
}

static bool wrong_type(struct reading *r, const char *expected, const struct json *got)
{
    return wrong(r, "expected %s, but got %s.", expected, json_type_name(json_type(got)));
}

typedef bool (*field_fn)(struct reading *r, const struct json *v, void *out);

struct file_field {
    const char *name;
    field_fn read;
    size_t at; /* of what read is given */
};

/* Reads every member of v by the table. The path goes one level down meanwhile. */
static bool read_object(struct reading *r, const struct json *v, const struct file_field *fields, size_t n, void *out)
{
    size_t len = strlen(r->path);
    if (json_type(v) != JSON_OBJECT) {
        return wrong_type(r, "an object", v);
    }
    for (struct json_iter it = json_members(v); json_next(&it);) {
        size_t i = 0;
        snprintf(r->path + len, sizeof r->path - len, "%s%.60s", len ? "." : "", it.key.ptr);
        while (i < n && !str_eq(it.key, str_of(fields[i].name))) {
            i++;
        }
        if (i == n) {
            return wrong(r, "there is no such field.");
        }
        if (!fields[i].read(r, it.value, (char *)out + fields[i].at)) {
            return false;
        }
        r->path[len] = '\0';
    }
    return true;
}

/* ---- values ---- */

static const char *copy(struct reading *r, struct str s)
{
    const char *text = arena_strdup(r->arena, s);
    if (!text) {
        arena_full(r->arena, "the list of models", r->err);
    }
    return text;
}

static bool read_bool(struct reading *r, const struct json *v, void *out)
{
    *(bool *)out = json_bool(v);
    return json_type(v) == JSON_BOOL || wrong_type(r, "a boolean", v);
}

static bool is_plain(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7F) {
            return false;
        }
    }
    return s.len > 0 && s.len <= NAME_MAX_LEN;
}

static bool read_text(struct reading *r, const struct json *v, const char **out)
{
    if (json_type(v) != JSON_STRING) {
        return wrong_type(r, "a string", v);
    }
    if (!is_plain(json_str(v))) {
        return wrong(r, "expected 1 to %d bytes without control characters.", NAME_MAX_LEN);
    }
    *out = copy(r, json_str(v));
    return *out != NULL;
}

static bool read_name(struct reading *r, const struct json *v, void *out)
{
    return read_text(r, v, out) &&
           (!strpbrk(*(const char **)out, "*?") || wrong(r, "a name has no '*' or '?'; 'names' may have patterns."));
}

static bool read_model(struct reading *r, const struct json *v, void *out)
{
    return read_text(r, v, out);
}

static bool read_aliases(struct reading *r, const struct json *v, void *out)
{
    struct option_list *list = out;
    size_t len = strlen(r->path);
    if (json_type(v) != JSON_ARRAY) {
        return wrong_type(r, "an array of strings", v);
    }
    if (json_len(v) >= MODELS_NAMES_MAX) {
        return wrong(r, "at most %d names are possible, but there are %zu.", MODELS_NAMES_MAX - 1, json_len(v));
    }
    for (size_t i = 0; i < json_len(v); i++) {
        snprintf(r->path + len, sizeof r->path - len, "[%zu]", i);
        if (!read_text(r, json_at(v, i), &list->items[list->n++])) {
            return false;
        }
    }
    r->path[len] = '\0';
    return true;
}

struct keep_alive {
    bool *has;
    int64_t *ms;
};

static bool read_keep_alive(struct reading *r, const struct json *v, struct keep_alive out)
{
    bool number = json_type(v) == JSON_INT || json_type(v) == JSON_DOUBLE;
    *out.has = true;
    if (!number && json_type(v) != JSON_STRING) {
        return wrong_type(r, "a number of seconds or a duration", v);
    }
    return duration_parse(number ? json_number_text(v) : json_str(v), out.ms) ||
           wrong(r, "expected a number of seconds or a duration such as \"5m\".");
}

static bool read_entry_keep_alive(struct reading *r, const struct json *v, void *out)
{
    struct models_entry *e = out;
    return read_keep_alive(r, v, (struct keep_alive){&e->has_keep_alive, &e->keep_alive_ms});
}

static bool read_file_keep_alive(struct reading *r, const struct json *v, void *out)
{
    struct models_file *f = out;
    return read_keep_alive(r, v, (struct keep_alive){&f->has_keep_alive, &f->keep_alive_ms});
}

/* As --memory is written. */
static bool read_memory(struct reading *r, const struct json *v, void *out)
{
    struct options parsed = {0};
    struct error err = {0};
    const struct option *o = options__find(STR("memory"), COMMAND_SERVE);
    bool number = json_type(v) == JSON_INT;
    if (!number && json_type(v) != JSON_STRING) {
        return wrong_type(r, "a size such as \"20GiB\"", v);
    }
    const char *text = copy(r, number ? json_number_text(v) : json_str(v));
    if (!text || !options__set(o, text, &parsed, "memory", &err)) {
        return text && wrong(r, "expected a size such as \"20GiB\".");
    }
    *(uint64_t *)out = parsed.memory;
    return true;
}

/* ---- options of a model ---- */

static bool read_options(struct reading *r, const struct json *v, void *out)
{
    struct options *o = out;
    size_t len = strlen(r->path);
    if (json_type(v) != JSON_OBJECT) {
        return wrong_type(r, "an object", v);
    }
    for (struct json_iter it = json_members(v); json_next(&it);) {
        char where[200];
        snprintf(r->path + len, sizeof r->path - len, ".%.60s", it.key.ptr);
        const struct option *option = options__find(it.key, COMMAND_SERVE);
        if (!option || !options__is_of_model(option)) {
            return wrong(r, option ? "this option is the server's, not a model's." : "there is no such option.");
        }
        if (option->kind == OPTION_LIST) {
            options__list(option, o)->n = 0; /* instead of the server's */
        }
        snprintf(where, sizeof where, "line %d, '%s'", json_line_of(r->text, r->path), r->path);
        if (!options__set_json(option, it.value, r->arena, o, where, r->err)) {
            return false;
        }
        r->path[len] = '\0';
    }
    return true;
}

/* ---- models ---- */

#define ENTRY(name, read, member)                         \
    {                                                     \
        name, read, offsetof(struct models_entry, member) \
    }
static const struct file_field entry_fields[] = {
    ENTRY("name", read_name, name),          ENTRY("model", read_model, model),
    ENTRY("names", read_aliases, aliases),   ENTRY("pin", read_bool, pinned),
    ENTRY("preload", read_bool, preload),    {"keep_alive", read_entry_keep_alive, 0},
    ENTRY("options", read_options, options),
};

static uint64_t version_of(const struct json *v)
{
    struct buf text;
    buf_init(&text, MIB(4));
    json_print(&text, v);
    uint64_t version = xxh3(text.data, text.len, text.failed);
    buf_release(&text);
    return version;
}

static bool read_entry(struct reading *r, const struct json *v, struct models_entry *e)
{
    e->options = *r->base;
    e->version = version_of(v);
    if (!read_object(r, v, entry_fields, ARRAY_LEN(entry_fields), e)) {
        return false;
    }
    if (!e->model) {
        return wrong(r, "'model' is missing: a path, or a name such as smollm2:135m.");
    }
    e->name = e->name ? e->name : e->model;
    struct error why = {0};
    return options__check_model(&e->options, &why) || wrong(r, "%.150s", why.msg);
}

static bool read_models(struct reading *r, const struct json *v, void *out)
{
    struct models_file *f = out;
    size_t len = strlen(r->path);
    if (json_type(v) != JSON_ARRAY) {
        return wrong_type(r, "an array of models", v);
    }
    if (json_len(v) > MODELS_FILE_MAX) {
        return wrong(r, "at most %d models are possible, but there are %zu.", MODELS_FILE_MAX, json_len(v));
    }
    f->entries = arena_alloc_array(r->arena, json_len(v) + 1, sizeof *f->entries);
    if (!f->entries) {
        return arena_full(r->arena, "the list of models", r->err);
    }
    for (; f->n < json_len(v); f->n++) {
        snprintf(r->path + len, sizeof r->path - len, "[%zu]", f->n);
        if (!read_entry(r, json_at(v, f->n), &f->entries[f->n])) {
            return false;
        }
    }
    r->path[len] = '\0';
    return true;
}

/* ---- names of all ---- */

static bool has_name(const struct models_entry *e, const char *name)
{
    bool has = strcmp(e->name, name) == 0;
    for (int i = 0; i < e->aliases.n && !has; i++) {
        has = strcmp(e->aliases.items[i], name) == 0;
    }
    return has;
}

static bool check_name(struct reading *r, const struct models_file *f, size_t i, const char *name)
{
    for (size_t k = 0; k < i; k++) {
        if (has_name(&f->entries[k], name)) {
            snprintf(r->path, sizeof r->path, "models[%zu]", i);
            return wrong(r, "the name '%.60s' is that of models[%zu] already.", name, k);
        }
    }
    return true;
}

static bool check_names(struct reading *r, const struct models_file *f)
{
    for (size_t i = 0; i < f->n; i++) {
        const struct models_entry *e = &f->entries[i];
        bool ok = check_name(r, f, i, e->name);
        for (int k = 0; k < e->aliases.n && ok; k++) {
            ok = check_name(r, f, i, e->aliases.items[k]);
        }
        if (!ok) {
            return false;
        }
    }
    return true;
}

static const struct file_field file_fields[] = {
    {"memory", read_memory, offsetof(struct models_file, memory)},
    {"keep_alive", read_file_keep_alive, 0},
    {"folder", read_bool, offsetof(struct models_file, folder)},
    {"models", read_models, 0},
};

bool models_file_parse(struct str text, const struct options *base, struct arena *arena, struct models_file *out,
                       struct error *err)
{
    struct reading r = {.text = text, .base = base, .arena = arena, .err = err};
    struct json *root = json_parse_bounded(text, MODELS_DEPTH, MODELS_VALUES, err);
    *out = (struct models_file){.folder = true};
    bool ok = root && read_object(&r, root, file_fields, ARRAY_LEN(file_fields), out) && check_names(&r, out);
    json_free(root);
    return ok;
}
