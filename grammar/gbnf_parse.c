#include "grammar/gbnf_internal.h"

#include "base/array.h"
#include "base/utf8.h"

#include <stdlib.h>

struct parser {
    struct gbnf *g;
    size_t at;
    int depth;
    struct error *err;
};

static bool parse_alternatives(struct parser *p, bool in_group, uint32_t *out);

/* ---- places and characters ---- */

static bool fail_at(struct parser *p, size_t at, const char *what)
{
    struct str before = str_slice(p->g->text, 0, at);
    size_t line = 1, start = 0;
    for (size_t i = 0; i < before.len; i++) {
        if (before.ptr[i] == '\n') {
            line++;
            start = i + 1;
        }
    }
    return error_set(p->err, ERR_INVALID, "GBNF line %zu, column %zu: %s.", line,
                     utf8_count(str_slice(before, start, before.len)) + 1, what);
}

static char peek(const struct parser *p)
{
    return p->at < p->g->text.len ? p->g->text.ptr[p->at] : '\0';
}

static bool looking_at(const struct parser *p, struct str what)
{
    return str_starts(str_slice(p->g->text, p->at, p->g->text.len), what);
}

static void skip_space(struct parser *p, bool newlines)
{
    for (;;) {
        char c = peek(p);
        if (c == '#') {
            while (p->at < p->g->text.len && peek(p) != '\n' && peek(p) != '\r') {
                p->at++;
            }
        } else if (c == ' ' || c == '\t' || (newlines && (c == '\n' || c == '\r'))) {
            p->at++;
        } else {
            return;
        }
    }
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static struct str take_name(struct parser *p)
{
    size_t start = p->at;
    while (is_name_char(peek(p))) {
        p->at++;
    }
    return str_slice(p->g->text, start, p->at);
}

static bool take_hex(struct parser *p, int digits, uint32_t *out)
{
    uint32_t v = 0;
    for (int i = 0; i < digits; i++, p->at++) {
        int d = hex_digit(peek(p));
        if (d < 0) {
            return fail_at(p, p->at, "a hexadecimal digit of an escape is missing");
        }
        v = v << 4 | (uint32_t)d;
    }
    *out = v;
    return true;
}

static bool take_escape(struct parser *p, uint32_t *out)
{
    static const char from[] = "nrt\\\"[]", to[] = "\n\r\t\\\"[]";
    size_t start = p->at++;
    char c = peek(p);
    const char *plain = c ? strchr(from, c) : NULL;
    p->at++;
    if (plain) {
        *out = (uint8_t)to[plain - from];
        return true;
    }
    if (c != 'x' && c != 'u' && c != 'U') {
        return fail_at(p, start, "there is no such escape");
    }
    if (!take_hex(p, c == 'x' ? 2 : c == 'u' ? 4 : 8, out)) {
        return false;
    }
    char utf8[4];
    return utf8_encode(*out, utf8) ? true : fail_at(p, start, "the escape is no character of Unicode");
}

/* One character of a literal or a class, which `end` would end. */
static bool take_char(struct parser *p, const char *unended, uint32_t *out)
{
    if (p->at >= p->g->text.len || peek(p) == '\0') {
        return fail_at(p, p->at, unended);
    }
    if (peek(p) == '\\') {
        return take_escape(p, out);
    }
    p->at += utf8_decode(str_slice(p->g->text, p->at, p->g->text.len), out);
    return true;
}

/* ---- nodes ---- */

static bool add_char(struct parser *p, uint32_t c)
{
    struct gbnf *g = p->g;
    if (!array_reserve(&g->chars, &g->chars_cap, g->n_chars + 1, 2 * LIMIT_GRAMMAR_SIZE, "characters of a grammar",
                       p->err)) {
        return false;
    }
    g->chars[g->n_chars++] = c;
    return true;
}

static bool add_node(struct parser *p, enum gbnf_kind kind, uint32_t from, uint32_t n, uint32_t *out)
{
    struct gbnf *g = p->g;
    if (!array_reserve(&g->nodes, &g->nodes_cap, g->n_nodes + 1, GBNF_MAX_NODES, "parts of a grammar", p->err)) {
        return false;
    }
    *out = (uint32_t)g->n_nodes++;
    g->nodes[*out] =
        (struct gbnf_node){.kind = (uint8_t)kind, .child = GBNF_NONE, .next = GBNF_NONE, .from = from, .n = n};
    return true;
}

static bool find_rule(struct parser *p, struct str name, size_t at, uint32_t *out)
{
    struct gbnf *g = p->g;
    for (*out = 0; *out < g->n_rules; ++*out) {
        if (str_eq(g->rules[*out].name, name)) {
            return true;
        }
    }
    if (!array_reserve(&g->rules, &g->rules_cap, g->n_rules + 1, GBNF_MAX_RULES, "rules of a grammar", p->err)) {
        return false;
    }
    g->rules[g->n_rules++] = (struct gbnf_rule){.name = name, .body = GBNF_NONE, .at = (uint32_t)at};
    return true;
}

/* ---- parts of a sequence ---- */

static bool parse_literal(struct parser *p, uint32_t *out)
{
    uint32_t from = (uint32_t)p->g->n_chars, c;
    p->at++;
    while (peek(p) != '"') {
        if (!take_char(p, "the literal has no end", &c) || !add_char(p, c)) {
            return false;
        }
    }
    p->at++;
    return add_node(p, GBNF_CHARS, from, (uint32_t)p->g->n_chars - from, out);
}

static bool parse_class(struct parser *p, uint32_t *out)
{
    static const char unended[] = "the class of characters has no end";
    uint32_t from = (uint32_t)p->g->n_chars, first, last;
    size_t start = p->at++;
    bool negated = peek(p) == '^';
    p->at += negated;
    while (peek(p) != ']') {
        size_t here = p->at;
        if (!take_char(p, unended, &first)) {
            return false;
        }
        last = first;
        if (peek(p) == '-' && p->at + 1 < p->g->text.len && p->g->text.ptr[p->at + 1] != ']') {
            p->at++;
            if (!take_char(p, unended, &last)) {
                return false;
            }
        }
        if (last < first) {
            return fail_at(p, here, "the range of characters is empty");
        }
        if (!add_char(p, first) || !add_char(p, last)) {
            return false;
        }
    }
    p->at++;
    if (p->g->n_chars == from && !negated) {
        return fail_at(p, start, "the class has no characters");
    }
    if (!add_node(p, GBNF_CLASS, from, (uint32_t)p->g->n_chars - from, out)) {
        return false;
    }
    p->g->nodes[*out].negated = negated;
    return true;
}

static bool parse_token(struct parser *p, uint32_t *out)
{
    size_t start = p->at;
    bool negated = peek(p) == '!';
    p->at += negated;
    size_t from = p->at;
    if (peek(p) != '<') {
        return fail_at(p, start, "a token, <...>, is expected behind '!'");
    }
    while (peek(p) != '>' && peek(p) > ' ') {
        p->at++;
    }
    struct str token = str_slice(p->g->text, from, p->at + 1);
    if (peek(p) != '>' || token.len < 3 || str_find_char(str_slice(token, 1, token.len), '<') != STR_NPOS) {
        return fail_at(p, start, "the token has no end, or no name");
    }
    if (negated && !str_starts(token, STR("<["))) {
        return fail_at(p, start, "only a token with its id, !<[id]>, can be excluded");
    }
    p->at++;
    if (!add_node(p, GBNF_TOKEN, (uint32_t)from, (uint32_t)token.len, out)) {
        return false;
    }
    p->g->nodes[*out].negated = negated;
    return true;
}

static bool parse_group(struct parser *p, uint32_t *out)
{
    size_t start = p->at++;
    if (++p->depth > GBNF_MAX_DEPTH) {
        return fail_at(p, start, "there are too many groups within groups");
    }
    if (!parse_alternatives(p, true, out)) {
        return false;
    }
    p->depth--;
    if (peek(p) != ')') {
        return fail_at(p, p->at, "a ')' is expected");
    }
    p->at++;
    return true;
}

static bool parse_any(struct parser *p, uint32_t *out)
{
    p->at++;
    if (!add_node(p, GBNF_CLASS, 0, 0, out)) {
        return false;
    }
    p->g->nodes[*out].negated = true; /* of nothing */
    return true;
}

static bool parse_ref(struct parser *p, uint32_t *out)
{
    size_t start = p->at;
    uint32_t rule;
    return find_rule(p, take_name(p), start, &rule) && add_node(p, GBNF_REF, rule, 0, out);
}

/* ---- repetitions ---- */

static bool take_count(struct parser *p, uint32_t *out)
{
    size_t start = p->at;
    uint64_t v;
    while (peek(p) >= '0' && peek(p) <= '9') {
        p->at++;
    }
    if (!str_to_u64(str_slice(p->g->text, start, p->at), &v) || v > GBNF_MAX_COUNT) {
        return fail_at(p, start, "a number of repetitions, at most 65535, is expected");
    }
    *out = (uint32_t)v;
    return true;
}

static bool parse_counts(struct parser *p, uint32_t *min, uint32_t *max)
{
    size_t start = p->at++;
    skip_space(p, true);
    if (!take_count(p, min)) {
        return false;
    }
    skip_space(p, true);
    *max = *min;
    if (peek(p) == ',') {
        p->at++;
        skip_space(p, true);
        *max = GBNF_MANY;
        if (peek(p) != '}' && !take_count(p, max)) {
            return false;
        }
        skip_space(p, true);
    }
    if (peek(p) != '}' || *max < *min) {
        return fail_at(p, start, *max < *min ? "the repetition ends before it begins" : "the repetition has no '}'");
    }
    p->at++;
    return true;
}

static bool is_postfix(char c)
{
    return c == '*' || c == '+' || c == '?' || c == '{';
}

static bool parse_postfix(struct parser *p, uint32_t *node)
{
    for (int n = 0; is_postfix(peek(p)); n++) {
        uint32_t min = peek(p) == '+', max = peek(p) == '?' ? 1 : GBNF_MANY, repeat;
        if (n == GBNF_MAX_DEPTH) {
            return fail_at(p, p->at, "there are too many repetitions of repetitions");
        }
        if (peek(p) == '{') {
            if (!parse_counts(p, &min, &max)) {
                return false;
            }
        } else {
            p->at++;
        }
        if (!add_node(p, GBNF_REPEAT, min, max, &repeat)) {
            return false;
        }
        p->g->nodes[repeat].child = *node;
        *node = repeat;
    }
    return true;
}

/* ---- sequences, alternatives, rules ---- */

static bool parse_part(struct parser *p, uint32_t *out)
{
    char c = peek(p);
    bool ok = c == '"'               ? parse_literal(p, out)
              : c == '['             ? parse_class(p, out)
              : c == '('             ? parse_group(p, out)
              : c == '.'             ? parse_any(p, out)
              : c == '<' || c == '!' ? parse_token(p, out)
                                     : parse_ref(p, out);
    return ok && parse_postfix(p, out);
}

static bool begins_part(char c)
{
    return c == '"' || c == '[' || c == '(' || c == '.' || c == '<' || c == '!' || is_name_char(c);
}

/* A rule's name at the end of a line without "::=" belongs to the sequence only inside a group: outside, a newline has
 * ended it. */
static bool parse_sequence(struct parser *p, bool in_group, uint32_t *out)
{
    uint32_t last = GBNF_NONE, part;
    if (!add_node(p, GBNF_SEQ, 0, 0, out)) {
        return false;
    }
    skip_space(p, in_group);
    while (begins_part(peek(p))) {
        if (!parse_part(p, &part)) {
            return false;
        }
        *(last == GBNF_NONE ? &p->g->nodes[*out].child : &p->g->nodes[last].next) = part;
        last = part;
        skip_space(p, in_group);
    }
    return true;
}

static bool parse_alternatives(struct parser *p, bool in_group, uint32_t *out)
{
    uint32_t last, next;
    skip_space(p, true);
    if (!parse_sequence(p, in_group, &last)) {
        return false;
    }
    if (!add_node(p, GBNF_ALT, 0, 0, out)) {
        return false;
    }
    p->g->nodes[*out].child = last;
    while (peek(p) == '|') {
        p->at++;
        skip_space(p, true);
        if (!parse_sequence(p, in_group, &next)) {
            return false;
        }
        p->g->nodes[last].next = next;
        last = next;
    }
    return true;
}

static bool parse_rule(struct parser *p)
{
    size_t start = p->at;
    struct str name = take_name(p);
    uint32_t rule, body;
    if (name.len == 0) {
        return fail_at(p, start, "the name of a rule is expected");
    }
    skip_space(p, false);
    if (!looking_at(p, STR("::="))) {
        return fail_at(p, p->at, "'::=' is expected behind the name of a rule");
    }
    p->at += 3;
    if (!find_rule(p, name, start, &rule)) {
        return false;
    }
    if (p->g->rules[rule].body != GBNF_NONE) {
        return fail_at(p, start, "there is a rule of this name already");
    }
    if (!parse_alternatives(p, false, &body)) {
        return false;
    }
    p->g->rules[rule].body = body;
    if (p->at < p->g->text.len && peek(p) != '\n' && peek(p) != '\r') {
        return fail_at(p, p->at, "this belongs to no rule");
    }
    return true;
}

bool gbnf__parse(struct gbnf *g, struct error *err)
{
    struct parser p = {.g = g, .err = err};
    for (skip_space(&p, true); p.at < g->text.len; skip_space(&p, true)) {
        if (!parse_rule(&p)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < g->n_rules; i++) {
        if (g->rules[i].body == GBNF_NONE) {
            return fail_at(&p, g->rules[i].at, "there is no rule of this name");
        }
        if (str_eq(g->rules[i].name, STR("root"))) {
            g->root = i;
        }
    }
    return g->n_rules && str_eq(g->rules[g->root].name, STR("root")) ? true : fail_at(&p, 0, "there is no rule 'root'");
}

void gbnf__release(struct gbnf *g)
{
    free(g->nodes);
    free(g->rules);
    free(g->chars);
}
