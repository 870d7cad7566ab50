/* What a grammar's nodes may begin with, go on with and be followed by, as sets of bytes: of a character, the first
 * byte of its UTF-8. The sets are least fixed points, reached by passing over all nodes until nothing changes; where
 * exactness would cost, they are larger than need be, which only makes lexemes shorter. */
#include "grammar/gbnf_internal.h"

#define MAX_LOOK  64   /* parts that may be empty, looked over for what follows one */
#define MAX_UNITS 4096 /* parts that may become lexemes; more are not compared */

/* ---- sets ---- */

static const struct byte_set all_bytes = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};

static void add(struct byte_set *s, uint8_t b)
{
    s->bits[b / 64] |= UINT64_C(1) << (b % 64);
}

/* True when that changed it. */
static bool join(struct byte_set *s, const struct byte_set *more)
{
    uint64_t changed = 0;
    for (int i = 0; i < 4; i++) {
        changed |= more->bits[i] & ~s->bits[i];
        s->bits[i] |= more->bits[i];
    }
    return changed != 0;
}

static bool overlap(const struct byte_set *a, const struct byte_set *b)
{
    uint64_t both = 0;
    for (int i = 0; i < 4; i++) {
        both |= a->bits[i] & b->bits[i];
    }
    return both != 0;
}

static uint8_t lead_byte(uint32_t c)
{
    return c < 0x80      ? (uint8_t)c
           : c < 0x800   ? (uint8_t)(0xC0 | c >> 6)
           : c < 0x10000 ? (uint8_t)(0xE0 | c >> 12)
                         : (uint8_t)(0xF0 | c >> 18);
}

static bool in_class(const struct gbnf *g, const struct gbnf_node *n, uint32_t c)
{
    for (uint32_t i = 0; i < n->n; i += 2) {
        if (c >= g->chars[n->from + i] && c <= g->chars[n->from + i + 1]) {
            return true;
        }
    }
    return false;
}

static struct byte_set class_bytes(const struct gbnf *g, const struct gbnf_node *n)
{
    struct byte_set s = {{0}};
    for (uint32_t b = 0; b < 0x80; b++) {
        if (in_class(g, n, b) != n->negated) {
            add(&s, (uint8_t)b);
        }
    }
    for (uint32_t b = 0xC2; n->negated && b <= 0xF4; b++) {
        add(&s, (uint8_t)b);
    }
    for (uint32_t i = 0; !n->negated && i < n->n; i += 2) {
        uint32_t first = g->chars[n->from + i], last = g->chars[n->from + i + 1];
        for (uint32_t b = lead_byte(first > 0x80 ? first : 0x80); last >= 0x80 && b <= lead_byte(last); b++) {
            add(&s, (uint8_t)b);
        }
    }
    return s;
}

/* ---- one node, from those below it ---- */

struct facts {
    bool regular, nullable;
    struct byte_set first, more, rest;
};

static struct facts facts_of(const struct gbnf_node *n)
{
    return (struct facts){n->regular, n->nullable, n->first, n->more, n->rest};
}

static struct facts of_chars(const struct gbnf *g, const struct gbnf_node *n)
{
    struct facts f = {.regular = true, .nullable = n->n == 0};
    for (uint32_t i = 0; i < n->n; i++) {
        add(i ? &f.rest : &f.first, lead_byte(g->chars[n->from + i]));
    }
    return f;
}

static struct facts of_sequence(const struct gbnf *g, const struct gbnf_node *n)
{
    struct facts f = {.regular = true, .nullable = true};
    bool is_first = true;
    for (uint32_t i = n->child; i != GBNF_NONE; i = g->nodes[i].next) {
        const struct gbnf_node *part = &g->nodes[i];
        if (f.nullable) {
            join(&f.first, &part->first);
        }
        if (!is_first) {
            join(&f.rest, &part->first);
        }
        if (!part->nullable) {
            f.more = part->more;
        } else if (is_first) {
            join(&f.more, &part->more);
        } else {
            join(&f.more, &part->more);
            join(&f.more, &part->first);
        }
        join(&f.rest, &part->rest);
        f.regular = f.regular && part->regular;
        f.nullable = f.nullable && part->nullable;
        is_first = false;
    }
    return f;
}

static struct facts of_alternatives(const struct gbnf *g, const struct gbnf_node *n)
{
    struct facts f = {.regular = true};
    for (uint32_t i = n->child; i != GBNF_NONE; i = g->nodes[i].next) {
        const struct gbnf_node *part = &g->nodes[i];
        bool begin_alike = overlap(&f.first, &part->first);
        join(&f.first, &part->first);
        join(&f.rest, &part->rest);
        join(&f.more, &part->more);
        if (begin_alike) { /* one may be the beginning of another */
            join(&f.more, &f.rest);
        }
        f.regular = f.regular && part->regular;
        f.nullable = f.nullable || part->nullable;
    }
    return f;
}

static struct facts of_repeat(const struct gbnf *g, const struct gbnf_node *n)
{
    struct facts f = facts_of(&g->nodes[n->child]);
    f.nullable = f.nullable || n->from == 0;
    if (n->n > 1) {
        join(&f.more, &f.first);
        join(&f.rest, &f.first);
    }
    return f;
}

static struct facts compute(const struct gbnf *g, const struct gbnf_node *n)
{
    switch (n->kind) {
    case GBNF_ALT:
        return of_alternatives(g, n);
    case GBNF_SEQ:
        return of_sequence(g, n);
    case GBNF_CHARS:
        return of_chars(g, n);
    case GBNF_CLASS:
        return (struct facts){.regular = true, .first = class_bytes(g, n)};
    case GBNF_REF:
        return facts_of(&g->nodes[g->rules[n->from].body]);
    case GBNF_REPEAT:
        return of_repeat(g, n);
    default:
        return (struct facts){.regular = false}; /* a token: no bytes of text */
    }
}

static bool update(struct gbnf_node *n, const struct facts *f)
{
    bool changed = (f->regular && !n->regular) || (f->nullable && !n->nullable);
    n->regular = n->regular || f->regular;
    n->nullable = n->nullable || f->nullable;
    changed |= join(&n->first, &f->first);
    changed |= join(&n->more, &f->more);
    changed |= join(&n->rest, &f->rest);
    return changed;
}

/* ---- what follows ---- */

/* What may follow a part, when `outer` may follow its sequence. */
static struct byte_set behind(const struct gbnf *g, uint32_t next, const struct byte_set *outer)
{
    struct byte_set s = {{0}};
    for (int looked = 0; next != GBNF_NONE; next = g->nodes[next].next) {
        if (looked++ == MAX_LOOK) {
            return all_bytes;
        }
        join(&s, &g->nodes[next].first);
        if (!g->nodes[next].nullable) {
            return s;
        }
    }
    join(&s, outer);
    return s;
}

/* Hands down what may follow to the parts below one that is not regular, whose own `follow` is known. */
static bool hand_down(struct gbnf *g, const struct gbnf_node *n)
{
    bool changed = false;
    struct byte_set follow = n->follow;
    if (n->kind == GBNF_REF) {
        return join(&g->nodes[g->rules[n->from].body].follow, &follow);
    }
    if (n->kind == GBNF_REPEAT && n->n > 1) {
        join(&follow, &g->nodes[n->child].first);
    }
    for (uint32_t i = n->child; i != GBNF_NONE; i = g->nodes[i].next) {
        struct byte_set here = n->kind == GBNF_SEQ ? behind(g, g->nodes[i].next, &follow) : follow;
        changed |= join(&g->nodes[i].follow, &here);
    }
    return changed;
}

/* The parts of a sequence become lexemes one by one where other alternatives beside it are not regular. */
static void split_sequences(struct gbnf *g)
{
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct gbnf_node *n = &g->nodes[i];
        for (uint32_t c = n->child; n->kind == GBNF_ALT && !n->regular && c != GBNF_NONE; c = g->nodes[c].next) {
            g->nodes[c].regular = false;
        }
    }
}

void gbnf__analyse(struct gbnf *g)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < g->n_nodes; i++) {
            struct facts f = compute(g, &g->nodes[i]);
            changed |= update(&g->nodes[i], &f);
        }
    }
    split_sequences(g);
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < g->n_nodes; i++) {
            changed |= !g->nodes[i].regular && hand_down(g, &g->nodes[i]);
        }
    }
}

/* ---- lexemes ---- */

static bool same(const struct gbnf *g, const struct gbnf_node *a, const struct gbnf_node *b)
{
    if (a->kind != b->kind || a->kind == GBNF_ALT || a->kind == GBNF_REPEAT || a->negated != b->negated) {
        return false;
    }
    if (a->kind == GBNF_REF) {
        return a->from == b->from;
    }
    return a->n == b->n && memcmp(g->chars + a->from, g->chars + b->from, a->n * sizeof *g->chars) == 0;
}

/* Two lexemes at one place: is one, whole, never the beginning of the other where what follows it could be the rest? */
static bool are_safe(const struct gbnf *g, const struct gbnf_node *a, const struct gbnf_node *b)
{
    if (!overlap(&a->first, &b->first) || same(g, a, b)) {
        return true;
    }
    return !overlap(&b->rest, &a->follow) && !overlap(&a->rest, &b->follow);
}

/* A part may become a lexeme when it is regular and what it is part of is not. */
static uint32_t find_units(const struct gbnf *g, uint32_t *units, uint32_t cap)
{
    uint32_t n = 0;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct gbnf_node *parent = &g->nodes[i];
        if (parent->regular || parent->kind == GBNF_REF || parent->kind == GBNF_ALT) {
            continue;
        }
        for (uint32_t c = parent->child; c != GBNF_NONE; c = g->nodes[c].next) {
            if (g->nodes[c].regular && n++ < cap) {
                units[n - 1] = c;
            }
        }
    }
    return n;
}

bool gbnf__lexemes_are_safe(const struct gbnf *g)
{
    uint32_t units[MAX_UNITS];
    uint32_t n = find_units(g, units, MAX_UNITS);
    if (n > MAX_UNITS) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct gbnf_node *a = &g->nodes[units[i]];
        if (overlap(&a->more, &a->follow)) {
            return false;
        }
        for (uint32_t j = i + 1; j < n; j++) {
            if (!are_safe(g, a, &g->nodes[units[j]])) {
                return false;
            }
        }
    }
    return true;
}
