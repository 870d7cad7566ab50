/* Reading over json-c. A struct json is a struct json_object under another name; json-c represents JSON's null as a
 * NULL pointer, so the root of a document that is just `null` is a string marker of our own. */
/* json-c's types of these names are not ours: renamed while its headers are read. */
#define json_type jsonc_type
#define json_bool jsonc_bool
#include <json-c/json.h>
#undef json_type
#undef json_bool

#include "base/json.h"
#include "base/json_scan.h"
#include "base/utf8.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define NULL_ROOT     "\x01null"
#define JSON_MAX_SIZE (INT_MAX / 2) /* json-c counts in int; long integers may make the text an eighth longer */

static struct json_object *raw(const struct json *v)
{
    return (struct json_object *)v;
}

static bool is_null_root(const struct json *v)
{
    return json_object_get_type(raw(v)) == json_type_string && strcmp(json_object_get_string(raw(v)), NULL_ROOT) == 0 &&
           json_object_get_userdata(raw(v)) == (void *)json_parse;
}

static struct json_object *null_root(void)
{
    struct json_object *root = json_object_new_string(NULL_ROOT);
    if (root) {
        json_object_set_userdata(root, (void *)json_parse, NULL);
    }
    return root;
}

/* Counts what struct json_scan counts. Recursion is bounded by the depth that the scan allowed. */
static void tally(const struct json *v, size_t *n_values, size_t *n_bytes)
{
    struct json_iter it;
    ++*n_values;
    switch (json_type(v)) {
    case JSON_STRING:
        *n_bytes += json_str(v).len;
        break;
    case JSON_DOUBLE:
        *n_bytes += str_of(json_object_get_userdata(raw(v))).len; /* where json-c keeps a double's source text */
        break;
    case JSON_ARRAY:
        for (size_t i = 0; i < json_len(v); i++) {
            tally(json_at(v, i), n_values, n_bytes);
        }
        break;
    case JSON_OBJECT:
        for (it = json_members(v); json_next(&it);) {
            *n_bytes += it.key.len;
            tally(it.value, n_values, n_bytes);
        }
        break;
    default:
        break;
    }
}

static bool is_whole(const struct json_object *root, const struct json_scan *scan)
{
    size_t n_values = 0, n_bytes = 0;
    tally((const struct json *)root, &n_values, &n_bytes);
    return n_values == scan->n_values && n_bytes == scan->n_bytes;
}

/* The tree of a text that the scan has accepted; NULL when memory fails. */
static struct json_object *build(struct str text, int depth, const struct json_scan *scan)
{
    struct json_tokener *tokener = json_tokener_new_ex(depth + 2);
    if (!tokener) {
        return NULL;
    }
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    struct json_object *root = json_tokener_parse_ex(tokener, text.ptr, (int)text.len);
    if (json_tokener_get_error(tokener) == json_tokener_continue) {
        root = json_tokener_parse_ex(tokener, "", 1); /* a number at the end needs the NUL to be complete */
    }
    bool ok = json_tokener_get_error(tokener) == json_tokener_success && is_whole(root, scan);
    json_tokener_free(tokener);
    if (!ok) {
        json_object_put(root);
        root = NULL;
    }
    return root;
}

struct json *json_parse(struct str text, int max_depth, struct error *err)
{
    return json_parse_bounded(text, max_depth, SIZE_MAX, err);
}

struct json *json_parse_bounded(struct str text, int max_depth, size_t max_values, struct error *err)
{
    int depth = max_depth ? max_depth : JSON_DEFAULT_DEPTH;
    if (text.len > JSON_MAX_SIZE) {
        error_set(err, ERR_TOO_LARGE, "the JSON has %zu bytes, more than %d.", text.len, JSON_MAX_SIZE);
        return NULL;
    }
    if (!utf8_valid(text)) {
        error_set(err, ERR_INVALID, "the JSON is not valid UTF-8.");
        return NULL;
    }
    struct json_scan scan;
    struct json_object *root = NULL;
    if (json_scan(text, depth, max_values, &scan, err)) {
        text = scan.rewritten.len ? buf_view(&scan.rewritten) : text;
        root = str_eq(str_trim(text), STR("null")) ? null_root() : build(text, depth, &scan);
        if (!root) { /* the scan has accepted the text: nothing else is left that could fail */
            error_set(err, ERR_NO_MEMORY, "no memory to parse %zu bytes of JSON.", text.len);
        }
    }
    json_scan_release(&scan);
    return (struct json *)root;
}

void json_free(struct json *root)
{
    json_object_put(raw(root));
}

static void free_kept(void *root)
{
    json_free(root);
}

struct json *json_keep(struct json *root, struct arena *arena, const char *what, struct error *err)
{
    if (root && !arena_defer(arena, free_kept, root)) {
        json_free(root);
        arena_full(arena, what, err);
        return NULL;
    }
    return root;
}

enum json_type json_type(const struct json *v)
{
    if (!v) {
        return JSON_NULL;
    }
    switch (json_object_get_type(raw(v))) {
    case json_type_null:
        return JSON_NULL;
    case json_type_boolean:
        return JSON_BOOL;
    case json_type_int:
        return JSON_INT;
    case json_type_double:
        return JSON_DOUBLE;
    case json_type_array:
        return JSON_ARRAY;
    case json_type_object:
        return JSON_OBJECT;
    case json_type_string:
        break;
    }
    return is_null_root(v) ? JSON_NULL : JSON_STRING;
}

const char *json_type_name(enum json_type type)
{
    static const char *const names[] = {"null", "boolean", "integer", "number", "string", "array", "object"};
    return names[type];
}

bool json_is_null(const struct json *v)
{
    return json_type(v) == JSON_NULL;
}

bool json_bool(const struct json *v)
{
    return json_object_get_boolean(raw(v));
}

int64_t json_int(const struct json *v)
{
    return json_object_get_int64(raw(v));
}

double json_double(const struct json *v)
{
    return json_object_get_double(raw(v));
}

struct str json_str(const struct json *v)
{
    if (json_type(v) != JSON_STRING) {
        return (struct str){NULL, 0};
    }
    return (struct str){json_object_get_string(raw(v)), (size_t)json_object_get_string_len(raw(v))};
}

struct str json_number_text(const struct json *v)
{
    enum json_type type = json_type(v);
    if (type != JSON_INT && type != JSON_DOUBLE) {
        return (struct str){NULL, 0};
    }
    struct str text = str_of(json_object_to_json_string_ext(raw(v), JSON_C_TO_STRING_PLAIN));
    if (text.len <= strlen(JSON_WIDE_MARK)) {
        return text;
    }
    struct str digits = str_slice(text, 0, text.len - strlen(JSON_WIDE_MARK));
    int64_t ignored;
    size_t sign = text.len && text.ptr[0] == '-';
    if (type == JSON_DOUBLE && str_ends(text, STR(JSON_WIDE_MARK)) && !str_to_i64(digits, &ignored) &&
        sign + strspn(text.ptr + sign, "0123456789") == digits.len) {
        return digits; /* a long integer, marked by json_scan */
    }
    return text;
}

size_t json_len(const struct json *v)
{
    switch (json_type(v)) {
    case JSON_ARRAY:
        return json_object_array_length(raw(v));
    case JSON_OBJECT:
        return (size_t)json_object_object_length(raw(v));
    default:
        return 0;
    }
}

const struct json *json_at(const struct json *array, size_t i)
{
    return json_type(array) == JSON_ARRAY && i < json_len(array)
               ? (const struct json *)json_object_array_get_idx(raw(array), i)
               : NULL;
}

const struct json *json_get(const struct json *object, const char *key)
{
    struct json_object *value = NULL;
    if (json_type(object) == JSON_OBJECT) {
        json_object_object_get_ex(raw(object), key, &value);
    }
    return (const struct json *)value;
}

bool json_has(const struct json *object, const char *key)
{
    return json_type(object) == JSON_OBJECT && json_object_object_get_ex(raw(object), key, NULL);
}

bool json_lists(const struct json *array, struct str s)
{
    bool found = false;
    for (size_t i = 0; !found && i < json_len(array); i++) {
        const struct json *item = json_at(array, i);
        found = json_type(item) == JSON_STRING && str_eq(json_str(item), s);
    }
    return found;
}

struct json_iter json_members(const struct json *object)
{
    struct json_iter it = {0};
    if (json_type(object) == JSON_OBJECT) {
        it.state = json_object_get_object(raw(object))->head;
    }
    return it;
}

bool json_next(struct json_iter *it)
{
    struct lh_entry *entry = (struct lh_entry *)it->state;
    if (!entry) {
        return false;
    }
    const char *key = lh_entry_k(entry);
    it->key = str_of(key);
    it->value = lh_entry_v(entry);
    it->state = entry->next;
    return true;
}
