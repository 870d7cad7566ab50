/* Case and kinds of characters as Python's string methods see them. The tables come from tools/gen_case.py; letters and
 * other classes from text/unicode.h. Const data; any thread. */
#ifndef TANDEM_CHAT_JINJA_UNICODE_H
#define TANDEM_CHAT_JINJA_UNICODE_H

#include "base/buf.h"

enum jcase { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_CAPITALIZE, CASE_SWAP, CASE_FOLD };

/* Appends s (valid UTF-8) in another case, as str.upper(), .lower(), .title(), .capitalize(), .swapcase() and
 * .casefold() give it. */
void jinja__put_case(struct buf *out, struct str s, enum jcase to);

/* What str.isdigit() and the like ask. All but ASCII and PRINTABLE are false for the empty string. */
enum jchar_test {
    CHAR_DIGIT,
    CHAR_DECIMAL,
    CHAR_NUMERIC,
    CHAR_ALPHA,
    CHAR_ALNUM,
    CHAR_SPACE,
    CHAR_UPPER,
    CHAR_LOWER,
    CHAR_TITLE,
    CHAR_ASCII,
    CHAR_PRINTABLE,
    CHAR_IDENTIFIER
};
bool jinja__all_chars(struct str s, enum jchar_test test);
bool jinja__is_word(uint32_t c);                  /* \w of Python's regular expressions */
bool jinja__is_name_char(uint32_t c, bool first); /* of an identifier */

/* ---- the tables, each in order of code points; ASCII is not in them ---- */
struct case_run { /* every stride-th character from first to last maps to itself plus delta */
    uint32_t first, last, stride;
    int32_t delta;
};
struct case_special { /* maps to several characters, or has a title case of its own; 0 ends */
    uint32_t c, upper[3], lower[3], title[3];
};
struct char_range {
    uint32_t first, last;
};
extern const struct case_run jinja__to_upper[], jinja__to_lower[];
extern const struct case_special jinja__specials[];
extern const struct char_range jinja__other_lower[], jinja__other_upper[]; /* lower case, but not of category Ll */
extern const struct char_range jinja__decimal[], jinja__digit[], jinja__numeric[]; /* each without the ones before */
extern const size_t jinja__n_to_upper, jinja__n_to_lower, jinja__n_specials, jinja__n_other_lower, jinja__n_other_upper,
    jinja__n_decimal, jinja__n_digit, jinja__n_numeric;

#endif
