#include "hub/name.h"

#include "base/utf8.h"

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool only(struct str s, const char *besides)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!is_alnum(s.ptr[i]) && (!s.ptr[i] || !strchr(besides, s.ptr[i]))) {
            return false;
        }
    }
    return true;
}

static struct str shown(struct str s)
{
    return str_slice(s, 0, utf8_cut(s, 60));
}

/* ---- repositories ---- */

static bool check_repo_part(struct str part, const char *which, struct error *err)
{
    if (part.len == 0) {
        return error_set(err, ERR_INVALID, "the %s is empty; expected owner/name.", which);
    }
    if (!only(part, "-_.")) {
        return error_set(err, ERR_INVALID, "the %s '" STR_FMT "' has other characters than letters, digits, -, _ and .",
                         which, STR_ARG(shown(part)));
    }
    char first = part.ptr[0], last = part.ptr[part.len - 1];
    if (first == '-' || first == '.' || last == '-' || last == '.') {
        return error_set(err, ERR_INVALID, "the %s '" STR_FMT "' begins or ends with '-' or '.'.", which,
                         STR_ARG(shown(part)));
    }
    if (str_find(part, STR("--")) != STR_NPOS || str_find(part, STR("..")) != STR_NPOS) {
        return error_set(err, ERR_INVALID, "the %s '" STR_FMT "' holds '--' or '..'.", which, STR_ARG(shown(part)));
    }
    return true;
}

bool hub_repo_check(struct str repo, struct error *err)
{
    size_t slash = str_find_char(repo, '/');
    if (slash == STR_NPOS) {
        return error_set(err, ERR_INVALID, "'" STR_FMT "' names no repository; expected owner/name.",
                         STR_ARG(shown(repo)));
    }
    if (repo.len > HUB_REPO_MAX) {
        return error_set(err, ERR_INVALID, "the repository's name has %zu characters, more than %d.", repo.len,
                         HUB_REPO_MAX);
    }
    if (!check_repo_part(str_slice(repo, 0, slash), "owner", err) ||
        !check_repo_part(str_slice(repo, slash + 1, repo.len), "name of the repository", err)) {
        return false;
    }
    return !str_ends(repo, STR(".git")) ||
           error_set(err, ERR_INVALID, "the name of the repository '" STR_FMT "' ends in .git.", STR_ARG(repo));
}

/* ---- paths ---- */

static bool check_part(struct str part, const char *what, struct error *err)
{
    if (part.len == 0) {
        return error_set(err, ERR_INVALID, "the %s has an empty part.", what);
    }
    if (str_eq(part, STR(".")) || str_eq(part, STR(".."))) {
        return error_set(err, ERR_INVALID, "the %s has the part '" STR_FMT "'.", what, STR_ARG(part));
    }
    return true;
}

static bool check_parts(struct str path, const char *what, struct error *err)
{
    struct str rest = path, part;
    int n = 0;
    if (path.len == 0) {
        return error_set(err, ERR_INVALID, "the %s is empty.", what);
    }
    if (path.ptr[path.len - 1] == '/') {
        return error_set(err, ERR_INVALID, "the %s has an empty part.", what);
    }
    while (str_split(&rest, '/', &part)) {
        if (!check_part(part, what, err)) {
            return false;
        }
        if (++n > HUB_FILE_PARTS) {
            return error_set(err, ERR_INVALID, "the %s has more than %d parts.", what, HUB_FILE_PARTS);
        }
    }
    return true;
}

bool hub_revision_check(struct str revision, struct error *err)
{
    if (revision.len > HUB_REVISION_MAX) {
        return error_set(err, ERR_INVALID, "the revision has %zu characters, more than %d.", revision.len,
                         HUB_REVISION_MAX);
    }
    if (!only(revision, "-_.+/")) {
        return error_set(err, ERR_INVALID,
                         "the revision '" STR_FMT "' has other characters than letters, digits, - _ . + and /.",
                         STR_ARG(shown(revision)));
    }
    if (str_starts(revision, STR(".")) || str_find(revision, STR("/.")) != STR_NPOS) {
        return error_set(err, ERR_INVALID, "a part of the revision '" STR_FMT "' begins with '.'.",
                         STR_ARG(shown(revision)));
    }
    if (str_find(revision, STR("..")) != STR_NPOS) { /* git has none either */
        return error_set(err, ERR_INVALID, "the revision '" STR_FMT "' holds '..'.", STR_ARG(shown(revision)));
    }
    return check_parts(revision, "revision", err);
}

/* Terminals take them for the beginnings of commands, as they take ESC. */
static bool has_c1(struct str valid)
{
    for (size_t i = 0; i + 1 < valid.len; i++) {
        if ((unsigned char)valid.ptr[i] == 0xc2 && (unsigned char)valid.ptr[i + 1] < 0xa0) {
            return true;
        }
    }
    return false;
}

bool hub_file_check(struct str path, struct error *err)
{
    if (path.len > HUB_FILE_MAX) {
        return error_set(err, ERR_INVALID, "the name of the file has %zu bytes, more than %d.", path.len, HUB_FILE_MAX);
    }
    for (size_t i = 0; i < path.len; i++) {
        unsigned char c = (unsigned char)path.ptr[i];
        if (c < ' ' || c == 0x7f || c == '\\' || c == ':') {
            return error_set(err, ERR_INVALID, "the name of the file holds the byte 0x%02x.", c);
        }
    }
    if (!utf8_valid(path)) {
        return error_set(err, ERR_INVALID, "the name of the file is not valid UTF-8.");
    }
    if (has_c1(path)) {
        return error_set(err, ERR_INVALID, "the name of the file holds a control character of U+0080 to U+009F.");
    }
    return check_parts(path, "name of the file", err);
}

/* ---- digests ---- */

static bool is_hex(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        bool digit = (s.ptr[i] >= '0' && s.ptr[i] <= '9') || (s.ptr[i] >= 'a' && s.ptr[i] <= 'f');
        if (!digit) {
            return false;
        }
    }
    return true;
}

bool hub_is_commit(struct str s)
{
    return s.len == HUB_COMMIT_SIZE && is_hex(s);
}

bool hub_is_etag(struct str s)
{
    return (s.len == HUB_ETAG_MAX || s.len == HUB_COMMIT_SIZE) && is_hex(s);
}
