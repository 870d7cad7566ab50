/* What is percent-encoded well (percent_byte of base/str.h decodes) and the character classes of HTTP (RFC 9110,
 * section 5.6). Any thread. */
#ifndef TANDEM_HTTP_PERCENT_H
#define TANDEM_HTTP_PERCENT_H

#include "base/str.h"

bool percent_valid(struct str s); /* every '%' is followed by two hexadecimal digits */

bool is_token_char(char c);
bool is_token(struct str s); /* not empty */

#endif
