#include "hub/registry.h"

#include "base/json.h"
#include "base/limits.h"
#include "base/sys_file.h"

#include <stdio.h>
#include <stdlib.h>

#define REFERENCE_MAX 4096 /* a path may be so long */

bool hub_registry_path(char *out, size_t size, struct error *err)
{
    const char *given = getenv("TANDEM_REGISTRY");
    char folder[4096];
    int n = -1;
    if (given && given[0]) {
        n = snprintf(out, size, "%s", given);
    } else if (sys_config_dir(folder, sizeof folder)) {
        n = snprintf(out, size, "%s/models.json", folder);
    } else {
        return error_set(err, ERR_NOT_FOUND,
                         "there is no home folder for the registry of models; set TANDEM_REGISTRY.");
    }
    return (n > 0 && (size_t)n < size) || error_set(err, ERR_INVALID, "the path of the registry is too long.");
}

/* ---- reading ---- */

static bool check_reference(const char *reference, struct error *err)
{
    struct hub_reference parsed;
    if (strlen(reference) >= REFERENCE_MAX) {
        return error_set(err, ERR_INVALID, "the reference has more than %d bytes.", REFERENCE_MAX - 1);
    }
    return hub_reference_parse(reference, &parsed, err);
}

static bool read_alias(struct json_iter it, struct arena *arena, struct hub_alias *out, struct error *err)
{
    struct str name = it.key, reference = json_type(it.value) == JSON_STRING ? json_str(it.value) : STR("");
    if (json_type(it.value) != JSON_STRING) {
        return error_set(err, ERR_INVALID, "its reference is %s instead of a string.",
                         json_type_name(json_type(it.value)));
    }
    if (strlen(name.ptr) != name.len || strlen(reference.ptr) != reference.len) {
        return error_set(err, ERR_INVALID, "a NUL character is not possible.");
    }
    if (!hub_short_check(name.ptr, err) || !check_reference(reference.ptr, err)) {
        return false;
    }
    out->name = arena_strdup(arena, name);
    out->reference = arena_strdup(arena, reference);
    return (out->name && out->reference) || arena_full(arena, "the registry", err);
}

static bool read_aliases(const struct json *aliases, struct str text, struct arena *arena, struct hub_registry *out,
                         struct error *err)
{
    size_t n = json_len(aliases);
    if (json_type(aliases) != JSON_OBJECT || n > LIMIT_REGISTRY_NAMES) {
        return error_set(err, ERR_INVALID, "line %d: 'aliases' is no object of at most %d names.",
                         json_line_of(text, "aliases"), LIMIT_REGISTRY_NAMES);
    }
    out->aliases = arena_alloc_array(arena, n + 1, sizeof *out->aliases);
    if (!out->aliases) {
        return arena_full(arena, "the registry", err);
    }
    for (struct json_iter it = json_members(aliases); json_next(&it); out->n++) {
        if (!read_alias(it, arena, &out->aliases[out->n], err)) {
            char path[HUB_SHORT_MAX + 16];
            snprintf(path, sizeof path, "aliases.%.*s", HUB_SHORT_MAX, it.key.ptr);
            int line = json_line_of(text, path); /* a name with a '.' is two steps of a path: then there is none */
            return line ? error_wrap(err, "line %d, alias '%.60s'", line, it.key.ptr)
                        : error_wrap(err, "alias '%.60s'", it.key.ptr);
        }
    }
    return true;
}

bool hub_registry_parse(struct str text, struct arena *arena, struct hub_registry *out, struct error *err)
{
    struct json *root = json_parse_bounded(text, 0, LIMIT_REGISTRY_VALUES, err);
    bool ok = root != NULL;
    *out = (struct hub_registry){0};
    if (ok && json_type(root) != JSON_OBJECT) {
        ok = error_set(err, ERR_INVALID, "line 1: an object is expected, but it is %s.",
                       json_type_name(json_type(root)));
    }
    for (struct json_iter it = json_members(root); ok && json_next(&it);) {
        ok = str_eq(it.key, STR("aliases")) ? read_aliases(it.value, text, arena, out, err)
                                            : error_set(err, ERR_INVALID, "line %d: '%.60s' is not known here.",
                                                        json_line_of(text, it.key.ptr), it.key.ptr);
    }
    json_free(root);
    if (!ok) {
        *out = (struct hub_registry){0};
    }
    return ok;
}

bool hub_registry_read(const char *path, struct arena *arena, struct hub_registry *out, struct error *err)
{
    struct buf text = {0};
    *out = (struct hub_registry){0};
    if (!file_exists(path)) {
        return true;
    }
    bool ok = file_read(path, LIMIT_REGISTRY_FILE, &text, err) && hub_registry_parse(buf_view(&text), arena, out, err);
    buf_release(&text);
    return ok || error_wrap(err, "the registry '%.100s'", path);
}

const char *hub_registry_find(const struct hub_registry *r, const char *name)
{
    for (size_t i = 0; i < r->n; i++) {
        if (strcmp(r->aliases[i].name, name) == 0) {
            return r->aliases[i].reference;
        }
    }
    return NULL;
}

/* ---- writing ---- */

/* All but `left_out`, and then the one to add, if any. */
static void print(const struct hub_registry *r, const char *left_out, const struct hub_alias *more, struct buf *out)
{
    bool any = false;
    buf_puts(out, "{\n  \"aliases\": {");
    for (size_t i = 0; i <= r->n; i++) {
        const struct hub_alias *a = i < r->n ? &r->aliases[i] : more;
        if (!a || (i < r->n && strcmp(a->name, left_out) == 0)) {
            continue;
        }
        buf_puts(out, any ? ",\n    " : "\n    ");
        json_quote(out, str_of(a->name));
        buf_puts(out, ": ");
        json_quote(out, str_of(a->reference));
        any = true;
    }
    buf_puts(out, any ? "\n  }\n}\n" : "}\n}\n");
}

static bool make_folder_of(const char *path, struct error *err)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path) {
        return true;
    }
    int n = snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
    return n < (int)sizeof folder ? dir_make(folder, err)
                                  : error_set(err, ERR_INVALID, "the path of the registry is too long.");
}

static bool change(const char *path, const char *name, const struct hub_alias *more, struct error *err)
{
    struct hub_registry r;
    struct buf text;
    struct arena *arena = arena_create(2 * LIMIT_REGISTRY_FILE);
    if (!arena) {
        return error_set(err, ERR_NO_MEMORY, "no memory for the registry.");
    }
    buf_init(&text, LIMIT_REGISTRY_FILE);
    bool ok = hub_registry_read(path, arena, &r, err);
    if (ok && !more && !hub_registry_find(&r, name)) {
        ok = error_set(err, ERR_NOT_FOUND, "there is no alias '%.100s'.", name);
    }
    if (ok && more && !hub_registry_find(&r, name) && r.n >= LIMIT_REGISTRY_NAMES) {
        ok = error_set(err, ERR_TOO_LARGE, "the registry has %d names already.", LIMIT_REGISTRY_NAMES);
    }
    if (ok) {
        print(&r, name, more, &text);
        ok = buf_ok(&text, "the registry", err) && make_folder_of(path, err) &&
             file_write_atomic(path, buf_view(&text), err);
    }
    buf_release(&text);
    arena_free(arena);
    return ok;
}

bool hub_registry_set(const char *path, const char *name, const char *reference, struct error *err)
{
    struct hub_alias more = {name, reference};
    return hub_short_check(name, err) && check_reference(reference, err) && change(path, name, &more, err);
}

bool hub_registry_remove(const char *path, const char *name, struct error *err)
{
    return change(path, name, NULL, err);
}
