#include "chat/jinja_unicode.h"

#include "base/utf8.h"
#include "chat/jinja_value.h"
#include "text/unicode.h"

static bool in_ranges(const struct char_range *ranges, size_t n, uint32_t c)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c > ranges[middle].last) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < n && c >= ranges[low].first;
}

static uint32_t map_run(const struct case_run *runs, size_t n, uint32_t c)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c > runs[middle].last) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool in = low < n && c >= runs[low].first && (c - runs[low].first) % runs[low].stride == 0;
    return in ? (uint32_t)((int32_t)c + runs[low].delta) : c;
}

static const struct case_special *find_special(uint32_t c)
{
    size_t low = 0, high = jinja__n_specials;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c > jinja__specials[middle].c) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < jinja__n_specials && jinja__specials[low].c == c ? &jinja__specials[low] : NULL;
}

static bool is_lower(uint32_t c)
{
    return c < 0x80 ? c >= 'a' && c <= 'z'
                    : (unicode_class(c) & UC_LL) || in_ranges(jinja__other_lower, jinja__n_other_lower, c);
}

static bool is_upper(uint32_t c)
{
    return c < 0x80 ? c >= 'A' && c <= 'Z'
                    : (unicode_class(c) & UC_LU) || in_ranges(jinja__other_upper, jinja__n_other_upper, c);
}

static bool is_title(uint32_t c)
{
    return c >= 0x80 && (unicode_class(c) & UC_LT);
}

static bool is_cased(uint32_t c)
{
    return is_lower(c) || is_upper(c) || is_title(c);
}

static void put_char(struct buf *out, uint32_t c)
{
    char utf8[4];
    buf_append_bytes(out, utf8, utf8_encode(c, utf8));
}

/* The characters that c becomes; how many. */
static int map_char(uint32_t c, enum jcase to, uint32_t out[3])
{
    int n = 0;
    const struct case_special *special = c < 0x80 ? NULL : find_special(c);
    if (special) {
        const uint32_t *mapped = to == CASE_LOWER ? special->lower : to == CASE_UPPER ? special->upper : special->title;
        for (; n < 3 && mapped[n]; n++) {
            out[n] = mapped[n];
        }
        return n;
    }
    if (c < 0x80) {
        bool changes = to == CASE_LOWER ? c >= 'A' && c <= 'Z' : c >= 'a' && c <= 'z';
        out[0] = changes ? c ^ 0x20 : c;
    } else {
        out[0] = to == CASE_LOWER ? map_run(jinja__to_lower, jinja__n_to_lower, c)
                                  : map_run(jinja__to_upper, jinja__n_to_upper, c);
    }
    return 1;
}

static void put_mapped(struct buf *out, uint32_t c, enum jcase to)
{
    uint32_t mapped[3];
    int n = map_char(c, to, mapped);
    for (int i = 0; i < n; i++) {
        put_char(out, mapped[i]);
    }
}

/* Lower case of the upper case of the lower case is what Unicode's CaseFolding.txt says, but for the dotless i, which
 * stays, and Cherokee, which folds to upper case. */
static void put_folded(struct buf *out, uint32_t c)
{
    const uint32_t dotless_i = 0x131;
    bool cherokee = (c >= 0x13A0 && c <= 0x13FF) || (c >= 0xAB70 && c <= 0xABBF);
    uint32_t lower[3], upper[3];
    if (c == dotless_i || cherokee) {
        put_mapped(out, c, c == dotless_i ? CASE_LOWER : CASE_UPPER);
        return;
    }
    int n_lower = map_char(c, CASE_LOWER, lower);
    for (int i = 0; i < n_lower; i++) {
        int n_upper = map_char(lower[i], CASE_UPPER, upper);
        for (int k = 0; k < n_upper; k++) {
            put_mapped(out, upper[k], CASE_LOWER);
        }
    }
}

/* Characters that final sigma looks through: marks, modifiers and some punctuation. */
static bool case_ignorable(uint32_t c)
{
    return c == '\'' || c == '.' || c == ':' || c == '^' || c == '`' || c == 0xA8 || c == 0xAD || c == 0xAF ||
           c == 0xB4 || c == 0xB7 || c == 0xB8 || c == 0x2019 || (c >= 0x80 && (unicode_class(c) & (UC_M | UC_LM)));
}

static size_t previous(struct str s, size_t at, uint32_t *c)
{
    size_t n = 1;
    while (n < at && ((unsigned char)s.ptr[at - n] & 0xC0) == 0x80) {
        n++;
    }
    utf8_decode(str_slice(s, at - n, at), c);
    return at - n;
}

/* A capital sigma at `at` ends a word: a cased letter comes before it and none after it. */
static bool final_sigma(struct str s, size_t at)
{
    uint32_t c = 0;
    size_t i = at;
    bool before = false;
    while (i > 0) {
        i = previous(s, i, &c);
        if (!case_ignorable(c)) {
            before = is_cased(c);
            break;
        }
    }
    for (i = at + 2; before && i < s.len;) {
        i += utf8_decode(str_slice(s, i, s.len), &c);
        if (!case_ignorable(c)) {
            return !is_cased(c);
        }
    }
    return before;
}

#define CAPITAL_SIGMA 0x3A3
#define FINAL_SIGMA   0x3C2

void jinja__put_case(struct buf *out, struct str s, enum jcase to)
{
    bool inside = false; /* of a word, for title case */
    for (size_t i = 0, n; i < s.len; i += n) {
        uint32_t c;
        n = utf8_decode(str_slice(s, i, s.len), &c);
        enum jcase as = to;
        if (to == CASE_FOLD) {
            put_folded(out, c);
            continue;
        }
        if (to == CASE_TITLE || to == CASE_CAPITALIZE) {
            as = inside ? CASE_LOWER : CASE_TITLE;
            inside = to == CASE_CAPITALIZE || is_cased(c);
        } else if (to == CASE_SWAP) {
            as = is_upper(c) ? CASE_LOWER : CASE_UPPER;
            if (!is_upper(c) && !is_lower(c)) {
                put_char(out, c);
                continue;
            }
        }
        if (as == CASE_LOWER && c == CAPITAL_SIGMA && final_sigma(s, i)) {
            put_char(out, FINAL_SIGMA);
        } else {
            put_mapped(out, c, as);
        }
    }
}

static bool is_decimal(uint32_t c)
{
    return c < 0x80 ? c >= '0' && c <= '9' : in_ranges(jinja__decimal, jinja__n_decimal, c);
}

static bool is_digit(uint32_t c)
{
    return is_decimal(c) || (c >= 0x80 && in_ranges(jinja__digit, jinja__n_digit, c));
}

static bool is_numeric(uint32_t c)
{
    return is_digit(c) || (c >= 0x80 && in_ranges(jinja__numeric, jinja__n_numeric, c));
}

static bool is_alpha(uint32_t c)
{
    return unicode_class(c) & UC_L;
}

bool jinja__is_word(uint32_t c)
{
    return c == '_' || is_alpha(c) || is_numeric(c);
}

bool jinja__is_name_char(uint32_t c, bool first)
{
    if (c < 0x80) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && c >= '0' && c <= '9');
    }
    return c <= 0x10FFFF && (unicode_class(c) & (first ? UC_L : UC_L | UC_M | UC_N));
}

static bool char_is(uint32_t c, enum jchar_test test, bool first)
{
    switch (test) {
    case CHAR_DIGIT:
        return is_digit(c);
    case CHAR_DECIMAL:
        return is_decimal(c);
    case CHAR_NUMERIC:
        return is_numeric(c);
    case CHAR_ALPHA:
        return is_alpha(c);
    case CHAR_ALNUM:
        return is_alpha(c) || is_numeric(c);
    case CHAR_SPACE:
        return jinja__is_space(c);
    case CHAR_ASCII:
        return c < 0x80;
    case CHAR_PRINTABLE:
        return c == ' ' || (c >= 0x21 && c < 0x7F) ||
               (c >= 0x80 && (unicode_class(c) & (UC_L | UC_M | UC_N | UC_P | UC_S)));
    default:
        return jinja__is_name_char(c, first);
    }
}

/* All cased characters are of the one case, and there is at least one. */
static bool all_cased(struct str s, enum jchar_test test)
{
    bool any = false, inside = false;
    for (size_t i = 0; i < s.len;) {
        uint32_t c;
        i += utf8_decode(str_slice(s, i, s.len), &c);
        bool upper = is_upper(c) || is_title(c), lower = is_lower(c);
        if (test == CHAR_TITLE ? (upper && inside) || (lower && !inside)
                               : (test == CHAR_UPPER ? lower || is_title(c) : upper)) {
            return false;
        }
        inside = upper || lower;
        any |= inside;
    }
    return any;
}

bool jinja__all_chars(struct str s, enum jchar_test test)
{
    if (test == CHAR_UPPER || test == CHAR_LOWER || test == CHAR_TITLE) {
        return all_cased(s, test);
    }
    for (size_t i = 0; i < s.len;) {
        uint32_t c;
        bool first = i == 0;
        i += utf8_decode(str_slice(s, i, s.len), &c);
        if (!char_is(c, test, first)) {
            return false;
        }
    }
    return s.len > 0 || test == CHAR_ASCII || test == CHAR_PRINTABLE;
}
