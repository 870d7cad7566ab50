#include "mcp/config_internal.h"

#include "base/buf.h"
#include "base/limits.h"

#include <stdio.h>
#include <string.h>

#define NAME_MAX_SIZE 128

static bool is_variable(struct str name)
{
    bool ok = name.len > 0 && name.len < NAME_MAX_SIZE && !(name.ptr[0] >= '0' && name.ptr[0] <= '9');
    for (size_t i = 0; ok && i < name.len; i++) {
        char c = name.ptr[i];
        ok = c == '_' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    }
    return ok;
}

/* What stands between "${" and "}". */
static bool put_variable(const struct config_reader *r, struct str inside, struct buf *out, struct error *err)
{
    size_t split = str_find(inside, STR(":-"));
    struct str name = str_slice(inside, 0, split);
    char key[NAME_MAX_SIZE];
    if (!is_variable(name)) {
        return error_set(err, ERR_INVALID, "'${' must be followed by the name of a variable and '}', or ':-default}'.");
    }
    snprintf(key, sizeof key, STR_FMT, STR_ARG(name));
    const char *value = r->lookup(r->lookup_arg, key);
    if (split != STR_NPOS && (!value || !value[0])) {
        buf_append(out, str_slice(inside, split + 2, inside.len));
    } else if (value) {
        buf_puts(out, value);
    } else {
        return error_set(err, ERR_INVALID, "the variable '%s' is not set, and has no default (${%s:-default}).", key,
                         key);
    }
    return true;
}

static bool put_all(const struct config_reader *r, struct str rest, struct buf *out, struct error *err)
{
    for (size_t at; (at = str_find(rest, STR("${"))) != STR_NPOS;) {
        struct str behind = str_slice(rest, at + 2, rest.len);
        size_t end = str_find_char(behind, '}');
        buf_append(out, str_slice(rest, 0, at));
        if (end == STR_NPOS) {
            return error_set(err, ERR_INVALID, "'${' without '}'.");
        }
        if (!put_variable(r, str_slice(behind, 0, end), out, err)) {
            return false;
        }
        rest = str_slice(behind, end + 1, behind.len);
    }
    buf_append(out, rest);
    return buf_ok(out, "a value", err);
}

const char *config__expand(const struct config_reader *r, struct str value, struct error *err)
{
    struct buf out;
    char *copy = NULL;
    buf_init(&out, LIMIT_MCP_VALUE);
    if (memchr(value.ptr ? value.ptr : "", '\0', value.len)) {
        error_set(err, ERR_INVALID, "a value must have no NUL character.");
    } else if (put_all(r, value, &out, err)) {
        copy = arena_strdup(r->arena, buf_view(&out));
        if (!copy) {
            arena_full(r->arena, "the configuration", err);
        }
    }
    buf_release(&out);
    return copy;
}
