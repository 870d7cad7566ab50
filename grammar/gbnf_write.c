/* Lark from the tree. Names: T7 a regular rule, r7 another; G12 and g12 a group or a repetition that needs a name
 * (Lark's own groups may not lie deep); U12 a lexeme, N12 one without its empty text. */
#include "grammar/gbnf_internal.h"

enum named { NAMED_NOT, NAMED_GROUP, NAMED_LEXEME, NAMED_NONEMPTY, NAMED_WRITTEN };

static void put_expression(struct gbnf *g, struct buf *out, uint32_t node, bool regular);

/* ---- characters ---- */

static bool is_plain(uint32_t c)
{
    return c >= 0x20 && c != 0x7F && c != '"' && c != '\\' && c < 0x80;
}

static void put_code(struct buf *out, uint32_t c)
{
    buf_printf(out, "\\x{%X}", (unsigned)c);
}

static void put_text(const struct gbnf *g, struct buf *out, uint32_t from, uint32_t n)
{
    bool plain = true;
    for (uint32_t i = 0; i < n; i++) {
        plain = plain && is_plain(g->chars[from + i]);
    }
    buf_putc(out, plain ? '"' : '/');
    for (uint32_t i = 0; i < n; i++) {
        if (plain) {
            buf_putc(out, (char)g->chars[from + i]);
        } else {
            put_code(out, g->chars[from + i]);
        }
    }
    buf_putc(out, plain ? '"' : '/');
}

static void put_chars(const struct gbnf *g, struct buf *out, const struct gbnf_node *n)
{
    if (!g->by_char || n->n < 2) {
        put_text(g, out, n->from, n->n);
        return;
    }
    for (uint32_t i = 0; i < n->n; i++) {
        buf_putc(out, i ? ' ' : '(');
        put_text(g, out, n->from + i, 1);
    }
    buf_putc(out, ')');
}

static void put_class(const struct gbnf *g, struct buf *out, const struct gbnf_node *n)
{
    if (n->n == 0) {
        buf_puts(out, "/[\\x{0}-\\x{10FFFF}]/");
        return;
    }
    buf_puts(out, n->negated ? "/[^" : "/[");
    for (uint32_t i = 0; i < n->n; i += 2) {
        put_code(out, g->chars[n->from + i]);
        buf_putc(out, '-');
        put_code(out, g->chars[n->from + i + 1]);
    }
    buf_puts(out, "]/");
}

static void put_token(const struct gbnf *g, struct buf *out, const struct gbnf_node *n)
{
    struct str token = str_slice(g->text, n->from, n->from + n->n);
    if (n->negated) {
        buf_puts(out, "<[^");
        token = str_slice(token, 2, token.len);
    }
    buf_append(out, token);
}

/* ---- parts ---- */

static bool in_terminal(const struct gbnf *g, const struct gbnf_node *n)
{
    return n->regular && !g->by_char;
}

static void put_name(struct gbnf *g, struct buf *out, uint32_t node, enum named as)
{
    static const char letters[] = {[NAMED_GROUP] = 'g', [NAMED_LEXEME] = 'U', [NAMED_NONEMPTY] = 'N'};
    struct gbnf_node *n = &g->nodes[node];
    char letter = as == NAMED_GROUP && in_terminal(g, n) ? 'G' : letters[as];
    if (n->named == NAMED_NOT) {
        n->named = (uint8_t)as;
    }
    buf_printf(out, "%c%u", letter, (unsigned)node);
}

static void put_atom(struct gbnf *g, struct buf *out, uint32_t node)
{
    const struct gbnf_node *n = &g->nodes[node];
    switch (n->kind) {
    case GBNF_CHARS:
        put_chars(g, out, n);
        break;
    case GBNF_CLASS:
        put_class(g, out, n);
        break;
    case GBNF_REF:
        buf_printf(out, "%c%u", in_terminal(g, n) ? 'T' : 'r', (unsigned)n->from);
        break;
    case GBNF_TOKEN:
        put_token(g, out, n);
        break;
    default:
        put_name(g, out, node, NAMED_GROUP);
    }
}

static void put_repeat(struct gbnf *g, struct buf *out, const struct gbnf_node *n)
{
    if (n->n == 0) {
        buf_puts(out, "\"\"");
        return;
    }
    bool is_lexeme = !in_terminal(g, n) && in_terminal(g, &g->nodes[n->child]);
    if (is_lexeme && g->nodes[n->child].nullable) {
        put_name(g, out, n->child, NAMED_NONEMPTY);
        buf_printf(out, "{0,%u}", n->n == GBNF_MANY ? 0x7FFFFFFFu : (unsigned)n->n);
        return;
    }
    put_atom(g, out, n->child);
    if (n->n == GBNF_MANY && n->from < 2) {
        buf_putc(out, n->from ? '+' : '*');
    } else if (n->n == GBNF_MANY) {
        buf_printf(out, "{%u,}", (unsigned)n->from);
    } else {
        buf_printf(out, "{%u,%u}", (unsigned)n->from, (unsigned)n->n);
    }
}

/* A part of a sequence of a rule: a lexeme where it is regular. A lexeme is never empty; what may be becomes optional.
 */
static void put_lexeme(struct gbnf *g, struct buf *out, uint32_t node)
{
    const struct gbnf_node *n = &g->nodes[node];
    if (n->nullable) {
        put_name(g, out, node, NAMED_NONEMPTY);
        buf_putc(out, '?');
    } else if (n->kind == GBNF_ALT || n->kind == GBNF_REPEAT) {
        put_name(g, out, node, NAMED_LEXEME);
    } else {
        put_atom(g, out, node);
    }
}

static void put_part(struct gbnf *g, struct buf *out, uint32_t node, bool regular)
{
    const struct gbnf_node *n = &g->nodes[node];
    if (n->kind == GBNF_CHARS && n->n == 0) {
        buf_puts(out, "\"\"");
    } else if (!regular && in_terminal(g, n)) {
        put_lexeme(g, out, node);
    } else if (n->kind == GBNF_REPEAT) {
        put_repeat(g, out, n);
    } else {
        put_atom(g, out, node);
    }
}

static void put_sequence(struct gbnf *g, struct buf *out, uint32_t node, bool regular)
{
    uint32_t i = g->nodes[node].child;
    if (i == GBNF_NONE) {
        buf_puts(out, "\"\"");
    }
    for (bool first = true; i != GBNF_NONE && !out->failed; i = g->nodes[i].next, first = false) {
        buf_puts(out, first ? "" : " ");
        put_part(g, out, i, regular);
    }
}

static void put_expression(struct gbnf *g, struct buf *out, uint32_t node, bool regular)
{
    if (g->nodes[node].kind != GBNF_ALT) {
        put_part(g, out, node, regular);
        return;
    }
    uint32_t i = g->nodes[node].child;
    for (bool first = true; i != GBNF_NONE && !out->failed; i = g->nodes[i].next, first = false) {
        buf_puts(out, first ? "" : " | ");
        put_sequence(g, out, i, regular);
    }
}

/* ---- definitions ---- */

static void put_definition(struct gbnf *g, struct buf *out, uint32_t node)
{
    struct gbnf_node *n = &g->nodes[node];
    enum named as = (enum named)n->named;
    put_name(g, out, node, as);
    n->named = NAMED_WRITTEN;
    buf_puts(out, as == NAMED_NONEMPTY ? ": (" : ": ");
    put_expression(g, out, node, in_terminal(g, n));
    buf_puts(out, as == NAMED_NONEMPTY ? ") & /(?s:.+)/\n" : "\n");
}

static bool put_named(struct gbnf *g, struct buf *out)
{
    bool any = false;
    for (uint32_t i = 0; i < g->n_nodes && !out->failed; i++) {
        if (g->nodes[i].named != NAMED_NOT && g->nodes[i].named != NAMED_WRITTEN) {
            put_definition(g, out, i);
            any = true;
        }
    }
    return any;
}

/* By the order of the rules, so that equal grammars give equal text. */
static bool put_grammar(struct gbnf *g, struct buf *out, struct error *err)
{
    const struct gbnf_node *root = &g->nodes[g->rules[g->root].body];
    buf_printf(out, "start: %c%u\n", in_terminal(g, root) ? 'T' : 'r', (unsigned)g->root);
    for (uint32_t i = 0; i < g->n_rules && !out->failed; i++) {
        uint32_t body = g->rules[i].body;
        bool regular = in_terminal(g, &g->nodes[body]);
        buf_printf(out, "%c%u: ", regular ? 'T' : 'r', (unsigned)i);
        put_expression(g, out, body, regular);
        buf_putc(out, '\n');
    }
    while (put_named(g, out)) {
    }
    return buf_ok(out, "grammar", err);
}

bool gbnf_to_lark(struct str gbnf, struct buf *out, struct error *err)
{
    struct gbnf g = {.text = gbnf};
    if (gbnf.len > LIMIT_GRAMMAR_SIZE) {
        return error_set(err, ERR_TOO_LARGE, "The grammar has %zu bytes, at most %zu are allowed.", gbnf.len,
                         LIMIT_GRAMMAR_SIZE);
    }
    bool ok = gbnf__parse(&g, err);
    if (ok) {
        gbnf__analyse(&g);
        g.by_char = !g.nodes[g.rules[g.root].body].regular && !gbnf__lexemes_are_safe(&g);
        ok = put_grammar(&g, out, err);
    }
    gbnf__release(&g);
    return ok;
}
