/* JSON byte by byte: where a value ends, and whether it is one. Strict (RFC 8259), but for the bytes of strings, which
 * are not validated. Not recursive: containers are a stack of bits. */
#include "base/utf8.h"
#include "chat/output_internal.h"

enum follow_state {
    F_VALUE,       /* a value has to come */
    F_FIRST_VALUE, /* or the end of the array */
    F_FIRST_KEY,   /* a key, or the end of the object */
    F_KEY,         /* a key */
    F_COLON,
    F_AFTER, /* a comma or the end of the container */
    F_STRING,
    F_ESCAPE,
    F_HEX,
    F_WORD,
    F_MINUS, /* numbers, by what has come */
    F_ZERO,
    F_DIGITS,
    F_POINT,
    F_FRACTION,
    F_E,
    F_E_SIGN,
    F_EXPONENT,
    F_END
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool in_object(const struct json_follow *f)
{
    unsigned top = f->depth - 1u;
    return f->objects[top / 64] >> (top % 64) & 1;
}

static enum json_step open_container(struct json_follow *f, bool object)
{
    if (f->depth == OUTPUT_JSON_DEPTH) {
        return JSON_STEP_BAD;
    }
    uint64_t bit = (uint64_t)1 << (f->depth % 64);
    uint64_t *word = &f->objects[f->depth / 64];
    *word = object ? *word | bit : *word & ~bit;
    f->depth++;
    f->state = object ? F_FIRST_KEY : F_FIRST_VALUE;
    return JSON_STEP_MORE;
}

/* A value ended: of the whole, or one inside a container. */
static enum json_step value_ended(struct json_follow *f)
{
    f->state = f->depth ? F_AFTER : F_END;
    return f->depth ? JSON_STEP_MORE : JSON_STEP_END;
}

static enum json_step close_container(struct json_follow *f, bool object)
{
    if (in_object(f) != object) {
        return JSON_STEP_BAD;
    }
    f->depth--;
    return value_ended(f);
}

static enum json_step begin_string(struct json_follow *f, bool key)
{
    f->state = F_STRING;
    f->key = key;
    return JSON_STEP_MORE;
}

static enum json_step begin_word(struct json_follow *f, const char *rest)
{
    f->word = rest;
    f->state = F_WORD;
    return JSON_STEP_MORE;
}

static enum json_step begin_value(struct json_follow *f, char c)
{
    if (c >= '1' && c <= '9') {
        f->state = F_DIGITS;
        return JSON_STEP_MORE;
    }
    switch (c) {
    case '{':
        return open_container(f, true);
    case '[':
        return open_container(f, false);
    case '"':
        return begin_string(f, false);
    case 't':
        return begin_word(f, "rue");
    case 'f':
        return begin_word(f, "alse");
    case 'n':
        return begin_word(f, "ull");
    case '-':
        f->state = F_MINUS;
        return JSON_STEP_MORE;
    case '0':
        f->state = F_ZERO;
        return JSON_STEP_MORE;
    default:
        return JSON_STEP_BAD;
    }
}

static enum json_step after_value(struct json_follow *f, char c)
{
    if (c == ',') {
        f->state = in_object(f) ? F_KEY : F_VALUE;
        return JSON_STEP_MORE;
    }
    return c == '}' || c == ']' ? close_container(f, c == '}') : JSON_STEP_BAD;
}

/* Between values: white space has been taken care of. */
static enum json_step structure(struct json_follow *f, char c)
{
    bool empty = (f->state == F_FIRST_VALUE && c == ']') || (f->state == F_FIRST_KEY && c == '}');
    if (empty) {
        return close_container(f, c == '}');
    }
    switch (f->state) {
    case F_FIRST_VALUE:
    case F_VALUE:
        return begin_value(f, c);
    case F_FIRST_KEY:
    case F_KEY:
        return c == '"' ? begin_string(f, true) : JSON_STEP_BAD;
    case F_COLON:
        f->state = F_VALUE;
        return c == ':' ? JSON_STEP_MORE : JSON_STEP_BAD;
    case F_AFTER:
        return after_value(f, c);
    default:
        return JSON_STEP_BAD;
    }
}

static enum json_step string_step(struct json_follow *f, char c)
{
    if (f->state == F_ESCAPE) {
        f->state = c == 'u' ? F_HEX : F_STRING;
        f->n = 4;
        return c && strchr("\"\\/bfnrtu", c) ? JSON_STEP_MORE : JSON_STEP_BAD;
    }
    if (f->state == F_HEX) {
        f->state = --f->n ? F_HEX : F_STRING;
        return hex_digit(c) >= 0 ? JSON_STEP_MORE : JSON_STEP_BAD;
    }
    if (c == '\\') {
        f->state = F_ESCAPE;
        return JSON_STEP_MORE;
    }
    if (c != '"') {
        return (unsigned char)c < 0x20 ? JSON_STEP_BAD : JSON_STEP_MORE;
    }
    if (f->key) {
        f->state = F_COLON;
        return JSON_STEP_MORE;
    }
    return value_ended(f);
}

enum number_char { N_ZERO, N_DIGIT, N_POINT, N_E, N_SIGN, N_OTHER, N_CHARS };

#define BAD 0xff

/* The state of a number after a character: F_END where it was over before it, BAD where it cannot be one. */
static const uint8_t number_states[F_END - F_MINUS][N_CHARS] = {
    [F_MINUS - F_MINUS] = {F_ZERO, F_DIGITS, BAD, BAD, BAD, BAD},
    [F_ZERO - F_MINUS] = {BAD, BAD, F_POINT, F_E, F_END, F_END},
    [F_DIGITS - F_MINUS] = {F_DIGITS, F_DIGITS, F_POINT, F_E, F_END, F_END},
    [F_POINT - F_MINUS] = {F_FRACTION, F_FRACTION, BAD, BAD, BAD, BAD},
    [F_FRACTION - F_MINUS] = {F_FRACTION, F_FRACTION, F_END, F_E, F_END, F_END},
    [F_E - F_MINUS] = {F_EXPONENT, F_EXPONENT, BAD, BAD, F_E_SIGN, BAD},
    [F_E_SIGN - F_MINUS] = {F_EXPONENT, F_EXPONENT, BAD, BAD, BAD, BAD},
    [F_EXPONENT - F_MINUS] = {F_EXPONENT, F_EXPONENT, F_END, F_END, F_END, F_END},
};

static enum number_char number_char(char c)
{
    if (is_digit(c)) {
        return c == '0' ? N_ZERO : N_DIGIT;
    }
    return c == '.' ? N_POINT : (c | 0x20) == 'e' ? N_E : c == '+' || c == '-' ? N_SIGN : N_OTHER;
}

static enum json_step number_step(struct json_follow *f, char c)
{
    uint8_t next = number_states[f->state - F_MINUS][number_char(c)];
    if (next == BAD) {
        return JSON_STEP_BAD;
    }
    if (next != F_END) {
        f->state = next;
        return JSON_STEP_MORE;
    }
    if (value_ended(f) == JSON_STEP_END) {
        return JSON_STEP_BEFORE;
    }
    return output__json_step(f, c); /* F_AFTER now: once */
}

static enum json_step word_step(struct json_follow *f, char c)
{
    if (*f->word != c) {
        return JSON_STEP_BAD;
    }
    f->word++;
    return *f->word ? JSON_STEP_MORE : value_ended(f);
}

enum json_step output__json_step(struct json_follow *f, char c)
{
    if (f->state >= F_MINUS && f->state < F_END) {
        return number_step(f, c);
    }
    switch (f->state) {
    case F_STRING:
    case F_ESCAPE:
    case F_HEX:
        return string_step(f, c);
    case F_WORD:
        return word_step(f, c);
    default:
        return output__space(c) ? JSON_STEP_MORE : structure(f, c);
    }
}

bool output__json_in_string(const struct json_follow *f)
{
    return f->state == F_STRING;
}

bool output__json_whole(struct str s)
{
    struct json_follow f = {0};
    s = str_trim(s);
    enum json_step r = JSON_STEP_MORE;
    for (size_t i = 0; i < s.len; i++) {
        if (r != JSON_STEP_MORE) {
            return false; /* something behind the value */
        }
        r = output__json_step(&f, s.ptr[i]);
    }
    if (r == JSON_STEP_MORE && s.len) {
        r = output__json_step(&f, ' '); /* a number ends with what follows */
    }
    return r == JSON_STEP_END || r == JSON_STEP_BEFORE;
}

/* ---- strings ---- */

enum unescape_state { U_TEXT, U_ESCAPE, U_HEX };

static size_t put_code(uint32_t code, char *out)
{
    size_t n = utf8_encode(code, out);
    return n ? n : utf8_encode(0xfffd, out); /* half of a pair */
}

/* A \u escape is whole: halves of a pair wait for each other. */
static size_t finish_hex(struct json_unescape *u, char *out)
{
    size_t n = 0;
    uint32_t code = u->code, high = u->high;
    u->high = 0;
    if (utf16_pair(high, code) != UTF8_INVALID) {
        return put_code(utf16_pair(high, code), out);
    }
    if (high) {
        n = put_code(0xfffd, out);
    }
    if (code >= 0xd800 && code < 0xdc00) {
        u->high = code;
        return n;
    }
    return n + put_code(code, out + n);
}

static enum json_step unescape_escape(struct json_unescape *u, char c, char *out, size_t *n)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    u->state = U_TEXT;
    if (c == 'u') {
        u->state = U_HEX;
        u->n = 4;
        u->code = 0;
        return JSON_STEP_MORE;
    }
    const char *found = c ? strchr(from, c) : NULL;
    if (!found) {
        return JSON_STEP_BAD;
    }
    if (u->high) {
        *n = put_code(0xfffd, out);
        u->high = 0;
    }
    out[(*n)++] = to[found - from];
    return JSON_STEP_MORE;
}

enum json_step output__unescape_step(struct json_unescape *u, char c, char out[8], size_t *n)
{
    *n = 0;
    if (u->state == U_ESCAPE) {
        return unescape_escape(u, c, out, n);
    }
    if (u->state == U_HEX) {
        int digit = hex_digit(c);
        if (digit < 0) {
            return JSON_STEP_BAD;
        }
        u->code = u->code << 4 | (uint32_t)digit;
        if (--u->n == 0) {
            u->state = U_TEXT;
            *n = finish_hex(u, out);
        }
        return JSON_STEP_MORE;
    }
    if (c == '\\') {
        u->state = U_ESCAPE;
        return JSON_STEP_MORE;
    }
    if (u->high) {
        *n = put_code(0xfffd, out);
        u->high = 0;
    }
    if (c == '"') {
        return JSON_STEP_END;
    }
    out[(*n)++] = c;
    return JSON_STEP_MORE;
}

bool output__unescape(struct str inside, struct buf *out)
{
    struct json_unescape u = {0};
    char bytes[8];
    size_t n;
    buf_clear(out);
    for (size_t i = 0; i < inside.len; i++) {
        if (output__unescape_step(&u, inside.ptr[i], bytes, &n) != JSON_STEP_MORE) {
            return false;
        }
        buf_append_bytes(out, bytes, n);
    }
    if (u.high) {
        buf_puts(out, "\xef\xbf\xbd");
    }
    return u.state == U_TEXT;
}

void output__escape(struct buf *out, struct str s)
{
    static const char names[] = "\"\\\n\r\t\b\f", escapes[] = "\"\\nrtbf";
    size_t from = 0;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c >= 0x20 && c != '"' && c != '\\') {
            continue;
        }
        buf_append(out, str_slice(s, from, i));
        from = i + 1;
        const char *named = c ? strchr(names, c) : NULL;
        if (named) {
            buf_putc(out, '\\');
            buf_putc(out, escapes[named - names]);
        } else {
            buf_printf(out, "\\u%04x", c);
        }
    }
    buf_append(out, str_slice(s, from, s.len));
}
