/* One pass over the text with an explicit stack. Keys of all open objects lie in one array; each object checks a new
 * key against a hash set keyed by (object, key), so that many keys cost linear time. */
#include "base/json_scan.h"

#include "base/array.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SCAN_MAX_DEPTH 512

enum container { IN_ARRAY, IN_OBJECT };

struct scan {
    struct str text;
    size_t at;
    int max_depth, depth;
    size_t max_values;
    uint8_t stack[SCAN_MAX_DEPTH]; /* enum container */
    uint64_t object_id[SCAN_MAX_DEPTH];
    uint64_t n_objects;
    struct buf key; /* the key at hand, unescaped */
    uint64_t *seen; /* open addressing; 0: free */
    size_t n_seen, cap_seen;
    uint64_t salt;
    size_t n_values, n_bytes; /* see struct json_scan */
    struct json_scan *out;
    size_t n_copied; /* of text, to out->rewritten */
    struct error *err;
};

static bool fail(const struct scan *s, const char *what)
{
    size_t line = 1, column = 1;
    for (size_t i = 0; i < s->at && i < s->text.len; i++) {
        column++;
        if (s->text.ptr[i] == '\n') {
            line++;
            column = 1;
        }
    }
    return error_set(s->err, ERR_INVALID, "the JSON is invalid at line %zu, column %zu: %s.", line, column, what);
}

static int peek(const struct scan *s)
{
    return s->at < s->text.len ? (unsigned char)s->text.ptr[s->at] : -1;
}

static void skip_blanks(struct scan *s)
{
    while (peek(s) == ' ' || peek(s) == '\t' || peek(s) == '\r' || peek(s) == '\n') {
        s->at++;
    }
}

static bool hex4(struct scan *s, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++, s->at++) {
        int digit = hex_digit((char)peek(s));
        if (digit < 0) {
            return fail(s, "\\u needs four hexadecimal digits");
        }
        *out = *out << 4 | (uint32_t)digit;
    }
    return true;
}

static bool unicode_escape(struct scan *s, uint32_t *code_point)
{
    uint32_t low;
    if (!hex4(s, code_point)) {
        return false;
    }
    if (*code_point >= 0xDC00 && *code_point <= 0xDFFF) {
        return fail(s, "a lone low surrogate is no character");
    }
    if (*code_point < 0xD800 || *code_point > 0xDBFF) {
        return true;
    }
    if (!str_starts(str_slice(s->text, s->at, s->text.len), STR("\\u"))) {
        return fail(s, "a lone high surrogate is no character");
    }
    s->at += 2;
    if (!hex4(s, &low)) {
        return false;
    }
    *code_point = utf16_pair(*code_point, low);
    return *code_point != UTF8_INVALID || fail(s, "a high surrogate must be followed by a low one");
}

/* What lies between `from` and here becomes `text` in what json-c gets to read. */
static void rewrite(struct scan *s, size_t from, struct str text)
{
    buf_append(&s->out->rewritten, str_slice(s->text, s->n_copied, from));
    buf_append(&s->out->rewritten, text);
    s->n_copied = s->at;
}

static bool escape(struct scan *s, struct buf *out)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    size_t from = s->at - 1; /* the backslash */
    int c = peek(s);
    const char *name = c > 0 ? strchr(names, c) : NULL;
    s->at++;
    if (name) {
        s->n_bytes++;
        if (out) {
            buf_putc(out, values[name - names]);
        }
        return true;
    }
    uint32_t code_point;
    char bytes[4];
    if (c != 'u') {
        s->at--;
        return fail(s, "unknown escape sequence");
    }
    if (!unicode_escape(s, &code_point)) {
        return false;
    }
    size_t n = utf8_encode(code_point, bytes);
    s->n_bytes += n;
    if (s->out && code_point > 0xFFFF && (code_point & 0xF800) == 0xD800) {
        /* json-c takes U+1D800 and its like in other planes for half of a pair and makes U+FFFD of them. */
        rewrite(s, from, (struct str){bytes, n});
    }
    if (out) {
        buf_append_bytes(out, bytes, n);
    }
    return true;
}

/* At the opening quote; out may be NULL when the contents do not matter. */
static bool string(struct scan *s, struct buf *out)
{
    for (s->at++;;) {
        size_t plain = s->at;
        int c;
        while ((c = peek(s)) >= 0x20 && c != '"' && c != '\\') {
            s->at++;
        }
        s->n_bytes += s->at - plain;
        if (out) {
            buf_append(out, str_slice(s->text, plain, s->at));
        }
        if (c == '"') {
            s->at++;
            return true;
        }
        if (c < 0x20) {
            return fail(s, c < 0 ? "the text ends inside a string"
                                 : "a control character inside a string must be escaped");
        }
        s->at++;
        if (!escape(s, out)) {
            return false;
        }
    }
}

static bool digits(struct scan *s)
{
    size_t from = s->at;
    while (peek(s) >= '0' && peek(s) <= '9') {
        s->at++;
    }
    return s->at > from || fail(s, "a digit is missing in a number");
}

/* From `from` to here is an integer: marks it when it does not fit 64 bits. */
static bool integer_done(struct scan *s, size_t from)
{
    int64_t ignored;
    if (s->at - from < 19 || str_to_i64(str_slice(s->text, from, s->at), &ignored)) {
        return true;
    }
    rewrite(s, s->at, STR(JSON_WIDE_MARK));
    s->n_bytes += s->at - from + strlen(JSON_WIDE_MARK);
    return true;
}

/* No infinity may come in through the back door of 1e999. Without an exponent it takes over 300 digits to get there. */
static bool in_range(struct scan *s, size_t from, bool has_exponent)
{
    if (!has_exponent && s->at - from < 300) {
        return true;
    }
    buf_clear(&s->key); /* no key is at hand while a value is read */
    buf_append(&s->key, str_slice(s->text, from, s->at));
    if (!buf_ok(&s->key, "a number in JSON", s->err)) {
        return false;
    }
    return isfinite(strtod(s->key.data, NULL)) || fail(s, "a number is beyond the range of 64-bit floating point");
}

static bool number(struct scan *s)
{
    size_t from = s->at;
    bool is_integer = true, has_exponent = false;
    if (peek(s) == '-') {
        s->at++;
    }
    if (peek(s) == '0') {
        s->at++;
        if (peek(s) >= '0' && peek(s) <= '9') {
            return fail(s, "a number may not begin with 0");
        }
    } else if (!digits(s)) {
        return false;
    }
    if (peek(s) == '.') {
        s->at++;
        is_integer = false;
        if (!digits(s)) {
            return false;
        }
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        s->at++;
        if (peek(s) == '+' || peek(s) == '-') {
            s->at++;
        }
        is_integer = false;
        has_exponent = true;
        if (!digits(s)) {
            return false;
        }
    }
    s->n_bytes += is_integer ? 0 : s->at - from;
    return in_range(s, from, has_exponent) && (!is_integer || integer_done(s, from));
}

static bool literal(struct scan *s)
{
    static const struct str words[] = {{"true", 4}, {"false", 5}, {"null", 4}};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (str_starts(str_slice(s->text, s->at, s->text.len), words[i])) {
            s->at += words[i].len;
            return true;
        }
    }
    return fail(s, peek(s) < 0 ? "the text ends where a value is expected" : "a value is expected here");
}

/* ---- duplicate keys ---- */

static bool insert(uint64_t *table, size_t cap, uint64_t key)
{
    size_t i = key & (cap - 1);
    for (; table[i]; i = (i + 1) & (cap - 1)) {
        if (table[i] == key) {
            return false;
        }
    }
    table[i] = key;
    return true;
}

static bool grow_seen(struct scan *s)
{
    size_t cap = s->cap_seen ? s->cap_seen * 2 : 64;
    uint64_t *table = calloc(cap, sizeof *table);
    if (!table) {
        return error_set(s->err, ERR_NO_MEMORY, "no memory to check the keys of a JSON object.");
    }
    for (size_t i = 0; i < s->cap_seen; i++) {
        if (s->seen[i]) {
            insert(table, cap, s->seen[i]);
        }
    }
    free(s->seen);
    s->seen = table;
    s->cap_seen = cap;
    return true;
}

/* 64 bits under a secret salt stand for (object, key). A duplicate is always found; two different keys look the same,
 * by chance, once in 10^9 documents of 10^5 keys. */
static bool remember_key(struct scan *s)
{
    if (2 * (s->n_seen + 1) > s->cap_seen && !grow_seen(s)) {
        return false;
    }
    uint64_t key =
        xxh3(s->key.data ? s->key.data : "", s->key.len, s->salt + s->object_id[s->depth - 1] * 0x9E3779B97F4A7C15u);
    key += key == 0;
    if (!insert(s->seen, s->cap_seen, key)) {
        char what[96];
        struct str shown = str_slice(buf_view(&s->key), 0, utf8_cut(buf_view(&s->key), 40));
        snprintf(what, sizeof what, "duplicate key '" STR_FMT "'", STR_ARG(shown));
        return fail(s, what);
    }
    s->n_seen++;
    return true;
}

/* ---- structure ---- */

static bool open_container(struct scan *s, enum container kind)
{
    if (s->depth >= s->max_depth) {
        char what[64];
        snprintf(what, sizeof what, "it is nested deeper than %d levels", s->max_depth);
        return fail(s, what);
    }
    s->stack[s->depth] = (uint8_t)kind;
    s->object_id[s->depth++] = ++s->n_objects;
    s->at++;
    return true;
}

static bool key(struct scan *s)
{
    skip_blanks(s);
    if (peek(s) != '"') {
        return fail(s, "a key in double quotes is expected");
    }
    buf_clear(&s->key);
    if (!string(s, &s->key)) {
        return false;
    }
    if (s->key.len && memchr(s->key.data, '\0', s->key.len)) {
        return fail(s, "a key may not hold the character U+0000");
    }
    if (!buf_ok(&s->key, "a JSON key", s->err) || !remember_key(s)) {
        return false;
    }
    skip_blanks(s);
    if (peek(s) != ':') {
        return fail(s, "':' is expected after a key");
    }
    s->at++;
    return true;
}

/* A value or the opening of a container; *opened: a non-empty container was opened, whose first value comes next. */
static bool value(struct scan *s, bool *opened)
{
    *opened = false;
    skip_blanks(s);
    if (s->n_values++ == s->max_values) {
        return fail(s, "it has too many values");
    }
    int c = peek(s);
    if (c == '"') {
        return string(s, NULL);
    }
    if (c == '-' || (c >= '0' && c <= '9')) {
        return number(s);
    }
    if (c != '{' && c != '[') {
        return literal(s);
    }
    if (!open_container(s, c == '{' ? IN_OBJECT : IN_ARRAY)) {
        return false;
    }
    skip_blanks(s);
    if (peek(s) == (c == '{' ? '}' : ']')) {
        s->at++;
        s->depth--;
        return true;
    }
    *opened = true;
    return c == '[' || key(s);
}

/* After a value: closes containers until one goes on with ',' or the outermost is closed; *more: another value follows.
 */
static bool after_value(struct scan *s, bool *more)
{
    while (s->depth > 0) {
        skip_blanks(s);
        enum container kind = (enum container)s->stack[s->depth - 1];
        int c = peek(s);
        if (c == ',') {
            s->at++;
            *more = true;
            return kind == IN_ARRAY || key(s);
        }
        if (c != (kind == IN_OBJECT ? '}' : ']')) {
            return fail(s, kind == IN_OBJECT ? "',' or '}' is expected" : "',' or ']' is expected");
        }
        s->at++;
        s->depth--;
    }
    *more = false;
    return true;
}

static bool scan(struct scan *s)
{
    bool more = true, opened;
    while (more) {
        if (!value(s, &opened)) {
            return false;
        }
        if (!opened && !after_value(s, &more)) {
            return false;
        }
    }
    skip_blanks(s);
    if (s->at != s->text.len) {
        return fail(s, "nothing may follow the value");
    }
    if (s->n_copied) {
        buf_append(&s->out->rewritten, str_slice(s->text, s->n_copied, s->text.len));
    }
    return buf_ok(&s->out->rewritten, "rewritten JSON", s->err);
}

bool json_scan(struct str text, int max_depth, size_t max_values, struct json_scan *out, struct error *err)
{
    struct scan s = {.text = text, .max_values = max_values, .out = out, .err = err};
    s.max_depth = max_depth < SCAN_MAX_DEPTH ? max_depth : SCAN_MAX_DEPTH;
    s.salt = (uint64_t)(uintptr_t)&s ^ xxh3(text.ptr ? text.ptr : "", text.len, 0);
    buf_init(&s.key, text.len + 1);
    buf_init(&out->rewritten, text.len + text.len / 8 + 8); /* a mark of 2 bytes follows at least 19 digits */
    bool ok = scan(&s);
    buf_release(&s.key);
    free(s.seen);
    out->n_values = s.n_values;
    out->n_bytes = s.n_bytes;
    return ok;
}

void json_scan_release(struct json_scan *scan)
{
    buf_release(&scan->rewritten);
}

/* ---- lines of paths: the text was parsed before, so what does not fit just ends the search ---- */

static bool skip_value(struct scan *s)
{
    size_t depth = 0;
    do {
        skip_blanks(s);
        int c = peek(s);
        if (c < 0 || (c == '"' && !string(s, NULL))) {
            return false;
        }
        if (c == '"') {
            continue;
        }
        depth += c == '{' || c == '[';
        depth -= (c == '}' || c == ']') && depth > 0;
        s->at++;
        while (depth == 0 && c != '}' && c != ']' && s->at < s->text.len && !strchr(",]} \t\r\n", s->text.ptr[s->at])) {
            s->at++; /* the rest of a number or word */
        }
    } while (depth > 0);
    return true;
}

/* To the value of member `name` of the object here. */
static bool enter_member(struct scan *s, struct str name)
{
    bool more = peek(s) == '{';
    while (more) {
        s->at++;
        skip_blanks(s);
        buf_clear(&s->key);
        if (peek(s) != '"' || !string(s, &s->key)) {
            return false;
        }
        skip_blanks(s);
        s->at++; /* the colon */
        skip_blanks(s);
        if (str_eq(buf_view(&s->key), name)) {
            return true;
        }
        more = skip_value(s);
        skip_blanks(s);
        more = more && peek(s) == ',';
    }
    return false;
}

/* To item `index` of the array here. */
static bool enter_item(struct scan *s, uint64_t index)
{
    if (peek(s) != '[') {
        return false;
    }
    s->at++;
    skip_blanks(s);
    for (uint64_t i = 0; i < index; i++) {
        bool skipped = skip_value(s);
        skip_blanks(s);
        if (!skipped || peek(s) != ',') {
            return false;
        }
        s->at++;
        skip_blanks(s);
    }
    return peek(s) >= 0 && peek(s) != ']';
}

static bool enter_path(struct scan *s, struct str path)
{
    while (path.len) {
        uint64_t index;
        skip_blanks(s);
        if (path.ptr[0] == '[') {
            size_t end = str_find_char(path, ']');
            if (end == STR_NPOS || !str_to_u64(str_slice(path, 1, end), &index) || !enter_item(s, index)) {
                return false;
            }
            path = str_slice(path, end + 1, path.len);
            continue;
        }
        path = str_slice(path, path.ptr[0] == '.', path.len);
        size_t end = 0;
        while (end < path.len && path.ptr[end] != '.' && path.ptr[end] != '[') {
            end++;
        }
        if (!enter_member(s, str_slice(path, 0, end))) {
            return false;
        }
        path = str_slice(path, end, path.len);
    }
    skip_blanks(s);
    return peek(s) >= 0;
}

int json_line_of(struct str text, const char *path)
{
    struct error ignored;
    struct scan s = {.text = text, .err = &ignored};
    int line = 1;
    buf_init(&s.key, text.len + 1);
    bool found = enter_path(&s, str_of(path));
    buf_release(&s.key);
    for (size_t i = 0; found && i < s.at && i < text.len; i++) {
        line += text.ptr[i] == '\n';
    }
    return found ? line : 0;
}
