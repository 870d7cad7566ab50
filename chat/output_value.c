/* Values that are text between tags, as JSON: what the tool's schema says about a parameter decides. */
#include "base/array.h"
#include "chat/output_internal.h"

#define REF_DEPTH 4

/* The part of the parameters' schema that "#/a/b" names. */
static const struct json *follow_ref(const struct json *root, struct str ref)
{
    struct str part;
    const struct json *v = root;
    char key[128];
    if (!str_starts(ref, STR("#/"))) {
        return NULL;
    }
    ref = str_slice(ref, 2, ref.len);
    while (v && str_split(&ref, '/', &part)) {
        if (part.len >= sizeof key) {
            return NULL;
        }
        memcpy(key, part.ptr, part.len);
        key[part.len] = '\0';
        v = json_get(v, key);
    }
    return v;
}

static const struct json *resolve(const struct json *root, const struct json *schema)
{
    for (int i = 0; i < REF_DEPTH && json_type(json_get(schema, "$ref")) == JSON_STRING; i++) {
        schema = follow_ref(root, json_str(json_get(schema, "$ref")));
    }
    return schema;
}

struct allowed { /* what a schema lets a value be */
    bool string, null, other;
};

static void allow_type(struct allowed *a, const struct json *type)
{
    struct str t = json_type(type) == JSON_STRING ? json_str(type) : (struct str){0};
    if (str_eq_nocase(t, STR("string"))) {
        a->string = true;
    } else if (str_eq_nocase(t, STR("null"))) {
        a->null = true;
    } else if (t.len) {
        a->other = true;
    }
}

static void allow_value(struct allowed *a, const struct json *v)
{
    a->string = a->string || json_type(v) == JSON_STRING;
    a->null = a->null || json_type(v) == JSON_NULL;
    a->other = a->other || (json_type(v) != JSON_STRING && json_type(v) != JSON_NULL);
}

/* One schema without what it is composed of. */
static void allow_plain(struct allowed *a, const struct json *s)
{
    const struct json *type = json_get(s, "type"), *values = json_get(s, "enum");
    allow_type(a, type);
    for (size_t i = 0; json_type(type) == JSON_ARRAY && i < json_len(type); i++) {
        allow_type(a, json_at(type, i));
    }
    if (type) {
        return;
    }
    for (size_t i = 0; i < json_len(values); i++) {
        allow_value(a, json_at(values, i));
    }
    if (json_get(s, "const")) {
        allow_value(a, json_get(s, "const"));
    }
    a->other = a->other || json_get(s, "properties") || json_get(s, "items");
}

enum value_type output__value_type(const struct json *parameters, struct str key)
{
    static const char *const composed[] = {"anyOf", "oneOf", "allOf"};
    struct allowed a = {0};
    struct json_iter it = json_members(json_get(parameters, "properties"));
    const struct json *schema = NULL;
    while (!schema && json_next(&it)) {
        schema = str_eq(it.key, key) ? it.value : NULL;
    }
    schema = resolve(parameters, schema);
    allow_plain(&a, schema);
    for (size_t c = 0; c < ARRAY_LEN(composed); c++) {
        const struct json *list = json_get(schema, composed[c]);
        for (size_t i = 0; i < json_len(list); i++) {
            allow_plain(&a, resolve(parameters, json_at(list, i)));
        }
    }
    if (a.string && !a.other) {
        return a.null ? VALUE_STRING_OR_NULL : VALUE_STRING;
    }
    return a.other && !a.string ? VALUE_JSON : VALUE_ANY;
}

static void put_string(struct buf *out, struct str s)
{
    buf_putc(out, '"');
    output__escape(out, s);
    buf_putc(out, '"');
}

/* Line breaks inside its strings are no JSON, but models write them. */
static bool put_json(struct buf *out, struct str s)
{
    struct json_follow f = {0};
    size_t start = out->len;
    enum json_step r = JSON_STEP_MORE;
    for (size_t i = 0; i < s.len && r == JSON_STEP_MORE; i++) {
        if ((unsigned char)s.ptr[i] < 0x20 && output__json_in_string(&f)) {
            output__escape(out, str_slice(s, i, i + 1));
        } else {
            r = output__json_step(&f, s.ptr[i]);
            buf_putc(out, s.ptr[i]);
        }
    }
    struct str written = str_slice(buf_view(out), start, out->len);
    if (out->failed || output__json_whole(written)) {
        return true;
    }
    buf_truncate(out, start);
    return false;
}

static bool put_value(struct buf *out, struct str s, enum value_type type)
{
    return put_json(out, s) || (type == VALUE_JSON && output__python_value(s, out));
}

void output__value_json(struct str text, enum value_type type, struct buf *out)
{
    struct str trimmed = str_trim(text);
    bool null = str_eq(trimmed, STR("null")) || str_eq(trimmed, STR("None"));
    if (type == VALUE_STRING || (type == VALUE_STRING_OR_NULL && !null)) {
        put_string(out, text);
    } else if (null) {
        buf_puts(out, "null");
    } else if (!put_value(out, trimmed, type)) {
        put_string(out, text);
    }
}

void output__word_json(struct str word, struct buf *out)
{
    struct str json = output__python_word(word);
    if (output__json_whole(json)) {
        buf_append(out, json);
    } else {
        put_string(out, word);
    }
}
