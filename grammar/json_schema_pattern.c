/* Regular expressions: ECMA-262 (with the u flag) in, PCRE2 beneath. The pattern is rewritten where the two read the
 * same text differently, and refused where only PCRE2 knows what it means. PCRE2's own limits bound one attempt at one
 * place of the text, not a search; so every item it tries calls back and is charged to the validation's steps, with the
 * text that it passed. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "grammar/json_schema_run_internal.h"
#include "grammar/pattern_walk_internal.h"

#include "base/array.h"
#include "base/utf8.h"

#include <stdlib.h>

#define NEST_MAX 100        /* groups within each other */
#define HEAP_KIB (16 << 10) /* of one match */
#define SPACES   PATTERN_SPACES "\\x{feff}"

struct regex {
    pcre2_code *code;
    struct regex *next;
};

struct matcher {
    pcre2_match_data *data;
    pcre2_match_context *context;
    struct run *run;
    size_t last; /* where the text was at the callback before */
};

/* ---- rewriting ---- */

/* n hexadecimal digits `ahead`; UTF8_INVALID: they are not there. */
static uint32_t hex_digits(const struct pattern_walk *w, size_t ahead, size_t n)
{
    uint32_t value;
    return hex_number(str_slice(w->in, w->at + ahead, w->in.len), n, &value) ? value : UTF8_INVALID;
}

/* \u{...}, \uXXXX, two of them for one character, \xXX. */
static bool put_code_point(struct pattern_walk *w)
{
    size_t len = pattern__peek(w, 1) == 'x' ? 4 : 6;
    uint32_t value = hex_digits(w, 2, len - 2);
    char bytes[4];
    if (pattern__peek(w, 1) == 'u' && pattern__peek(w, 2) == '{') {
        size_t n = 0;
        while (n < 6 && hex_digits(w, 3 + n, 1) != UTF8_INVALID) {
            n++;
        }
        value = n && pattern__peek(w, 3 + n) == '}' ? hex_digits(w, 3, n) : UTF8_INVALID;
        len = n + 4;
    } else if (value >= 0xd800 && value < 0xdc00 && pattern__peek(w, 6) == '\\' && pattern__peek(w, 7) == 'u') {
        value = utf16_pair(value, hex_digits(w, 8, 4));
        len = 12;
    }
    if (!utf8_encode(value, bytes)) {
        return pattern__refuse(w, len, "is no character");
    }
    buf_printf(w->out, "\\x{%x}", (unsigned)value);
    w->at += len;
    return true;
}

/* PCRE2 10.42 knows the short names of categories, and scripts without "Script=". */
static const struct {
    const char *name, *brief;
} properties[] = {
    {"Letter", "L"},
    {"Cased_Letter", "L&"},
    {"Uppercase_Letter", "Lu"},
    {"Lowercase_Letter", "Ll"},
    {"Titlecase_Letter", "Lt"},
    {"Modifier_Letter", "Lm"},
    {"Other_Letter", "Lo"},
    {"Mark", "M"},
    {"Nonspacing_Mark", "Mn"},
    {"Spacing_Mark", "Mc"},
    {"Enclosing_Mark", "Me"},
    {"Number", "N"},
    {"Decimal_Number", "Nd"},
    {"digit", "Nd"},
    {"Letter_Number", "Nl"},
    {"Other_Number", "No"},
    {"Punctuation", "P"},
    {"punct", "P"},
    {"Connector_Punctuation", "Pc"},
    {"Dash_Punctuation", "Pd"},
    {"Open_Punctuation", "Ps"},
    {"Close_Punctuation", "Pe"},
    {"Initial_Punctuation", "Pi"},
    {"Final_Punctuation", "Pf"},
    {"Other_Punctuation", "Po"},
    {"Symbol", "S"},
    {"Math_Symbol", "Sm"},
    {"Currency_Symbol", "Sc"},
    {"Modifier_Symbol", "Sk"},
    {"Other_Symbol", "So"},
    {"Separator", "Z"},
    {"Space_Separator", "Zs"},
    {"Line_Separator", "Zl"},
    {"Paragraph_Separator", "Zp"},
    {"Other", "C"},
    {"Control", "Cc"},
    {"Format", "Cf"},
    {"Private_Use", "Co"},
    {"Unassigned", "Cn"},
};

/* \p{Letter} */
static bool put_property(struct pattern_walk *w)
{
    static const char *const prefixes[] = {"General_Category=", "gc=", "Script=", "sc=", "Script_Extensions=", "scx="};
    size_t end = str_find_char(pattern__rest(w), '}');
    if (pattern__peek(w, 2) != '{' || end == STR_NPOS) {
        return pattern__refuse(w, 2, "needs a property in braces");
    }
    struct str name = str_slice(w->in, w->at + 3, w->at + end);
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        struct str prefix = str_of(prefixes[i]);
        name = str_starts(name, prefix) ? str_slice(name, prefix.len, name.len) : name;
    }
    for (size_t i = 0; i < ARRAY_LEN(properties); i++) {
        name = str_eq(name, str_of(properties[i].name)) ? str_of(properties[i].brief) : name;
    }
    buf_printf(w->out, "\\%c{" STR_FMT "}", pattern__peek(w, 1), STR_ARG(name));
    w->at += end + 1;
    return true;
}

static bool put_space_class(struct pattern_walk *w)
{
    bool negated = pattern__peek(w, 1) == 'S';
    if (w->in_class) { /* PCRE2 cannot take them out of a class: its own \S, which has the spaces beyond ASCII */
        return pattern__put(w, negated ? "\\S" : SPACES, 2);
    }
    return pattern__put(w, negated ? "[^" SPACES "]" : "[" SPACES "]", 2);
}

static bool put_escape(struct pattern_walk *w)
{
    int c = pattern__peek(w, 1);
    switch (c) {
    case 'u':
    case 'x':
        return put_code_point(w);
    case 'p':
    case 'P':
        return put_property(w);
    case 's':
    case 'S':
        return put_space_class(w);
    case 'v': /* any vertical space to PCRE2 */
        return pattern__put(w, "\\x{b}", 2);
    default:
        break;
    }
    if (pattern__put_escape(w, "bBdDwWfnrtk")) {
        return true;
    }
    return c < 0      ? pattern__refuse(w, 1, "escapes nothing")
           : c == 'c' ? pattern__refuse(w, 3, "is no control character")
                      : pattern__refuse(w, 2, "is no escape of ECMA-262");
}

/* "(" and what it begins; lookaround, named groups and inline modifiers may stand behind "(?". */
static bool put_group(struct pattern_walk *w)
{
    size_t n = 2;
    if (pattern__peek(w, 1) == '*') {
        return pattern__refuse(w, 2, "repeats nothing");
    }
    if (pattern__peek(w, 1) == '?' && !strchr(":=!<", pattern__peek(w, 2) > 0 ? pattern__peek(w, 2) : 'x')) {
        while (pattern__peek(w, n) > 0 && strchr("ims-", pattern__peek(w, n))) {
            n++;
        }
        if (n == 2 || (pattern__peek(w, n) != ':' && pattern__peek(w, n) != ')')) {
            return pattern__refuse(w, 3, "is no group of ECMA-262");
        }
    }
    return pattern__copy(w, pattern__peek(w, 1) == '?' ? 2 : 1);
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

/* Length of "{2}", "{2,}" or "{2,3}" at a brace; 0: it stands for itself. */
static size_t quantifier_len(const struct pattern_walk *w)
{
    size_t n = 1, digits = 0;
    for (; is_digit(pattern__peek(w, n)); n++) {
        digits++;
    }
    if (digits && pattern__peek(w, n) == ',') {
        do {
            n++;
        } while (is_digit(pattern__peek(w, n)));
    }
    return digits && pattern__peek(w, n) == '}' ? n + 1 : 0;
}

static bool put_quantifier(struct pattern_walk *w, size_t len)
{
    pattern__copy(w, len);
    return pattern__peek(w, 0) != '+' || pattern__refuse(w, 1, "repeats nothing");
}

static bool put_brace(struct pattern_walk *w)
{
    size_t len = quantifier_len(w);
    return len ? put_quantifier(w, len) : pattern__put(w, "\\{", 1);
}

static bool put_plain(struct pattern_walk *w)
{
    switch (pattern__peek(w, 0)) {
    case '[':
        return pattern__begin_class(w);
    case '(':
        return put_group(w);
    case '{':
        return put_brace(w);
    case '*':
    case '+':
    case '?':
        return put_quantifier(w, 1);
    default:
        return pattern__copy(w, 1);
    }
}

static bool put_next(struct pattern_walk *w)
{
    return pattern__peek(w, 0) == '\\' ? put_escape(w)
           : w->in_class               ? pattern__put_in_class(w, "[") /* PCRE2 has [:alpha:] */
                                       : put_plain(w);
}

static bool rewrite(struct str pattern, struct buf *out, struct error *err)
{
    struct pattern_walk w = {.in = pattern, .out = out};
    while (w.at < pattern.len && put_next(&w)) {
    }
    struct str part = str_slice(pattern, w.at, w.at + w.fault_len);
    return w.fault ? error_set(err, ERR_INVALID, "'" STR_FMT "' in the pattern %s.", STR_ARG(part), w.fault)
                   : buf_ok(out, "pattern", err);
}

/* ---- compiling ---- */

static pcre2_code *compile(struct str pattern, pcre2_compile_context *context, struct error *err)
{
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_set_newline(context, PCRE2_NEWLINE_ANYCRLF); /* what `.` does not match */
    pcre2_set_parens_nest_limit(context, NEST_MAX);
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)(pattern.ptr ? pattern.ptr : ""), pattern.len,
                      PCRE2_UTF | PCRE2_NO_UTF_CHECK | PCRE2_DOLLAR_ENDONLY | PCRE2_ALLOW_EMPTY_CLASS |
                          PCRE2_MATCH_UNSET_BACKREF | PCRE2_NEVER_BACKSLASH_C | PCRE2_AUTO_CALLOUT,
                      &code, &at, context);
    if (!compiled && code == PCRE2_ERROR_HEAP_FAILED) {
        error_set(err, ERR_NO_MEMORY, "no memory to compile a pattern of %zu bytes.", pattern.len);
    } else if (!compiled) {
        PCRE2_UCHAR why[120];
        pcre2_get_error_message(code, why, sizeof why);
        error_set(err, ERR_INVALID, "the pattern is not understood: %s.", (const char *)why);
    }
    return compiled;
}

static pcre2_code *compile_ecma(struct str pattern, struct error *err)
{
    pcre2_code *compiled = NULL;
    struct buf rewritten;
    if (pattern.len > LIMIT_SCHEMA_PATTERN) {
        error_set(err, ERR_INVALID, "the pattern has %zu bytes, more than %zu.", pattern.len, LIMIT_SCHEMA_PATTERN);
        return NULL;
    }
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) {
        error_set(err, ERR_NO_MEMORY, "no memory to compile a pattern.");
        return NULL;
    }
    buf_init(&rewritten, 64 * LIMIT_SCHEMA_PATTERN);
    if (rewrite(pattern, &rewritten, err)) {
        compiled = compile(buf_view(&rewritten), context, err);
    }
    buf_release(&rewritten);
    pcre2_compile_context_free(context);
    return compiled;
}

bool json_schema__regex_is_valid(struct str pattern)
{
    struct error err = {0};
    pcre2_code *code = compile_ecma(pattern, &err);
    pcre2_code_free(code);
    return code != NULL;
}

struct regex *json_schema__regex_compile(struct json_schema *s, struct str pattern, struct error *err)
{
    struct regex *regex = arena_alloc(s->arena, sizeof *regex);
    size_t size = 0;
    if (!regex) {
        arena_full(s->arena, "compiled JSON Schema", err);
        return NULL;
    }
    regex->code = compile_ecma(pattern, err);
    if (!regex->code) {
        return NULL;
    }
    regex->next = s->regexes;
    s->regexes = regex;
    pcre2_pattern_info(regex->code, PCRE2_INFO_SIZE, &size);
    s->regex_size += size;
    if (s->regex_size > LIMIT_SCHEMA_PATTERNS) {
        error_set(err, ERR_TOO_LARGE, "the patterns of the schema take more than %zu bytes.", LIMIT_SCHEMA_PATTERNS);
        return NULL;
    }
    return regex;
}

void json_schema__regex_free(struct regex *all)
{
    for (; all; all = all->next) {
        pcre2_code_free(all->code);
    }
}

/* ---- matching ---- */

static int charge(pcre2_callout_block *block, void *data)
{
    struct matcher *m = data;
    size_t at = block->current_position, passed = at > m->last ? at - m->last : m->last - at;
    m->last = at;
    return json_schema__spend(m->run, 1 + passed / 16) ? 0 : PCRE2_ERROR_CALLOUT;
}

static struct matcher *matcher_of(struct run *r)
{
    struct matcher *m = r->matcher;
    if (m) {
        return m;
    }
    m = calloc(1, sizeof *m);
    if (!m) {
        return NULL;
    }
    r->matcher = m;
    m->run = r;
    m->data = pcre2_match_data_create(1, NULL);
    m->context = pcre2_match_context_create(NULL);
    if (m->context) {
        pcre2_set_callout(m->context, charge, m);
        pcre2_set_heap_limit(m->context, HEAP_KIB);
    }
    return m;
}

void json_schema__matcher_free(struct run *r)
{
    if (r->matcher) {
        pcre2_match_data_free(r->matcher->data);
        pcre2_match_context_free(r->matcher->context);
        free(r->matcher);
    }
    r->matcher = NULL;
}

bool json_schema__regex_matches(struct run *r, const struct regex *regex, struct str text)
{
    struct matcher *m = matcher_of(r);
    if (!m || !m->data || !m->context) {
        return json_schema__stop(r, ERR_NO_MEMORY, "no memory to match a pattern.");
    }
    if (!json_schema__spend(r, 1 + text.len / 64)) {
        return false;
    }
    m->last = 0;
    int rc = pcre2_match(regex->code, (PCRE2_SPTR)(text.ptr ? text.ptr : ""), text.len, 0, 0, m->data, m->context);
    if (rc >= 0 || rc == PCRE2_ERROR_NOMATCH) {
        return rc >= 0;
    }
    if (rc == PCRE2_ERROR_NOMEMORY) {
        return json_schema__stop(r, ERR_NO_MEMORY, "no memory to match a pattern.");
    }
    return json_schema__stop(r, ERR_TOO_LARGE,
                             "validation was given up: a pattern takes too many steps or too much memory.");
}
