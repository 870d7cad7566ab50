#include "mcp/content.h"

#include "base/array.h"
#include "base/utf8.h"

static struct str text_of(const struct json *object, const char *member)
{
    return json_str(json_get(object, member));
}

static void put_text(const struct json *part, struct buf *out)
{
    buf_append(out, text_of(part, "text"));
}

/* Base64 has four characters for three bytes. */
static void put_bytes(const char *what, const struct json *object, const char *member, struct buf *out)
{
    struct str type = text_of(object, "mimeType");
    buf_printf(out, "[%s: %.*s, %zu bytes, not shown]", what, STR_ARG(str_slice(type, 0, 100)),
               text_of(object, member).len / 4 * 3);
}

static void put_image(const struct json *part, struct buf *out)
{
    put_bytes("image", part, "data", out);
}

static void put_audio(const struct json *part, struct buf *out)
{
    put_bytes("audio", part, "data", out);
}

static void put_link(const struct json *part, struct buf *out)
{
    struct str title = text_of(part, "title");
    buf_append(out, title.len ? title : text_of(part, "name"));
    buf_puts(out, ": ");
    buf_append(out, text_of(part, "uri"));
}

static void put_resource(const struct json *part, struct buf *out)
{
    const struct json *resource = json_get(part, "resource");
    if (json_type(json_get(resource, "text")) == JSON_STRING) {
        buf_append(out, text_of(resource, "text"));
        return;
    }
    buf_append(out, text_of(resource, "uri"));
    buf_putc(out, ' ');
    put_bytes("resource", resource, "blob", out);
}

static const struct part_kind {
    const char *type;
    void (*put)(const struct json *part, struct buf *out);
} kinds[] = {{"text", put_text},
             {"image", put_image},
             {"audio", put_audio},
             {"resource_link", put_link},
             {"resource", put_resource}};

static void put_part(const struct json *part, struct buf *out)
{
    struct str type = text_of(part, "type");
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (str_eq(type, str_of(kinds[i].type))) {
            kinds[i].put(part, out);
            return;
        }
    }
    buf_printf(out, "[%.*s: not shown]", STR_ARG(str_slice(type, 0, 60)));
}

/* A type that a later revision may bring means that this is not the answer. */
static bool check_type(const struct json *result, struct error *err)
{
    const struct json *type = json_get(result, "resultType");
    if (!type || str_eq(text_of(result, "resultType"), STR("complete"))) {
        return true;
    }
    if (str_eq(text_of(result, "resultType"), STR("input_required"))) {
        return error_set(err, ERR_UNSUPPORTED,
                         "the server asks for input of a user or a model, which is not possible.");
    }
    return error_set(err, ERR_PROTOCOL, "the result has a 'resultType' that is not known.");
}

static void cut(struct buf *text, size_t max)
{
    size_t whole = text->len, keep = utf8_cut(buf_view(text), max);
    buf_truncate(text, keep);
    buf_printf(text, "\n[cut off: %zu of %zu bytes are shown]", keep, whole);
}

bool content_text(const struct json *result, size_t max, struct buf *out, struct error *err)
{
    const struct json *content = json_get(result, "content"), *structured = json_get(result, "structuredContent");
    if (!check_type(result, err)) {
        return false;
    }
    content = json_type(content) == JSON_ARRAY ? content : NULL;
    if (!content && !structured) {
        return error_set(err, ERR_PROTOCOL, "the result has no array 'content'.");
    }
    for (size_t i = 0; i < json_len(content); i++) {
        if (i > 0) {
            buf_putc(out, '\n');
        }
        put_part(json_at(content, i), out);
    }
    if (json_len(content) == 0 && structured) {
        json_print(out, structured);
    }
    if (!out->failed && out->len > max) {
        cut(out, max);
    }
    return buf_ok(out, "the result of a tool", err);
}

bool content_is_error(const struct json *result)
{
    const struct json *v = json_get(result, "isError");
    return json_type(v) == JSON_BOOL && json_bool(v);
}
