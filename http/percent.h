/* Percent-encoding (RFC 3986, section 2.1) and the character classes of HTTP (RFC 9110, section 5.6). Any thread. */
#ifndef TANDEM_HTTP_PERCENT_H
#define TANDEM_HTTP_PERCENT_H

#include "base/str.h"

int hex_digit(char c); /* 0 to 15, or -1 */

/* The byte that s (not empty) starts with, decoded; *used gets 1 or 3. An escape that is none stands for its '%'. */
int percent_byte(struct str s, size_t *used);

bool percent_valid(struct str s); /* every '%' is followed by two hexadecimal digits */

bool is_token_char(char c);
bool is_token(struct str s); /* not empty */

#endif
