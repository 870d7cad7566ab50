/* Python's notation of values, as JSON: words, escapes inside strings, and what Python prints of lists and
 * dictionaries. */
#include "base/array.h"
#include "base/utf8.h"
#include "chat/output_internal.h"

static const struct {
    struct str word, json;
} words[] = {{STR("True"), STR("true")}, {STR("False"), STR("false")}, {STR("None"), STR("null")}};

struct str output__python_word(struct str s)
{
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (str_eq(s, words[i].word)) {
            return words[i].json;
        }
    }
    return s;
}

/* ---- strings ---- */

/* An escape with a number: s begins with the backslash. Its length; *out gets the character, if it is one. */
static size_t coded_escape(struct str s, size_t n_digits, uint32_t *out)
{
    uint32_t low = 0;
    size_t len = 2 + n_digits;
    bool ok = hex_number(str_slice(s, 2, s.len), n_digits, out);
    if (ok && n_digits == 4 && str_starts(str_slice(s, len, s.len), STR("\\u")) &&
        hex_number(str_slice(s, len + 2, s.len), 4, &low) && utf16_pair(*out, low) != UTF8_INVALID) {
        *out = utf16_pair(*out, low);
        len += 6;
    }
    return len;
}

size_t output__python_escape(struct str s, struct buf *out)
{
    static const char from[] = "\\'\"nrtbf0av", to[] = "\\'\"\n\r\t\b\f\0\a\v";
    const char *named = s.ptr[1] ? strchr(from, s.ptr[1]) : NULL;
    size_t digits = s.ptr[1] == 'x' ? 2 : s.ptr[1] == 'u' ? 4 : s.ptr[1] == 'U' ? 8 : 0;
    uint32_t code = UTF8_INVALID;
    char bytes[4];
    if (named) {
        output__escape(out, (struct str){&to[named - from], 1});
        return 2;
    }
    if (s.ptr[1] == '\n') {
        return 2; /* a line goes on */
    }
    size_t len = digits ? coded_escape(s, digits, &code) : 1;
    if (code == UTF8_INVALID) {
        output__escape(out, STR("\\"));
        return 1;
    }
    size_t n = utf8_encode(code, bytes);
    output__escape(out, n ? (struct str){bytes, n} : STR("\xef\xbf\xbd"));
    return len;
}

/* A string, s.ptr[0] its quote: written as JSON. How many bytes it takes; 0: it does not end. */
static size_t put_string(struct buf *out, struct str s)
{
    size_t i = 1;
    buf_putc(out, '"');
    while (i < s.len && s.ptr[i] != *s.ptr) {
        if (s.ptr[i] == '\\' && i + 1 < s.len) {
            i += output__python_escape(str_slice(s, i, s.len), out);
        } else {
            output__escape(out, str_slice(s, i, i + 1));
            i++;
        }
    }
    buf_putc(out, '"');
    return i < s.len ? i + 1 : 0;
}

/* ---- lists and dictionaries ---- */

bool output__python_value(struct str s, struct buf *out)
{
    size_t start = out->len, i = 0, n = 1;
    for (; n && i < s.len; i += n) {
        struct str rest = str_slice(s, i, s.len);
        n = 0;
        while (n < rest.len && ((rest.ptr[n] | 0x20) >= 'a' && (rest.ptr[n] | 0x20) <= 'z')) {
            n++;
        }
        if (n) {
            buf_append(out, output__python_word(str_slice(rest, 0, n)));
        } else if (*rest.ptr == '\'' || *rest.ptr == '"') {
            n = put_string(out, rest);
        } else {
            buf_putc(out, *rest.ptr);
            n = 1;
        }
    }
    if (n && (out->failed || output__json_whole(str_slice(buf_view(out), start, out->len)))) {
        return true;
    }
    buf_truncate(out, start);
    return false;
}
