#include "http/percent.h"

bool percent_valid(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        size_t used;
        percent_byte(str_slice(s, i, s.len), &used);
        if (s.ptr[i] == '%' && used == 1) {
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
