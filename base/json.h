/* Strict JSON (RFC 8259) over json-c: UTF-8 validated, duplicate keys refused (compared after unescaping), depth
 * bounded, no trailing bytes, integers kept as 64 bits, order of keys kept. Values are read through views; a writer
 * appends JSON to a buf without building a tree. */
#ifndef TANDEM_BASE_JSON_H
#define TANDEM_BASE_JSON_H

#include "base/arena.h"
#include "base/buf.h"

struct json; /* one value of a parsed tree; owned by the root */

enum json_type { JSON_NULL, JSON_BOOL, JSON_INT, JSON_DOUBLE, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

#define JSON_DEFAULT_DEPTH 32

/* Parses the whole text. max_depth 0 means JSON_DEFAULT_DEPTH. INVALID with line and column on failure. Free the root
 * with json_free. */
NODISCARD struct json *json_parse(struct str text, int max_depth, struct error *err);
/* The same for files, whose trees may be many times larger than their text ("[[],[],..."): refuses more than max_values
 * values before any of the tree is built. */
NODISCARD struct json *json_parse_bounded(struct str text, int max_depth, size_t max_values, struct error *err);
/* root, which the arena frees from now on. NULL: root is NULL, and *err is somebody's; or it is freed, and the arena
 * has no room: TOO_LARGE in the name of `what`. */
NODISCARD struct json *json_keep(struct json *root, struct arena *arena, const char *what, struct error *err);
void json_free(struct json *root); /* NULL is fine; only roots from json_parse and json_new_*() */

enum json_type json_type(const struct json *v); /* JSON_NULL for NULL */
const char *json_type_name(
    enum json_type type); /* "null", "boolean", "integer", "number", "string", "array", "object" */

bool json_is_null(const struct json *v); /* also for NULL */
bool json_bool(const struct json *v);
int64_t json_int(const struct json *v);    /* JSON_INT; integers beyond int64 parse as JSON_DOUBLE */
double json_double(const struct json *v);  /* JSON_INT or JSON_DOUBLE */
struct str json_str(const struct json *v); /* NUL-terminated; lives as long as the root */
/* A number's source text ("1.0", "1e2"; integers in their plain form); {NULL, 0} for what is no number. Not always
 * followed by a NUL. Writes a cache inside the tree: one thread at a time. */
struct str json_number_text(const struct json *v);

size_t json_len(const struct json *v); /* items of an array, members of an object; else 0 */
const struct json *json_at(const struct json *array, size_t i);
const struct json *json_get(const struct json *object, const char *key); /* NULL when absent, or null */
bool json_has(const struct json *object, const char *key);               /* also when its value is null */
bool json_lists(const struct json *array, struct str s);                 /* one of its items is this string */

struct json_iter { /* members in source order: while (json_next(&it)) use it.key, it.value */
    const void *state;
    struct str key;
    const struct json *value;
};
struct json_iter json_members(const struct json *object);
bool json_next(struct json_iter *it);

int json_line_of(struct str text, const char *path); /* line (from 1) of a path such as "a.b[2].c", 0 when absent */

/* Appends v compactly, with keys in source order. */
void json_print(struct buf *out, const struct json *v);

/* ---- writer: commas and quoting are its business, nesting is the caller's ----
 *     struct json_writer w = json_writer(&buf);
 *     json_begin_object(&w);
 *     json_member_str(&w, "id", id);
 *     json_end_object(&w);
 * Overflow shows in the buf (buf_ok). */
struct json_writer {
    struct buf *out;
    bool need_comma;
};
struct json_writer json_writer(struct buf *out);
void json_begin_object(struct json_writer *w);
void json_end_object(struct json_writer *w);
void json_begin_array(struct json_writer *w);
void json_end_array(struct json_writer *w);
void json_key(struct json_writer *w, const char *key);
void json_put_str(struct json_writer *w, struct str s);   /* invalid UTF-8 becomes U+FFFD */
void json_put_cstr(struct json_writer *w, const char *s); /* NULL is written as null */
void json_put_int(struct json_writer *w, int64_t v);
void json_put_uint(struct json_writer *w, uint64_t v);
void json_put_double(struct json_writer *w, double v); /* shortest text that reads back the same; non-finite as null */
void json_put_bool(struct json_writer *w, bool v);
void json_put_null(struct json_writer *w);
void json_put_json(struct json_writer *w, const struct json *v);
void json_put_raw(struct json_writer *w, struct str json); /* already JSON */

/* A key and its value, which is what the json_put_* of the same name takes. */
void json_member_str(struct json_writer *w, const char *key, struct str s);
void json_member_str_or_null(struct json_writer *w, const char *key, struct str s); /* empty: null */
void json_member_cstr(struct json_writer *w, const char *key, const char *s);
void json_member_int(struct json_writer *w, const char *key, int64_t v);
void json_member_uint(struct json_writer *w, const char *key, uint64_t v);
void json_member_double(struct json_writer *w, const char *key, double v);
void json_member_bool(struct json_writer *w, const char *key, bool v);
void json_member_null(struct json_writer *w, const char *key);
void json_member_json(struct json_writer *w, const char *key, const struct json *v);
void json_member_raw(struct json_writer *w, const char *key, struct str json);

/* The quoted string alone, for hand-made fragments. */
void json_quote(struct buf *out, struct str s);

#endif
