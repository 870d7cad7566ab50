/* UTF-8 (RFC 3629): decoding, validation and cutting. Shortest forms only, no surrogates, up to U+10FFFF. */
#ifndef TANDEM_BASE_UTF8_H
#define TANDEM_BASE_UTF8_H

#include "base/str.h"

#define UTF8_INVALID UINT32_MAX

/* Decodes the character at s.ptr. Returns its length in bytes (1 to 4) and stores the code point; for an invalid or
 * truncated sequence stores UTF8_INVALID and returns the number of bytes of its maximal valid prefix (at least 1), as
 * Unicode 3.9 "substitution of maximal subparts" has it. s.len must be at least 1. */
size_t utf8_decode(struct str s, uint32_t *code_point);

size_t utf8_encode(uint32_t code_point, char out[4]); /* bytes written; 0 for surrogates and above U+10FFFF */
/* The character of two halves, as JSON and JavaScript write those above U+FFFF; UTF8_INVALID: they are no pair. */
uint32_t utf16_pair(uint32_t high, uint32_t low);
bool utf8_valid(struct str s);
size_t utf8_count(struct str s); /* characters; each maximal invalid subpart counts as one */

/* In place: what is no UTF-8, and control characters but \n and \t, which terminals obey, become '?', byte by byte. */
void utf8_make_plain(char *text, size_t len);

/* Length of the longest prefix of s that does not end inside a character that more bytes could complete. */
size_t utf8_complete_prefix(struct str s);

/* Largest n <= max such that the first n bytes of s do not cut a character. */
size_t utf8_cut(struct str s, size_t max);

#endif
