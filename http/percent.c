#include "http/percent.h"

int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool is_escape(struct str s)
{
    return s.len >= 3 && s.ptr[0] == '%' && hex_digit(s.ptr[1]) >= 0 && hex_digit(s.ptr[2]) >= 0;
}

int percent_byte(struct str s, size_t *used)
{
    if (is_escape(s)) {
        *used = 3;
        return hex_digit(s.ptr[1]) * 16 + hex_digit(s.ptr[2]);
    }
    *used = 1;
    return (unsigned char)s.ptr[0];
}

bool percent_valid(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '%' && !is_escape(str_slice(s, i, s.len))) {
            return false;
        }
    }
    return true;
}

bool is_token_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

bool is_token(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!is_token_char(s.ptr[i])) {
            return false;
        }
    }
    return s.len > 0;
}
