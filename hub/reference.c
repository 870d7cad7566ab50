#include "hub/reference.h"

#include "base/utf8.h"

#include <stdio.h>

static bool is_path(struct str text)
{
    if (text.len == 0 || text.ptr[0] == '/' || text.ptr[0] == '.' || text.ptr[0] == '~') {
        return true;
    }
    size_t slash = str_find_char(text, '/'), at = str_find_char(text, '@'), colon = str_find_char(text, ':');
    if (slash == STR_NPOS) {
        return false;
    }
    size_t end = at < colon ? at : colon; /* of owner/name */
    struct str repo = str_slice(text, 0, end);
    if (end == STR_NPOS && str_ends(text, STR(".gguf"))) {
        return true;
    }
    return slash < repo.len && str_find_char(str_slice(repo, slash + 1, repo.len), '/') != STR_NPOS;
}

static void copy(struct str s, char *out, size_t size)
{
    snprintf(out, size, STR_FMT, STR_ARG(s));
}

static bool parse_precision(struct str text, struct hub_reference *out, struct error *err)
{
    if (text.len == 0) {
        return error_set(err, ERR_INVALID,
                         "there is nothing behind ':'; expected a file or a precision such as Q4_K_M.");
    }
    if (text.len > HUB_PRECISION_MAX) {
        return error_set(err, ERR_INVALID, "the precision '" STR_FMT "...' has %zu bytes, more than %d.",
                         STR_ARG(str_slice(text, 0, utf8_cut(text, 40))), text.len, HUB_PRECISION_MAX);
    }
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
        if (!ok) {
            return error_set(err, ERR_INVALID, "'" STR_FMT "' is neither a .gguf file nor a precision such as Q4_K_M.",
                             STR_ARG(text));
        }
    }
    copy(text, out->precision, sizeof out->precision);
    return true;
}

static bool parse_selector(struct str text, struct hub_reference *out, struct error *err)
{
    if (!str_ends(text, STR(".gguf"))) {
        return parse_precision(text, out, err);
    }
    if (!hub_file_check(text, err)) {
        return false;
    }
    copy(text, out->file, sizeof out->file);
    return true;
}

static bool parse_repo(struct str text, struct hub_reference *out, struct error *err)
{
    size_t colon = str_find_char(text, ':');
    struct str head = str_slice(text, 0, colon);
    size_t at = str_find_char(head, '@');
    struct str repo = str_slice(head, 0, at), revision = {NULL, 0};
    if (!hub_repo_check(repo, err)) {
        return false;
    }
    if (at != STR_NPOS) {
        revision = str_slice(head, at + 1, head.len);
        if (!hub_revision_check(revision, err)) {
            return false;
        }
    }
    copy(repo, out->repo, sizeof out->repo);
    copy(revision, out->revision, sizeof out->revision);
    return colon == STR_NPOS || parse_selector(str_slice(text, colon + 1, text.len), out, err);
}

bool hub_short_check(const char *name, struct error *err)
{
    struct str text = str_of(name), rest = text, part;
    int n = 0;
    if (text.len == 0 || text.len > HUB_SHORT_MAX) {
        return error_set(err, ERR_INVALID, "a name has 1 to %d bytes.", HUB_SHORT_MAX);
    }
    if (text.ptr[text.len - 1] == ':') {
        return error_set(err, ERR_INVALID, "the name '%s' has nothing behind ':'.", name);
    }
    while (str_split(&rest, ':', &part)) {
        if (part.len == 0 || ++n > 2) {
            return error_set(err, ERR_INVALID, "'%s' is not of the form name or name:tag.", name);
        }
        for (size_t i = 0; i < part.len; i++) {
            char c = part.ptr[i];
            bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
            if (!alnum && (i == 0 || (c != '-' && c != '_' && c != '.'))) {
                return error_set(err, ERR_INVALID,
                                 "the name '%.100s' must be letters, digits, -, _ and ., beginning with one of the "
                                 "first two.",
                                 utf8_valid(text) ? name : "...");
            }
        }
    }
    return true;
}

bool hub_reference_parse(const char *text, struct hub_reference *out, struct error *err)
{
    struct str s = str_of(text);
    struct hub_reference r = {.kind = HUB_PATH};
    if (s.len == 0) {
        return error_set(err, ERR_INVALID, "the name of a model is empty.");
    }
    if (!is_path(s)) {
        r.kind = str_find_char(s, '/') == STR_NPOS ? HUB_NAME : HUB_REPO;
    }
    if (r.kind == HUB_NAME ? !hub_short_check(text, err) : r.kind == HUB_REPO && !parse_repo(s, &r, err)) {
        return false;
    }
    *out = r;
    return true;
}

const char *hub_reference_revision(const struct hub_reference *r)
{
    return r->revision[0] ? r->revision : HUB_MAIN_REVISION;
}
