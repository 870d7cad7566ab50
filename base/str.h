/* String views: a pointer and a length into memory that someone else owns. May hold NUL bytes; never owned. */
#ifndef TANDEM_BASE_STR_H
#define TANDEM_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *ptr; /* may be NULL when len is 0 */
    size_t len;
};

#define STR(literal) ((struct str){"" literal, sizeof(literal) - 1})
#define STR_FMT      "%.*s" /* printf("name " STR_FMT, STR_ARG(s)) */
#define STR_ARG(s)   ((int)((s).len > INT32_MAX ? INT32_MAX : (s).len)), ((s).ptr ? (s).ptr : "")

static inline struct str str_of(const char *c_string)
{
    return (struct str){c_string, c_string ? strlen(c_string) : 0};
}

static inline struct str str_slice(struct str s, size_t from, size_t to) /* clamped to s */
{
    to = to > s.len ? s.len : to;
    from = from > to ? to : from;
    return (struct str){s.ptr ? s.ptr + from : NULL, to - from};
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool str_starts(struct str s, struct str prefix)
{
    return s.len >= prefix.len && str_eq(str_slice(s, 0, prefix.len), prefix);
}

static inline bool str_ends(struct str s, struct str suffix)
{
    return s.len >= suffix.len && str_eq(str_slice(s, s.len - suffix.len, s.len), suffix);
}

#define STR_NPOS ((size_t)-1)

int str_cmp(struct str a, struct str b);          /* bytewise, like memcmp then by length */
bool str_eq_nocase(struct str a, struct str b);   /* ASCII letters only */
size_t str_find(struct str s, struct str needle); /* offset of the first occurrence, or STR_NPOS */
size_t str_find_char(struct str s, char c);       /* likewise */
struct str str_path_name(struct str path);        /* behind its last '/', those at its end left out; "/" of the root */
struct str str_trim(struct str s);                /* without leading and trailing space, \t, \r, \n */
bool str_split(struct str *rest, char sep, struct str *part); /* takes the next part off *rest; false at the end */

int hex_digit(char c); /* 0 to 15, or -1 */
/* The number in the first n (at most 8) digits of s. False: there are not so many; *out is untouched. */
bool hex_number(struct str s, size_t n, uint32_t *out);

/* Of percent-encoding (RFC 3986, section 2.1): the byte that s (not empty) starts with, decoded; *used gets 1 or 3. An
 * escape that is none stands for its '%'. */
int percent_byte(struct str s, size_t *used);

/* Strict decimal numbers: the whole view, an optional '-', no spaces, in range. False leaves *out untouched. */
bool str_to_i64(struct str s, int64_t *out);
bool str_to_u64(struct str s, uint64_t *out);
bool str_to_f64(struct str s, double *out); /* also exponents; finite only */

/* Shell-style pattern with '*' and '?' over bytes, in time pattern x text at most, whatever the pattern. */
bool str_match(struct str pattern, struct str s);

#endif
