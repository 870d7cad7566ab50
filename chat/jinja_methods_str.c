/* Methods of strings. */
#include "base/array.h"
#include "base/utf8.h"
#include "chat/jinja_internal.h"
#include "chat/jinja_unicode.h"

/* A string made from self, marked as self is. */
static bool same_kind(bool ok, const struct jval *self, struct jval *out)
{
    out->markup = self->markup;
    return ok;
}

static struct jval piece(const struct jval *self, size_t from, size_t to)
{
    struct jval v = jval_str(str_slice(self->s, from, to));
    v.markup = self->markup;
    return v;
}

/* ---- case ---- */

static bool map_case(struct render *r, const struct jval *self, enum jcase to, struct jval *out)
{
    size_t mark = jinja__text_begin(r);
    jinja__put_case(jinja__text(r), self->s, to);
    return same_kind(jinja__charge_bytes(r, 8 * self->s.len) && jinja__text_end(r, mark, out), self, out);
}

BUILTIN(str_upper)
{
    UNUSED;
    return map_case(r, self, CASE_UPPER, out);
}

BUILTIN(str_lower)
{
    UNUSED;
    return map_case(r, self, CASE_LOWER, out);
}

BUILTIN(str_casefold)
{
    UNUSED;
    return map_case(r, self, CASE_FOLD, out);
}

BUILTIN(str_title)
{
    UNUSED;
    return map_case(r, self, CASE_TITLE, out);
}

BUILTIN(str_capitalize)
{
    UNUSED;
    return map_case(r, self, CASE_CAPITALIZE, out);
}

BUILTIN(str_swapcase)
{
    UNUSED;
    return map_case(r, self, CASE_SWAP, out);
}

/* ---- strip ---- */

static bool strip(struct render *r, const struct jval *self, const struct jval *chars, int sides, struct jval *out)
{
    struct str set = {NULL, 0};
    if (chars->type != J_ABSENT && chars->type != J_NONE) {
        if (chars->type != J_STRING) {
            return jinja__fail(r, "strip arg must be None or str");
        }
        set = chars->s.len ? chars->s : STR("");
    }
    *out = jval_str(jinja__strip(self->s, set, sides & 1, sides & 2));
    out->markup = self->markup;
    size_t taken = self->s.len - out->s.len;
    return jinja__charge(r, taken / 8 + taken / 32 * set.len);
}

BUILTIN(str_strip)
{
    (void)raw;
    return strip(r, self, &arg[0], 3, out);
}

BUILTIN(str_lstrip)
{
    (void)raw;
    return strip(r, self, &arg[0], 1, out);
}

BUILTIN(str_rstrip)
{
    (void)raw;
    return strip(r, self, &arg[0], 2, out);
}

BUILTIN(str_removeprefix)
{
    struct str prefix;
    (void)raw;
    if (!jinja__arg_str(r, &arg[0], STR(""), &prefix)) {
        return false;
    }
    *out = piece(self, str_starts(self->s, prefix) ? prefix.len : 0, self->s.len);
    return true;
}

BUILTIN(str_removesuffix)
{
    struct str suffix;
    (void)raw;
    if (!jinja__arg_str(r, &arg[0], STR(""), &suffix)) {
        return false;
    }
    *out = piece(self, 0, self->s.len - (str_ends(self->s, suffix) ? suffix.len : 0));
    return true;
}

/* ---- searching; start and end count code points ---- */

/* The part of self between arg[1] and arg[2]; *from is its offset in code points, and false says it lies outside. */
static bool window(struct render *r, const struct jval *self, const struct jval *arg, struct str *out, int64_t *from,
                   bool *inside)
{
    int64_t n = 0, bounds[2];
    struct jval none = {.type = J_ABSENT};
    if (arg[1].type != J_ABSENT || arg[2].type != J_ABSENT) {
        n = (int64_t)jinja__n_chars(self->s);
    }
    for (int i = 0; i < 2; i++) {
        const struct jval *v = arg[1 + i].type == J_NONE ? &none : &arg[1 + i];
        if (!jinja__arg_int(r, v, i ? INT64_MAX : 0, &bounds[i])) {
            return false;
        }
        bounds[i] = bounds[i] < -n ? 0 : bounds[i] < 0 ? bounds[i] + n : bounds[i];
    }
    *from = bounds[0];
    *inside = bounds[0] == 0 || (bounds[0] <= n && bounds[0] <= bounds[1]);
    size_t start = bounds[0] == 0 ? 0 : jinja__offset(self->s, (size_t)bounds[0]);
    size_t end = bounds[1] >= n && arg[2].type == J_ABSENT ? self->s.len : jinja__offset(self->s, (size_t)bounds[1]);
    *out = str_slice(self->s, start, end < start ? start : end);
    return jinja__charge_bytes(r, self->s.len);
}

static size_t find_last(struct str s, struct str needle)
{
    if (needle.len > s.len) {
        return STR_NPOS;
    }
    for (size_t i = s.len - needle.len + 1; i-- > 0;) {
        if (memcmp(s.ptr ? s.ptr + i : "", needle.ptr ? needle.ptr : "", needle.len) == 0) {
            return i;
        }
    }
    return STR_NPOS;
}

static bool find(struct render *r, const struct jval *self, const struct jval *arg, bool last, struct jval *out)
{
    struct str needle, part;
    int64_t from;
    bool inside;
    if (!jinja__arg_str(r, &arg[0], STR(""), &needle) || !window(r, self, arg, &part, &from, &inside) ||
        !jinja__charge_search(r, part, needle)) {
        return false;
    }
    size_t at = !inside ? STR_NPOS : last ? find_last(part, needle) : needle.len ? str_find(part, needle) : 0;
    *out = jval_int(at == STR_NPOS ? -1 : from + (int64_t)jinja__n_chars(str_slice(part, 0, at)));
    return true;
}

BUILTIN(str_find_method)
{
    (void)raw;
    return find(r, self, arg, false, out);
}

BUILTIN(str_rfind)
{
    (void)raw;
    return find(r, self, arg, true, out);
}

BUILTIN(str_index)
{
    (void)raw;
    return find(r, self, arg, false, out) && (out->i >= 0 || jinja__fail(r, "substring not found"));
}

BUILTIN(str_rindex)
{
    (void)raw;
    return find(r, self, arg, true, out) && (out->i >= 0 || jinja__fail(r, "substring not found"));
}

BUILTIN(str_count)
{
    struct str needle, part;
    int64_t from, n = 0;
    bool inside;
    (void)raw;
    if (!jinja__arg_str(r, &arg[0], STR(""), &needle) || !window(r, self, arg, &part, &from, &inside) ||
        !jinja__charge_search(r, part, needle)) {
        return false;
    }
    if (needle.len == 0) {
        n = inside ? (int64_t)jinja__n_chars(part) + 1 : 0;
    } else {
        for (size_t at; inside && (at = str_find(part, needle)) != STR_NPOS; n++) {
            part = str_slice(part, at + needle.len, part.len);
        }
    }
    *out = jval_int(n);
    return true;
}

static bool affix(struct render *r, const struct jval *self, const struct jval *arg, bool end, struct jval *out)
{
    struct str part;
    int64_t from;
    bool inside, holds = false;
    const struct jval *options = &arg[0];
    size_t n = 1;
    if (!window(r, self, arg, &part, &from, &inside)) {
        return false;
    }
    if (options->type == J_TUPLE) {
        n = options->list->n;
        options = options->list->items;
    }
    for (size_t i = 0; i < n && !holds; i++) {
        if (options[i].type != J_STRING) {
            return jinja__fail(r, "%s first arg must be str or a tuple of str, not %s", end ? "endswith" : "startswith",
                               jinja__type_name(&options[i]));
        }
        holds = inside && (end ? str_ends(part, options[i].s) : str_starts(part, options[i].s));
    }
    *out = jval_bool(holds);
    return true;
}

BUILTIN(str_startswith)
{
    (void)raw;
    return affix(r, self, arg, false, out);
}

BUILTIN(str_endswith)
{
    (void)raw;
    return affix(r, self, arg, true, out);
}

/* ---- splitting and joining ---- */

static bool push_piece(struct render *r, struct jlist_builder *b, const struct jval *self, size_t from, size_t to)
{
    struct jval v = piece(self, from, to);
    return jinja__push(r, b, &v);
}

/* Length of the character before `at`. */
static size_t char_before(struct str s, size_t at)
{
    size_t n = 1;
    while (n < at && ((unsigned char)s.ptr[at - n] & 0xC0) == 0x80) {
        n++;
    }
    return n;
}

static bool space_at(struct str s, size_t at)
{
    struct str one = str_slice(s, at, s.len);
    return jinja__strip(str_slice(one, 0, jinja__offset(one, 1)), (struct str){NULL, 0}, true, false).len == 0;
}

static bool split_spaces(struct render *r, const struct jval *self, int64_t max, struct jlist_builder *b)
{
    struct str s = self->s;
    size_t at = 0;
    for (;;) {
        while (at < s.len && space_at(s, at)) {
            at += jinja__offset(str_slice(s, at, s.len), 1);
        }
        if (at == s.len) {
            return true;
        }
        if (max >= 0 && (int64_t)b->n == max) {
            return push_piece(r, b, self, at, s.len); /* with the spaces at its end */
        }
        size_t start = at;
        while (at < s.len && !space_at(s, at)) {
            at += jinja__offset(str_slice(s, at, s.len), 1);
        }
        if (!push_piece(r, b, self, start, at)) {
            return false;
        }
    }
}

/* Likewise from the end; the pieces come last first. */
static bool rsplit_spaces(struct render *r, const struct jval *self, int64_t max, struct jlist_builder *b)
{
    struct str s = self->s;
    size_t at = s.len;
    for (;;) {
        while (at > 0 && space_at(s, at - char_before(s, at))) {
            at -= char_before(s, at);
        }
        if (at == 0) {
            return true;
        }
        if (max >= 0 && (int64_t)b->n == max) {
            return push_piece(r, b, self, 0, at);
        }
        size_t end = at;
        while (at > 0 && !space_at(s, at - char_before(s, at))) {
            at -= char_before(s, at);
        }
        if (!push_piece(r, b, self, at, end)) {
            return false;
        }
    }
}

static bool split_by(struct render *r, const struct jval *self, struct str sep, int64_t max, struct jlist_builder *b)
{
    size_t from = 0, at;
    while ((max < 0 || (int64_t)b->n < max) &&
           (at = str_find(str_slice(self->s, from, self->s.len), sep)) != STR_NPOS) {
        if (!push_piece(r, b, self, from, from + at)) {
            return false;
        }
        from += at + sep.len;
    }
    return push_piece(r, b, self, from, self->s.len);
}

static bool rsplit_by(struct render *r, const struct jval *self, struct str sep, int64_t max, struct jlist_builder *b)
{
    size_t to = self->s.len, at;
    while ((max < 0 || (int64_t)b->n < max) && (at = find_last(str_slice(self->s, 0, to), sep)) != STR_NPOS) {
        if (!push_piece(r, b, self, at + sep.len, to)) {
            return false;
        }
        to = at;
    }
    return push_piece(r, b, self, 0, to);
}

static void reverse_items(struct jlist_builder *b)
{
    for (size_t i = 0; i < b->n / 2; i++) {
        struct jval v = b->items[i];
        b->items[i] = b->items[b->n - 1 - i];
        b->items[b->n - 1 - i] = v;
    }
}

static bool split(struct render *r, const struct jval *self, const struct jval *arg, bool right, struct jval *out)
{
    struct jlist_builder b = {0};
    int64_t max;
    struct str sep = {NULL, 0};
    bool spaces = arg[0].type == J_ABSENT || arg[0].type == J_NONE, ok;
    if (!jinja__arg_int(r, &arg[1], -1, &max) || (!spaces && !jinja__arg_str(r, &arg[0], STR(""), &sep)) ||
        !jinja__charge_search(r, self->s, sep)) {
        return false;
    }
    if (!spaces && sep.len == 0) {
        return jinja__fail(r, "empty separator");
    }
    if (spaces) {
        ok = right ? rsplit_spaces(r, self, max, &b) : split_spaces(r, self, max, &b);
    } else {
        ok = right ? rsplit_by(r, self, sep, max, &b) : split_by(r, self, sep, max, &b);
    }
    if (right) {
        reverse_items(&b);
    }
    return ok && jinja__list(r, &b, J_LIST, out);
}

BUILTIN(str_split_method)
{
    (void)raw;
    return split(r, self, arg, false, out);
}

BUILTIN(str_rsplit)
{
    (void)raw;
    return split(r, self, arg, true, out);
}

/* Length of the line end at s, as str.splitlines knows them; 0: none. */
static size_t line_end(struct str s)
{
    static const char *const ends[] = {"\r\n", "\n",   "\r",       "\v",           "\f",          "\x1c",
                                       "\x1d", "\x1e", "\xc2\x85", "\xe2\x80\xa8", "\xe2\x80\xa9"};
    bool may = s.ptr[0] == '\xc2' || s.ptr[0] == '\xe2' || (unsigned char)s.ptr[0] < 0x20; /* the common case is not */
    for (size_t i = 0; may && i < ARRAY_LEN(ends); i++) {
        if (str_starts(s, str_of(ends[i]))) {
            return strlen(ends[i]);
        }
    }
    return 0;
}

BUILTIN(str_splitlines)
{
    struct jlist_builder b = {0};
    bool keep = jinja__arg_bool(&arg[0], false);
    size_t start = 0, at = 0;
    (void)raw;
    while (at < self->s.len) {
        size_t n = line_end(str_slice(self->s, at, self->s.len));
        if (n && !push_piece(r, &b, self, start, keep ? at + n : at)) {
            return false;
        }
        at += n ? n : 1;
        start = n ? at : start;
    }
    if (start < self->s.len && !push_piece(r, &b, self, start, self->s.len)) {
        return false;
    }
    return jinja__charge_bytes(r, 4 * self->s.len) && jinja__list(r, &b, J_LIST, out);
}

static bool partition(struct render *r, const struct jval *self, const struct jval *arg, bool right, struct jval *out)
{
    struct str sep;
    struct jlist_builder b = {0};
    if (!jinja__arg_str(r, &arg[0], STR(""), &sep) || !jinja__charge_search(r, self->s, sep)) {
        return false;
    }
    if (sep.len == 0) {
        return jinja__fail(r, "empty separator");
    }
    size_t n = self->s.len, at = right ? find_last(self->s, sep) : str_find(self->s, sep);
    size_t cut[4] = {0, at, at + sep.len, n};
    if (at == STR_NPOS) {
        cut[1] = cut[2] = right ? 0 : n;
    }
    for (int i = 0; i < 3; i++) {
        if (!push_piece(r, &b, self, cut[i], cut[i + 1])) {
            return false;
        }
    }
    return jinja__list(r, &b, J_TUPLE, out);
}

BUILTIN(str_partition)
{
    (void)raw;
    return partition(r, self, arg, false, out);
}

BUILTIN(str_rpartition)
{
    (void)raw;
    return partition(r, self, arg, true, out);
}

BUILTIN(str_join)
{
    struct jval item, text;
    struct jlist_builder b = {0};
    (void)raw;
    if (!jinja__collect(r, &arg[0], &b)) {
        return false;
    }
    size_t mark = jinja__text_begin(r);
    for (size_t i = 0; i < b.n; i++) {
        item = text = b.items[i];
        if (item.type != J_STRING) {
            return jinja__fail(r, "sequence item %zu: expected str instance, %s found", i, jinja__type_name(&item));
        }
        if (self->markup && !jinja__escape(r, &item, &text)) {
            return false;
        }
        if (i) {
            buf_append(jinja__text(r), self->s);
        }
        buf_append(jinja__text(r), text.s);
    }
    return same_kind(jinja__text_end(r, mark, out), self, out);
}

static void put_replaced(struct buf *b, struct str s, struct str old, struct str new, int64_t count)
{
    size_t at;
    if (old.len == 0) { /* between all characters */
        for (; count > 0; count--) {
            size_t n = jinja__offset(s, 1);
            buf_append(b, new);
            buf_append(b, str_slice(s, 0, n));
            s = str_slice(s, n, s.len);
            if (n == 0) {
                return;
            }
        }
    }
    for (; count > 0 && (at = str_find(s, old)) != STR_NPOS; count--) {
        buf_append(b, str_slice(s, 0, at));
        buf_append(b, new);
        s = str_slice(s, at + old.len, s.len);
        if (b->failed) {
            return;
        }
    }
    buf_append(b, s);
}

BUILTIN(str_replace)
{
    struct str old, new;
    struct jval escaped = arg[1];
    int64_t count;
    (void)raw;
    if (!jinja__arg_str(r, &arg[0], STR(""), &old) || !jinja__arg_int(r, &arg[2], -1, &count)) {
        return false;
    }
    if (self->markup && !jinja__escape(r, &arg[1], &escaped)) {
        return false;
    }
    if (!jinja__arg_str(r, &escaped, STR(""), &new) || !jinja__charge_search(r, self->s, old)) {
        return false;
    }
    size_t mark = jinja__text_begin(r);
    put_replaced(jinja__text(r), self->s, old, new, count < 0 ? INT64_MAX : count);
    return same_kind(jinja__text_end(r, mark, out), self, out);
}

/* ---- padding ---- */

static bool justify(struct render *r, const struct jval *self, const struct jval *arg, char align, struct jval *out)
{
    int64_t width;
    struct str fill;
    uint32_t c = ' ';
    if (!jinja__arg_int(r, &arg[0], 0, &width) || !jinja__arg_str(r, &arg[1], STR(" "), &fill)) {
        return false;
    }
    if (jinja__n_chars(fill) != 1) {
        return jinja__fail(r, "The fill character must be exactly one character long");
    }
    if (width > (int64_t)r->max_output) {
        return error_set(r->err, ERR_TOO_LARGE, "template line %u: a string has more than %zu bytes.", r->line,
                         r->max_output);
    }
    utf8_decode(fill, &c);
    size_t n = jinja__n_chars(self->s), mark = jinja__text_begin(r);
    int64_t pad = width > (int64_t)n ? width - (int64_t)n : 0;
    int64_t left = align == '^' ? pad / 2 + (pad & width & 1) : align == '>' ? pad : 0;
    struct jspec before = {.fill = c, .align = '>', .width = left},
                 after = {.fill = c, .align = '>', .width = pad - left};
    bool ok = jinja__pad(r, STR(""), &before, '>');
    buf_append(jinja__text(r), self->s);
    return same_kind(ok && jinja__pad(r, STR(""), &after, '>') && jinja__text_end(r, mark, out), self, out);
}

BUILTIN(str_center)
{
    (void)raw;
    return justify(r, self, arg, '^', out);
}

BUILTIN(str_ljust)
{
    (void)raw;
    return justify(r, self, arg, '<', out);
}

BUILTIN(str_rjust)
{
    (void)raw;
    return justify(r, self, arg, '>', out);
}

BUILTIN(str_zfill)
{
    struct jval zero[2] = {arg[0], jval_str(STR("0"))}, digits, padded;
    bool sign = self->s.len && (self->s.ptr[0] == '+' || self->s.ptr[0] == '-');
    int64_t width;
    (void)raw;
    if (!jinja__arg_int(r, &arg[0], 0, &width)) {
        return false;
    }
    zero[0] = jval_int(width - sign);
    digits = piece(self, sign, self->s.len);
    return justify(r, &digits, zero, '>', &padded) &&
           same_kind(jinja__concat(r, str_slice(self->s, 0, sign), padded.s, out), self, out);
}

/* Appends what the table says of a character: another one by its number, a string, or nothing. */
static bool put_translated(struct render *r, const struct jdict *table, struct str c, uint32_t code)
{
    struct jval key = jval_int(code);
    const struct jval *to;
    char utf8[4];
    if (!jinja__dict_find(r, table, &key, &to)) {
        return false;
    }
    if (!to || to->type == J_STRING) {
        buf_append(jinja__text(r), to ? to->s : c);
        return true;
    }
    if (to->type == J_NONE) {
        return true;
    }
    if (!jval_is_int(to)) {
        return jinja__fail(r, "character mapping must return integer, None or str");
    }
    int64_t i = jval_to_int(to);
    if (i < 0 || i > 0x10FFFF || (i >= 0xD800 && i < 0xE000)) {
        return jinja__fail(r, "character mapping must be in range(0x110000)");
    }
    buf_append_bytes(jinja__text(r), utf8, utf8_encode((uint32_t)i, utf8));
    return true;
}

BUILTIN(str_translate)
{
    size_t mark = jinja__text_begin(r);
    (void)raw;
    if (arg[0].type != J_DICT) {
        return jinja__fail(r, "a translation table of type '%s' is not supported.", jinja__type_name(&arg[0]));
    }
    for (size_t i = 0, n; i < self->s.len; i += n) {
        uint32_t c;
        n = utf8_decode(str_slice(self->s, i, self->s.len), &c);
        if (!jinja__charge(r, 1) || !put_translated(r, arg[0].dict, str_slice(self->s, i, i + n), c)) {
            return false;
        }
    }
    return same_kind(jinja__text_end(r, mark, out), self, out);
}

BUILTIN(str_expandtabs)
{
    int64_t size, column = 0;
    size_t mark = jinja__text_begin(r);
    (void)raw;
    if (!jinja__arg_int(r, &arg[0], 8, &size) || (size > 256 && !jinja__fail(r, "the tab size is too big."))) {
        return false;
    }
    for (size_t i = 0; i < self->s.len; i++) {
        char c = self->s.ptr[i];
        if (c == '\t') {
            for (int64_t n = size > 0 ? size - column % size : 0; n > 0; n--, column++) {
                buf_putc(jinja__text(r), ' ');
            }
        } else {
            buf_putc(jinja__text(r), c);
            column = c == '\n' || c == '\r' ? 0 : column + (((unsigned char)c & 0xC0) != 0x80);
        }
    }
    return same_kind(jinja__charge_bytes(r, self->s.len) && jinja__text_end(r, mark, out), self, out);
}

BUILTIN(str_format_method)
{
    (void)arg;
    return jinja__str_format(r, self, raw, out);
}

/* ---- kinds ---- */

#define KIND(name, test)                                   \
    BUILTIN(name)                                          \
    {                                                      \
        UNUSED;                                            \
        *out = jval_bool(jinja__all_chars(self->s, test)); \
        return jinja__charge_bytes(r, 4 * self->s.len);    \
    }
KIND(str_isdigit, CHAR_DIGIT)
KIND(str_isdecimal, CHAR_DECIMAL)
KIND(str_isnumeric, CHAR_NUMERIC)
KIND(str_isalpha, CHAR_ALPHA)
KIND(str_isalnum, CHAR_ALNUM)
KIND(str_isspace, CHAR_SPACE)
KIND(str_isupper, CHAR_UPPER)
KIND(str_islower, CHAR_LOWER)
KIND(str_istitle, CHAR_TITLE)
KIND(str_isascii, CHAR_ASCII)
KIND(str_isprintable, CHAR_PRINTABLE)
KIND(str_isidentifier, CHAR_IDENTIFIER)

/* ---- the table ---- */

const struct jbuiltin jinja__str_methods[] = {
    {"upper", "/", str_upper},
    {"lower", "/", str_lower},
    {"casefold", "/", str_casefold},
    {"title", "/", str_title},
    {"capitalize", "/", str_capitalize},
    {"swapcase", "/", str_swapcase},
    {"strip", "/ chars?", str_strip},
    {"lstrip", "/ chars?", str_lstrip},
    {"rstrip", "/ chars?", str_rstrip},
    {"removeprefix", "/ prefix", str_removeprefix},
    {"removesuffix", "/ suffix", str_removesuffix},
    {"find", "/ sub start? end?", str_find_method},
    {"rfind", "/ sub start? end?", str_rfind},
    {"index", "/ sub start? end?", str_index},
    {"rindex", "/ sub start? end?", str_rindex},
    {"count", "/ sub start? end?", str_count},
    {"startswith", "/ prefix start? end?", str_startswith},
    {"endswith", "/ suffix start? end?", str_endswith},
    {"split", "sep? maxsplit?", str_split_method},
    {"rsplit", "sep? maxsplit?", str_rsplit},
    {"splitlines", "keepends?", str_splitlines},
    {"partition", "/ sep", str_partition},
    {"rpartition", "/ sep", str_rpartition},
    {"join", "/ iterable", str_join},
    {"replace", "/ old new count?", str_replace},
    {"center", "/ width fillchar?", str_center},
    {"ljust", "/ width fillchar?", str_ljust},
    {"rjust", "/ width fillchar?", str_rjust},
    {"translate", "/ table", str_translate},
    {"zfill", "/ width", str_zfill},
    {"expandtabs", "tabsize?", str_expandtabs},
    {"format", "*", str_format_method},
    {"isdigit", "/", str_isdigit},
    {"isdecimal", "/", str_isdecimal},
    {"isnumeric", "/", str_isnumeric},
    {"isalpha", "/", str_isalpha},
    {"isalnum", "/", str_isalnum},
    {"isspace", "/", str_isspace},
    {"isupper", "/", str_isupper},
    {"islower", "/", str_islower},
    {"istitle", "/", str_istitle},
    {"isascii", "/", str_isascii},
    {"isprintable", "/", str_isprintable},
    {"isidentifier", "/", str_isidentifier},
    {NULL, NULL, NULL},
};
