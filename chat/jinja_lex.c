/* Template text to tokens. The rules are those of jinja2's lexer with trim_blocks and lstrip_blocks: a newline right
 * after a block or comment goes, blanks between a line's start and a block or comment go, "-" strips all white space on
 * its side, "+" keeps what would be stripped. */
#include "base/array.h"
#include "base/utf8.h"
#include "chat/jinja_internal.h"
#include "chat/jinja_unicode.h"

#include <stdlib.h>

#define MAX_OPEN_BRACKETS 256 /* more than the parser nests */

struct lexer {
    struct str source;
    size_t at;
    uint32_t line;
    bool line_starting; /* the last match ended with a newline, or nothing was matched yet */
    struct arena *arena;
    struct jtokens *out;
    struct error *err;
    char open[MAX_OPEN_BRACKETS]; /* closing brackets that are expected, innermost last */
    size_t n_open;
};

static bool lex_fail(struct lexer *l, const char *message)
{
    return error_set(l->err, ERR_INVALID, "template line %u: %s", l->line, message);
}

bool jinja__normalize(struct str source, struct arena *arena, struct str *out, struct error *err)
{
    char *copy = arena_alloc(arena, source.len + 1);
    size_t n = 0;
    if (!copy) {
        return arena_full(arena, "template", err);
    }
    for (size_t i = 0; i < source.len; i++) {
        bool cr = source.ptr[i] == '\r';
        i += cr && i + 1 < source.len && source.ptr[i + 1] == '\n';
        copy[n++] = cr ? '\n' : source.ptr[i];
    }
    n -= n && copy[n - 1] == '\n';
    *out = (struct str){copy, n};
    return true;
}

static struct str rest(const struct lexer *l)
{
    return str_slice(l->source, l->at, l->source.len);
}

static bool looking_at(const struct lexer *l, size_t at, struct str what)
{
    return str_starts(str_slice(l->source, at, l->source.len), what);
}

/* Moves on to `to`, counting lines. */
static void advance(struct lexer *l, size_t to)
{
    for (; l->at < to; l->at++) {
        l->line += l->source.ptr[l->at] == '\n';
    }
    l->line_starting = to > 0 && l->source.ptr[to - 1] == '\n';
}

static size_t skip_spaces(const struct lexer *l, size_t at)
{
    uint32_t c;
    while (at < l->source.len) {
        size_t n = utf8_decode(str_slice(l->source, at, l->source.len), &c);
        if (!jinja__is_space(c)) {
            break;
        }
        at += n;
    }
    return at;
}

static struct token *add(struct lexer *l, enum token_type type, struct str text)
{
    struct jtokens *t = l->out;
    if (!array_reserve(&t->items, &t->cap, t->n + 1, JINJA_MAX_SOURCE, "tokens of the template", l->err)) {
        return NULL;
    }
    struct token *token = &t->items[t->n++];
    *token = (struct token){.type = type, .line = l->line, .text = text};
    return token;
}

/* Text in front of a tag with this sign after its opening: what remains of it. */
static struct str strip_before(const struct lexer *l, struct str text, char sign, bool variable)
{
    if (sign == '-') {
        return jinja__strip(text, (struct str){NULL, 0}, false, true);
    }
    if (sign == '+' || variable) {
        return text;
    }
    size_t start = text.len;
    while (start > 0 && text.ptr[start - 1] != '\n') {
        start--;
    }
    struct str line = str_slice(text, start, text.len);
    bool blank = jinja__strip(line, (struct str){NULL, 0}, false, true).len == 0;
    return (start > 0 || l->line_starting) && blank ? str_slice(text, 0, start) : text;
}

static char sign_at(const struct lexer *l, size_t at)
{
    char c = at < l->source.len ? l->source.ptr[at] : '\0';
    return c == '-' || c == '+' ? c : '\0';
}

/* The end of a block, comment or raw tag at `at`: "%}" with its sign and what trimming takes. 0: there is none. */
static size_t tag_end(const struct lexer *l, size_t at, struct str close, bool plus, bool trim)
{
    char sign = sign_at(l, at);
    size_t after = at + (sign != '\0');
    if (!looking_at(l, after, close) || (sign == '+' && !plus)) {
        return 0;
    }
    after += close.len;
    if (sign == '-') {
        return skip_spaces(l, after);
    }
    return after + (trim && sign != '+' && after < l->source.len && l->source.ptr[after] == '\n');
}

/* After "{%" at `at`: the end of a raw tag, or 0. */
static size_t raw_begin(const struct lexer *l, size_t at)
{
    at += 2;
    at = skip_spaces(l, at + (sign_at(l, at) != '\0'));
    if (!looking_at(l, at, STR("raw"))) {
        return 0;
    }
    return tag_end(l, skip_spaces(l, at + 3), STR("%}"), false, false);
}

/* Content of a raw block, up to and with its endraw tag. */
static bool lex_raw(struct lexer *l)
{
    for (size_t at = l->at; at + 1 < l->source.len; at++) {
        if (!looking_at(l, at, STR("{%"))) {
            continue;
        }
        char sign = sign_at(l, at + 2);
        size_t name = skip_spaces(l, at + 2 + (sign != '\0'));
        size_t end =
            looking_at(l, name, STR("endraw")) ? tag_end(l, skip_spaces(l, name + 6), STR("%}"), true, true) : 0;
        if (end) {
            struct str text = strip_before(l, str_slice(l->source, l->at, at), sign, false);
            bool ok = !text.len || add(l, T_DATA, text);
            advance(l, end);
            return ok;
        }
    }
    return l->at == l->source.len || lex_fail(l, "Missing end of raw directive"); /* at the very end jinja2 takes it */
}

static bool lex_comment(struct lexer *l)
{
    for (size_t at = l->at; at < l->source.len; at++) {
        size_t end = tag_end(l, at, STR("#}"), true, true);
        if (end) {
            advance(l, end);
            return true;
        }
    }
    return l->at == l->source.len || lex_fail(l, "Missing end of comment tag");
}

static size_t name_length(struct str s)
{
    size_t n = 0;
    uint32_t c;
    while (n < s.len) {
        size_t size = utf8_decode(str_slice(s, n, s.len), &c);
        if (!jinja__is_name_char(c, n == 0)) {
            break;
        }
        n += size;
    }
    return n;
}

/* Digits of a base with single underscores between them; the first may be an underscore when `lead` says so. */
static size_t digits(struct str s, int base, bool lead)
{
    size_t n = 0;
    for (;;) {
        size_t at = n + (n < s.len && s.ptr[n] == '_' && (lead || n > 0));
        char c = at < s.len ? s.ptr[at] : '\0';
        int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : 99;
        if (digit >= base) {
            return n;
        }
        n = at + 1;
    }
}

/* Length of a float at the start of s, or 0. */
static size_t float_length(struct str s)
{
    size_t n = digits(s, 10, false), whole = n;
    if (!n) {
        return 0;
    }
    if (n < s.len && s.ptr[n] == '.') {
        size_t fraction = digits(str_slice(s, n + 1, s.len), 10, false);
        n += fraction ? 1 + fraction : 0;
    }
    if (n < s.len && (s.ptr[n] | 32) == 'e') {
        size_t sign = n + 1 < s.len && (s.ptr[n + 1] == '+' || s.ptr[n + 1] == '-');
        size_t exponent = digits(str_slice(s, n + 1 + sign, s.len), 10, false);
        n += exponent ? 1 + sign + exponent : 0;
    }
    return n == whole ? 0 : n;
}

static size_t integer_length(struct str s, int *base)
{
    char kind = s.len > 1 && s.ptr[0] == '0' ? (char)(s.ptr[1] | 32) : '\0';
    *base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
    if (*base != 10) {
        size_t n = digits(str_slice(s, 2, s.len), *base, true);
        if (n) {
            return 2 + n;
        }
        *base = 10;
    }
    return s.ptr[0] == '0' ? digits(s, 1, false) : digits(s, 10, false);
}

static bool lex_number(struct lexer *l, bool *matched)
{
    struct str s = rest(l);
    char text[64];
    int base = 10;
    bool after_dot = l->at > 0 && l->source.ptr[l->at - 1] == '.';
    size_t n = after_dot ? 0 : float_length(s), k = 0;
    bool is_float = n > 0;
    n = n ? n : integer_length(s, &base);
    *matched = n > 0;
    for (size_t i = base == 10 ? 0 : 2; i < n; i++) {
        if (s.ptr[i] != '_') {
            if (k + 1 == sizeof text) {
                return lex_fail(l, "the number is too long.");
            }
            text[k++] = s.ptr[i];
        }
    }
    struct token *t = n ? add(l, is_float ? T_FLOAT : T_INT, str_slice(s, 0, n)) : NULL;
    if (!t) {
        return !n;
    }
    text[k] = '\0';
    if (is_float) {
        t->f = strtod(text, NULL);
    } else {
        char *end;
        unsigned long long v = strtoull(text, &end, base);
        if (v > INT64_MAX) { /* also what strtoull gives on overflow */
            return lex_fail(l, "the integer has more than 64 bits.");
        }
        t->i = (int64_t)v;
    }
    advance(l, l->at + n);
    return true;
}

static size_t put_octal(struct str s, struct buf *b)
{
    uint32_t v = 0;
    size_t n = 0;
    char utf8[4];
    while (n < 3 && n < s.len && s.ptr[n] >= '0' && s.ptr[n] <= '7') {
        v = v * 8 + (uint32_t)(s.ptr[n++] - '0');
    }
    buf_append_bytes(b, utf8, utf8_encode(v, utf8));
    return n;
}

/* A backslash in front of a character outside ASCII stays, and so does the character's name as Python's
 * backslashreplace writes it: that is what jinja2's decoding gives. */
static size_t put_escaped_wide(struct str s, struct buf *b)
{
    uint32_t c;
    size_t n = utf8_decode(s, &c);
    buf_printf(b, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
    return n;
}

/* One escape: s starts behind the backslash. Returns its length, 0 when it is bad. */
static size_t put_escape(struct str s, struct buf *b)
{
    static const char names[] = "\\'\"abfnrtv", values[] = "\\'\"\a\b\f\n\r\t\v";
    char c = s.ptr[0], utf8[4];
    const char *simple = c ? strchr(names, c) : NULL;
    if (simple) {
        buf_putc(b, values[simple - names]);
        return 1;
    }
    if (c == '\n') {
        return 1;
    }
    if (c >= '0' && c <= '7') {
        return put_octal(s, b);
    }
    if (c == 'x' || c == 'u' || c == 'U') {
        size_t n = c == 'x' ? 2 : c == 'u' ? 4 : 8, size;
        uint32_t v;
        if (!hex_number(str_slice(s, 1, s.len), n, &v) || (size = utf8_encode(v, utf8)) == 0) {
            return 0;
        }
        buf_append_bytes(b, utf8, size);
        return 1 + n;
    }
    if (c == 'N') {
        return 0;
    }
    if ((unsigned char)c >= 0x80) {
        return put_escaped_wide(s, b);
    }
    buf_putc(b, '\\');
    buf_putc(b, c);
    return 1;
}

/* The value of a string's source between its quotes. */
static bool unescape(struct lexer *l, struct str s, struct str *out)
{
    if (str_find_char(s, '\\') == STR_NPOS) {
        *out = s;
        return true;
    }
    struct buf b;
    bool ok = true;
    buf_init(&b, JINJA_MAX_SOURCE * 12);
    for (size_t i = 0; ok && i < s.len;) {
        if (s.ptr[i] != '\\') {
            buf_putc(&b, s.ptr[i++]);
            continue;
        }
        size_t n = put_escape(str_slice(s, i + 1, s.len), &b);
        i += 1 + n;
        ok = n > 0 || lex_fail(l, "the string has an escape that is not valid or not supported.");
    }
    if (ok && buf_ok(&b, "string", l->err)) {
        *out = arena_str(l->arena, buf_view(&b));
        ok = out->ptr || b.len == 0 || arena_full(l->arena, "template", l->err);
    }
    buf_release(&b);
    return ok;
}

static bool lex_string(struct lexer *l, bool *matched)
{
    char quote = l->source.ptr[l->at];
    size_t end = l->at + 1;
    while (end < l->source.len && l->source.ptr[end] != quote) {
        end += l->source.ptr[end] == '\\' ? 2 : 1;
    }
    *matched = end < l->source.len;
    if (!*matched) {
        return true;
    }
    struct str text = {NULL, 0};
    if (!unescape(l, str_slice(l->source, l->at + 1, end), &text) || !add(l, T_STRING, text)) {
        return false;
    }
    advance(l, end + 1);
    return true;
}

static enum token_type operator_at(struct str s, size_t *n)
{
    static const struct {
        char text[3];
        enum token_type type;
    } operators[] = {{"//", T_FLOORDIV}, {"**", T_POW},   {"==", T_EQ},      {"!=", T_NE},      {">=", T_GE},
                     {"<=", T_LE},       {"+", T_ADD},    {"-", T_SUB},      {"/", T_DIV},      {"*", T_MUL},
                     {"%", T_MOD},       {"~", T_TILDE},  {"[", T_LBRACKET}, {"]", T_RBRACKET}, {"(", T_LPAREN},
                     {")", T_RPAREN},    {"{", T_LBRACE}, {"}", T_RBRACE},   {">", T_GT},       {"<", T_LT},
                     {"=", T_ASSIGN},    {".", T_DOT},    {":", T_COLON},    {"|", T_PIPE},     {",", T_COMMA},
                     {";", T_SEMICOLON}};
    for (size_t i = 0; i < ARRAY_LEN(operators); i++) {
        if (str_starts(s, str_of(operators[i].text))) {
            *n = strlen(operators[i].text);
            return operators[i].type;
        }
    }
    return T_EOF;
}

static bool balance(struct lexer *l, char c)
{
    static const char opening[] = "{([", closing[] = "})]";
    const char *open = strchr(opening, c);
    if (open) {
        if (l->n_open == MAX_OPEN_BRACKETS) {
            return lex_fail(l, "brackets are nested too deeply.");
        }
        l->open[l->n_open++] = closing[open - opening];
    } else if (strchr(closing, c)) {
        if (l->n_open == 0 || l->open[--l->n_open] != c) {
            return error_set(l->err, ERR_INVALID, "template line %u: unexpected '%c'", l->line, c);
        }
    }
    return true;
}

static bool lex_operator(struct lexer *l)
{
    size_t n = 0;
    enum token_type type = operator_at(rest(l), &n);
    if (type == T_EOF) {
        struct str s = rest(l);
        uint32_t c;
        size_t size = utf8_decode(s, &c);
        return error_set(l->err, ERR_INVALID, "template line %u: unexpected char '" STR_FMT "' at %zu", l->line,
                         STR_ARG(str_slice(s, 0, size)), l->at);
    }
    if (n == 1 && !balance(l, l->source.ptr[l->at])) {
        return false;
    }
    bool ok = add(l, type, str_slice(rest(l), 0, n)) != NULL;
    advance(l, l->at + n);
    return ok;
}

/* One token inside a tag. */
static bool lex_inside(struct lexer *l)
{
    char c = l->source.ptr[l->at];
    bool matched = false, ok = true;
    size_t n = name_length(rest(l));
    if (n) {
        ok = add(l, T_NAME, str_slice(rest(l), 0, n)) != NULL;
        advance(l, l->at + n);
        return ok;
    }
    if (c >= '0' && c <= '9') {
        ok = lex_number(l, &matched);
    } else if (c == '\'' || c == '"') {
        ok = lex_string(l, &matched);
    }
    return ok && (matched || lex_operator(l));
}

/* The rest of "{{ ... }}" or "{% ... %}", with the token of its end. */
static bool lex_tag(struct lexer *l, bool variable)
{
    for (;;) {
        if (l->at >= l->source.len) {
            return true; /* the parser misses the end */
        }
        size_t end = 0;
        if (l->n_open == 0) {
            end = variable ? tag_end(l, l->at, STR("}}"), false, false) : tag_end(l, l->at, STR("%}"), true, true);
        }
        if (end) {
            bool ok = add(l, variable ? T_VARIABLE_END : T_BLOCK_END, str_slice(l->source, l->at, end)) != NULL;
            advance(l, end);
            return ok;
        }
        size_t after = skip_spaces(l, l->at);
        if (after > l->at) {
            advance(l, after);
        } else if (!lex_inside(l)) {
            return false;
        }
    }
}

/* The next "{{", "{%" or "{#" from `at`; the source's length when there is none. */
static size_t find_tag(const struct lexer *l, size_t at)
{
    for (; at + 1 < l->source.len; at++) {
        const char *hit = memchr(l->source.ptr + at, '{', l->source.len - 1 - at);
        if (!hit) {
            break;
        }
        at = (size_t)(hit - l->source.ptr);
        if (hit[1] == '{' || hit[1] == '%' || hit[1] == '#') {
            return at;
        }
    }
    return l->source.len;
}

/* Text up to the next tag, and the tag. */
static bool lex_root(struct lexer *l)
{
    size_t at = find_tag(l, l->at);
    struct str text = str_slice(l->source, l->at, at);
    if (at == l->source.len) {
        bool ok = add(l, T_DATA, text) != NULL;
        advance(l, at);
        return ok;
    }
    char kind = l->source.ptr[at + 1], sign = sign_at(l, at + 2);
    text = strip_before(l, text, sign, kind == '{');
    if (text.len && !add(l, T_DATA, text)) {
        return false;
    }
    size_t raw = kind == '%' ? raw_begin(l, at) : 0;
    if (raw) {
        advance(l, raw);
        return lex_raw(l);
    }
    advance(l, at);
    if (kind != '#' && !add(l, kind == '{' ? T_VARIABLE_BEGIN : T_BLOCK_BEGIN, str_slice(l->source, at, at + 2))) {
        return false;
    }
    advance(l, at + 2 + (sign != '\0'));
    return kind == '#' ? lex_comment(l) : lex_tag(l, kind == '{');
}

bool jinja__lex(struct str source, struct arena *arena, struct jtokens *out, struct error *err)
{
    struct lexer l = {.source = source, .line = 1, .line_starting = true, .arena = arena, .out = out, .err = err};
    while (l.at < source.len) {
        if (!lex_root(&l)) {
            return false;
        }
    }
    return add(&l, T_EOF, (struct str){NULL, 0}) != NULL;
}
