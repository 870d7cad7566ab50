#include "base/json.h"

#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct json_writer json_writer(struct buf *out)
{
    return (struct json_writer){.out = out};
}

static void before_value(struct json_writer *w)
{
    if (w->need_comma) {
        buf_putc(w->out, ',');
    }
    w->need_comma = true;
}

static void open(struct json_writer *w, char c)
{
    before_value(w);
    buf_putc(w->out, c);
    w->need_comma = false;
}

static void close(struct json_writer *w, char c)
{
    buf_putc(w->out, c);
    w->need_comma = true;
}

void json_begin_object(struct json_writer *w)
{
    open(w, '{');
}

void json_end_object(struct json_writer *w)
{
    close(w, '}');
}

void json_begin_array(struct json_writer *w)
{
    open(w, '[');
}

void json_end_array(struct json_writer *w)
{
    close(w, ']');
}

void json_key(struct json_writer *w, const char *key)
{
    json_put_cstr(w, key);
    buf_putc(w->out, ':');
    w->need_comma = false;
}

static void put_escape(struct buf *out, unsigned char c)
{
    static const char names[] = "btn?fr"; /* of 0x08 to 0x0D; 0x0B has no short form */
    if (c == '"' || c == '\\') {
        buf_putc(out, '\\');
        buf_putc(out, (char)c);
    } else if (c >= 0x08 && c <= 0x0D && c != 0x0B) {
        buf_putc(out, '\\');
        buf_putc(out, names[c - 0x08]);
    } else {
        static const char hex[] = "0123456789abcdef";
        char escaped[] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        buf_append_bytes(out, escaped, sizeof escaped);
    }
}

void json_quote(struct buf *out, struct str s)
{
    buf_putc(out, '"');
    size_t plain = 0, i = 0;
    while (i < s.len) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c >= 0x20 && c < 0x7F && c != '"' && c != '\\') {
            i++;
            continue;
        }
        uint32_t code_point = c;
        size_t n = c < 0x80 ? 1 : utf8_decode(str_slice(s, i, s.len), &code_point);
        if (c >= 0x80 && code_point != UTF8_INVALID) {
            i += n;
            continue;
        }
        buf_append(out, str_slice(s, plain, i));
        if (c >= 0x80) {
            buf_puts(out, "\xEF\xBF\xBD");
        } else {
            put_escape(out, c);
        }
        i += n;
        plain = i;
    }
    buf_append(out, str_slice(s, plain, s.len));
    buf_putc(out, '"');
}

void json_put_str(struct json_writer *w, struct str s)
{
    before_value(w);
    json_quote(w->out, s);
}

void json_put_cstr(struct json_writer *w, const char *s)
{
    if (s) {
        json_put_str(w, str_of(s));
    } else {
        json_put_null(w);
    }
}

void json_put_int(struct json_writer *w, int64_t v)
{
    before_value(w);
    if (v < 0) {
        buf_putc(w->out, '-');
    }
    buf_put_uint(w->out, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

void json_put_uint(struct json_writer *w, uint64_t v)
{
    before_value(w);
    buf_put_uint(w->out, v);
}

void json_put_double(struct json_writer *w, double v)
{
    before_value(w);
    if (!isfinite(v)) {
        buf_puts(w->out, "null");
        return;
    }
    char text[40];
    for (int precision = 6; precision <= 17; precision += precision < 15 ? 9 : 1) {
        snprintf(text, sizeof text, "%.*g", precision, v);
        if (strtod(text, NULL) == v) {
            break;
        }
    }
    buf_puts(w->out, text);
    if (!strpbrk(text, ".e")) {
        buf_puts(w->out, ".0"); /* so that it stays a number with a fraction for strict readers */
    }
}

void json_put_bool(struct json_writer *w, bool v)
{
    before_value(w);
    buf_puts(w->out, v ? "true" : "false");
}

void json_put_null(struct json_writer *w)
{
    before_value(w);
    buf_puts(w->out, "null");
}

void json_put_raw(struct json_writer *w, struct str json)
{
    before_value(w);
    buf_append(w->out, json);
}

/* Depth is that of a parsed document, which its parser bounded. */
void json_put_json(struct json_writer *w, const struct json *v)
{
    struct json_iter it;
    struct str number;
    switch (json_type(v)) {
    case JSON_NULL:
        json_put_null(w);
        break;
    case JSON_BOOL:
        json_put_bool(w, json_bool(v));
        break;
    case JSON_INT:
        json_put_int(w, json_int(v));
        break;
    case JSON_DOUBLE:
        number = json_number_text(v);
        if (!number.ptr) { /* json-c makes the text when it is asked */
            w->out->failed = w->out->no_memory = true;
        }
        json_put_raw(w, number);
        break;
    case JSON_STRING:
        json_put_str(w, json_str(v));
        break;
    case JSON_ARRAY:
        json_begin_array(w);
        for (size_t i = 0; i < json_len(v); i++) {
            json_put_json(w, json_at(v, i));
        }
        json_end_array(w);
        break;
    case JSON_OBJECT:
        json_begin_object(w);
        for (it = json_members(v); json_next(&it);) {
            before_value(w);
            json_quote(w->out, it.key);
            buf_putc(w->out, ':');
            w->need_comma = false;
            json_put_json(w, it.value);
        }
        json_end_object(w);
        break;
    }
}

void json_print(struct buf *out, const struct json *v)
{
    struct json_writer w = json_writer(out);
    json_put_json(&w, v);
}

void json_member_str(struct json_writer *w, const char *key, struct str s)
{
    json_key(w, key);
    json_put_str(w, s);
}

void json_member_str_or_null(struct json_writer *w, const char *key, struct str s)
{
    json_key(w, key);
    if (s.len) {
        json_put_str(w, s);
    } else {
        json_put_null(w);
    }
}

void json_member_cstr(struct json_writer *w, const char *key, const char *s)
{
    json_key(w, key);
    json_put_cstr(w, s);
}

void json_member_int(struct json_writer *w, const char *key, int64_t v)
{
    json_key(w, key);
    json_put_int(w, v);
}

void json_member_uint(struct json_writer *w, const char *key, uint64_t v)
{
    json_key(w, key);
    json_put_uint(w, v);
}

void json_member_double(struct json_writer *w, const char *key, double v)
{
    json_key(w, key);
    json_put_double(w, v);
}

void json_member_bool(struct json_writer *w, const char *key, bool v)
{
    json_key(w, key);
    json_put_bool(w, v);
}

void json_member_null(struct json_writer *w, const char *key)
{
    json_key(w, key);
    json_put_null(w);
}

void json_member_json(struct json_writer *w, const char *key, const struct json *v)
{
    json_key(w, key);
    json_put_json(w, v);
}

void json_member_raw(struct json_writer *w, const char *key, struct str json)
{
    json_key(w, key);
    json_put_raw(w, json);
}
