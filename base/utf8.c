#include "base/utf8.h"

/* Bytes that may follow a lead byte, and the range of the second byte (Unicode 3.9, table 3-7). */
struct lead {
    uint8_t length, second_min, second_max;
};

static struct lead lead_of(uint8_t c)
{
    if (c >= 0xC2 && c <= 0xDF) {
        return (struct lead){2, 0x80, 0xBF};
    }
    if (c >= 0xE0 && c <= 0xEF) {
        return (struct lead){3, c == 0xE0 ? 0xA0 : 0x80, c == 0xED ? 0x9F : 0xBF};
    }
    if (c >= 0xF0 && c <= 0xF4) {
        return (struct lead){4, c == 0xF0 ? 0x90 : 0x80, c == 0xF4 ? 0x8F : 0xBF};
    }
    return (struct lead){0, 0, 0};
}

/* Number of bytes at the front that agree with a character; *whole: it is complete. */
static size_t valid_part(struct str s, bool *whole, uint8_t *length)
{
    const uint8_t *p = (const uint8_t *)s.ptr;
    *length = 1;
    *whole = p[0] < 0x80;
    if (*whole) {
        return 1;
    }
    struct lead lead = lead_of(p[0]);
    if (lead.length == 0) {
        return 1;
    }
    *length = lead.length;
    size_t n = 1;
    while (n < s.len && n < lead.length) {
        uint8_t min = n == 1 ? lead.second_min : 0x80, max = n == 1 ? lead.second_max : 0xBF;
        if (p[n] < min || p[n] > max) {
            break;
        }
        n++;
    }
    *whole = n == lead.length;
    return n;
}

size_t utf8_decode(struct str s, uint32_t *code_point)
{
    bool whole;
    uint8_t length;
    size_t n = valid_part(s, &whole, &length);
    const uint8_t *p = (const uint8_t *)s.ptr;
    if (!whole) {
        *code_point = UTF8_INVALID;
        return n;
    }
    static const uint8_t lead_bits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t value = p[0] & lead_bits[length];
    for (size_t i = 1; i < n; i++) {
        value = value << 6 | (p[i] & 0x3F);
    }
    *code_point = value;
    return n;
}

size_t utf8_encode(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c >= 0xD800 && c <= 0xDFFF) {
        return 0;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    if (c > 0x10FFFF) {
        return 0;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

uint32_t utf16_pair(uint32_t high, uint32_t low)
{
    bool pair = high >= 0xD800 && high < 0xDC00 && low >= 0xDC00 && low < 0xE000;
    return pair ? 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00) : UTF8_INVALID;
}

bool utf8_valid(struct str s)
{
    size_t i = 0;
    while (i < s.len) {
        if ((uint8_t)s.ptr[i] < 0x80) {
            i++;
            continue;
        }
        bool whole;
        uint8_t length;
        i += valid_part(str_slice(s, i, s.len), &whole, &length);
        if (!whole) {
            return false;
        }
    }
    return true;
}

size_t utf8_count(struct str s)
{
    size_t n = 0;
    uint32_t ignored;
    for (size_t i = 0; i < s.len; n++) {
        i += utf8_decode(str_slice(s, i, s.len), &ignored);
    }
    return n;
}

size_t utf8_complete_prefix(struct str s)
{
    for (size_t back = 1; back <= 3 && back <= s.len; back++) {
        struct str tail = str_slice(s, s.len - back, s.len);
        bool whole;
        uint8_t length;
        if (((uint8_t)tail.ptr[0] & 0xC0) == 0x80) {
            continue; /* a continuation byte: the lead is further left */
        }
        size_t n = valid_part(tail, &whole, &length);
        return !whole && n == back && n < length ? s.len - back : s.len;
    }
    return s.len;
}

size_t utf8_cut(struct str s, size_t max)
{
    if (s.len <= max) {
        return s.len;
    }
    size_t n = max;
    while (n > 0 && max - n < 3 && ((uint8_t)s.ptr[n] & 0xC0) == 0x80) {
        n--;
    }
    bool whole;
    uint8_t length;
    size_t reach = valid_part(str_slice(s, n, s.len), &whole, &length);
    return whole && n + reach > max ? n : max; /* bytes that are no character may be cut anywhere */
}

static bool is_control(uint32_t code_point)
{
    return (code_point < ' ' && code_point != '\n' && code_point != '\t') || (code_point >= 0x7f && code_point < 0xa0);
}

void utf8_make_plain(char *text, size_t len)
{
    uint32_t code_point;
    for (size_t i = 0, n; i < len; i += n) {
        n = utf8_decode((struct str){text + i, len - i}, &code_point);
        if (code_point == UTF8_INVALID || is_control(code_point)) {
            memset(text + i, '?', n);
        }
    }
}
