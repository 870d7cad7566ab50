/* Lines of paths: walks a document that is known to be valid JSON. */
#include "base/json.h"

struct walk {
    struct str text;
    size_t at;
};

static char here(const struct walk *w)
{
    return w->at < w->text.len ? w->text.ptr[w->at] : '\0';
}

static void skip_blanks(struct walk *w)
{
    while (here(w) == ' ' || here(w) == '\t' || here(w) == '\r' || here(w) == '\n') {
        w->at++;
    }
}

static struct str skip_string(struct walk *w)
{
    size_t from = ++w->at;
    while (w->at < w->text.len && here(w) != '"') {
        w->at += here(w) == '\\' ? 2 : 1;
    }
    struct str inside = str_slice(w->text, from, w->at);
    w->at++;
    return inside;
}

static void skip_value(struct walk *w)
{
    int depth = 0;
    do {
        skip_blanks(w);
        char c = here(w);
        if (c == '"') {
            skip_string(w);
            continue;
        }
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
        w->at++;
        while (depth == 0 && w->at < w->text.len && !strchr(",]} \t\r\n", here(w)) && c != '}' && c != ']') {
            w->at++;
        }
    } while (depth > 0 && w->at < w->text.len);
}

/* Steps from an object to the value of `key`, or from an array to item `index`; *line: where it stands. */
static bool step(struct walk *w, struct str key, size_t index, bool by_key, size_t *found)
{
    skip_blanks(w);
    if (here(w) != (by_key ? '{' : '[')) {
        return false;
    }
    w->at++;
    for (size_t i = 0; w->at < w->text.len; i++) {
        skip_blanks(w);
        if (here(w) == '}' || here(w) == ']') {
            return false;
        }
        *found = w->at;
        bool match = !by_key && i == index;
        if (by_key) {
            match = str_eq(skip_string(w), key);
            skip_blanks(w);
            w->at++; /* ':' */
        }
        if (match) {
            return true;
        }
        skip_value(w);
        skip_blanks(w);
        w->at += here(w) == ',';
    }
    return false;
}

/* Takes ".name" or "[3]" off the path. */
static bool next_part(struct str *path, struct str *key, uint64_t *index, bool *by_key)
{
    if (path->len && path->ptr[0] == '.') {
        *path = str_slice(*path, 1, path->len);
    }
    *by_key = path->len && path->ptr[0] != '[';
    if (!*by_key) {
        size_t close = str_find_char(*path, ']');
        bool ok = close != STR_NPOS && str_to_u64(str_slice(*path, 1, close), index);
        *path = str_slice(*path, ok ? close + 1 : path->len, path->len);
        return ok;
    }
    size_t end = 0;
    while (end < path->len && path->ptr[end] != '.' && path->ptr[end] != '[') {
        end++;
    }
    *key = str_slice(*path, 0, end);
    *path = str_slice(*path, end, path->len);
    return true;
}

int json_line_of(struct str text, const char *path)
{
    struct walk w = {.text = text};
    struct str rest = str_of(path), key = {0};
    uint64_t index = 0;
    size_t found = 0;
    bool by_key;
    while (rest.len) {
        if (!next_part(&rest, &key, &index, &by_key) || !step(&w, key, (size_t)index, by_key, &found)) {
            return 0;
        }
    }
    int line = 1;
    for (size_t i = 0; i < found; i++) {
        line += text.ptr[i] == '\n';
    }
    return line;
}
