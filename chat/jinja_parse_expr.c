/* Expressions. The grammar and its precedences are jinja2's, including where it differs from Python's: ** is
 * left-associative, unary minus binds tighter than **, filters bind tighter than every operator. Operators of one level
 * make one flat node, so that long chains do not nest. */
#include "base/array.h"
#include "chat/jinja_internal.h"

static struct node *parse_or(struct parser *p);
static struct node *parse_unary(struct parser *p, bool with_filter);
static struct node *parse_postfix(struct parser *p, struct node *n);

static struct node *unary_node(struct parser *p, enum node_kind kind, uint32_t line, struct node *a)
{
    struct node *n = a ? jinja__node(p, kind, line) : NULL;
    if (n) {
        n->a = a;
    }
    return n;
}

/* A flat node of what was read, or the single operand itself. */
static struct node *flat_node(struct parser *p, enum node_kind kind, uint32_t line, const struct node_list *list)
{
    if (list->n == 1) {
        return list->items[0];
    }
    struct node *n = jinja__node(p, kind, line);
    if (n) {
        n->items = list->items;
        n->n = list->n;
    }
    return n;
}

/* The operators of one level, lowest first. */
struct level {
    enum node_kind kind;
    struct {
        enum token_type token;
        enum jop op;
    } ops[4];
    int n_ops;
};

static const struct level levels[] = {
    {N_CHAIN, {{T_ADD, OP_ADD}, {T_SUB, OP_SUB}}, 2},
    {N_CONCAT, {{T_TILDE, OP_ADD}}, 1},
    {N_CHAIN, {{T_MUL, OP_MUL}, {T_DIV, OP_DIV}, {T_FLOORDIV, OP_FLOORDIV}, {T_MOD, OP_MOD}}, 4},
    {N_CHAIN, {{T_POW, OP_POW}}, 1},
};

struct op_list {
    uint8_t *items;
    size_t n, cap;
};

static bool add_op(struct parser *p, struct op_list *list, enum jop op)
{
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 8;
        uint8_t *items = jinja__parse_alloc(p, cap, sizeof *items);
        if (!items) {
            return false;
        }
        if (list->n) {
            memcpy(items, list->items, list->n);
        }
        list->items = items;
        list->cap = cap;
    }
    list->items[list->n++] = (uint8_t)op;
    return true;
}

static bool level_op(const struct parser *p, const struct level *level, enum jop *op)
{
    for (int i = 0; i < level->n_ops; i++) {
        if (level->ops[i].token == p->at->type) {
            *op = level->ops[i].op;
            return true;
        }
    }
    return false;
}

static struct node *parse_level(struct parser *p, size_t level)
{
    if (level == ARRAY_LEN(levels)) {
        return parse_unary(p, true);
    }
    uint32_t line = p->at->line;
    struct node_list operands = {0};
    struct op_list ops = {0};
    enum jop op;
    for (;;) {
        struct node *operand = parse_level(p, level + 1);
        if (!operand || !jinja__add(p, &operands, operand)) {
            return NULL;
        }
        if (!level_op(p, &levels[level], &op)) {
            break;
        }
        p->at++;
        if (!add_op(p, &ops, op)) {
            return NULL;
        }
    }
    struct node *n = flat_node(p, levels[level].kind, line, &operands);
    if (n && operands.n > 1 && n->kind == N_CHAIN) {
        n->ops = ops.items;
    }
    return n;
}

static bool comparison_op(struct parser *p, enum jop *op)
{
    static const struct {
        enum token_type token;
        enum jop op;
    } ops[] = {{T_EQ, OP_EQ}, {T_NE, OP_NE}, {T_LT, OP_LT}, {T_LE, OP_LE}, {T_GT, OP_GT}, {T_GE, OP_GE}};
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        if (ops[i].token == p->at->type) {
            *op = ops[i].op;
            p->at++;
            return true;
        }
    }
    if (jinja__skip_name(p, "in")) {
        *op = OP_IN;
        return true;
    }
    const struct token *next = p->at + 1;
    if (jinja__at_name(p, "not") && next->type == T_NAME && str_eq(next->text, STR("in"))) {
        p->at += 2;
        *op = OP_NOT_IN;
        return true;
    }
    return false;
}

static struct node *parse_compare(struct parser *p)
{
    uint32_t line = p->at->line;
    struct node_list operands = {0};
    struct op_list ops = {0};
    enum jop op;
    for (;;) {
        struct node *operand = parse_level(p, 0);
        if (!operand || !jinja__add(p, &operands, operand)) {
            return NULL;
        }
        if (!comparison_op(p, &op)) {
            break;
        }
        if (!add_op(p, &ops, op)) {
            return NULL;
        }
    }
    struct node *n = flat_node(p, N_COMPARE, line, &operands);
    if (n && operands.n > 1) {
        n->ops = ops.items;
    }
    return n;
}

static struct node *parse_not(struct parser *p)
{
    size_t negations = 0;
    uint32_t line = p->at->line;
    while (jinja__skip_name(p, "not")) {
        negations++;
    }
    struct node *n = parse_compare(p);
    /* Twice not is still a boolean: two nodes say all that more would. */
    for (size_t left = negations > 2 ? 2 - negations % 2 : negations; n && left; left--) {
        n = unary_node(p, N_NOT, line, n);
    }
    return n;
}

static struct node *parse_logic(struct parser *p, const char *word, enum node_kind kind,
                                struct node *(*operand_of)(struct parser *))
{
    uint32_t line = p->at->line;
    struct node_list operands = {0};
    do {
        struct node *operand = operand_of(p);
        if (!operand || !jinja__add(p, &operands, operand)) {
            return NULL;
        }
    } while (jinja__skip_name(p, word));
    return flat_node(p, kind, line, &operands);
}

static struct node *parse_and(struct parser *p)
{
    return parse_logic(p, "and", N_AND, parse_not);
}

static struct node *parse_or(struct parser *p)
{
    return parse_logic(p, "or", N_OR, parse_and);
}

static struct node *parse_condition(struct parser *p)
{
    struct node *n = parse_or(p);
    while (n && jinja__skip_name(p, "if")) {
        struct node *cond = jinja__node(p, N_COND, p->at->line);
        if (!cond || !(cond->a = parse_or(p))) {
            return NULL;
        }
        cond->b = n;
        if (jinja__skip_name(p, "else") && !(cond->c = jinja__parse_expression(p))) {
            return NULL;
        }
        n = cond;
    }
    return n;
}

static bool enter(struct parser *p)
{
    if (++p->depth > JINJA_MAX_NESTING) {
        return jinja__syntax(p, p->at->line, "nested deeper than %d levels.", JINJA_MAX_NESTING);
    }
    return true;
}

struct node *jinja__parse_expression(struct parser *p)
{
    struct node *n = enter(p) ? parse_condition(p) : NULL;
    p->depth--;
    return n;
}

static bool tuple_ends(const struct parser *p, const char *end_name)
{
    enum token_type type = p->at->type;
    return type == T_VARIABLE_END || type == T_BLOCK_END || type == T_RPAREN ||
           (end_name && jinja__at_name(p, end_name));
}

/* A name, or name.attribute, or a tuple of them: what an assignment may have on its left. */
static struct node *parse_target_item(struct parser *p, int flags)
{
    if (p->at->type == T_LPAREN) {
        p->at++;
        struct node *n = jinja__parse_tuple(p, TUPLE_TARGET | TUPLE_PARENS, NULL);
        return n && jinja__expect(p, T_RPAREN, NULL) ? n : NULL;
    }
    uint32_t line = p->at->line, name;
    struct str text;
    struct token attribute = {0};
    if (!jinja__parse_name(p, &name, &text)) {
        return NULL;
    }
    bool dotted = (flags & TUPLE_NAMESPACE) && jinja__skip(p, T_DOT);
    if (dotted && !jinja__expect(p, T_NAME, &attribute)) {
        return NULL;
    }
    struct node *n = jinja__node(p, dotted ? N_NSREF : N_NAME, line);
    if (n) {
        n->name = name;
        n->text = dotted ? attribute.text : text;
    }
    return n;
}

static struct node *parse_tuple_item(struct parser *p, int flags)
{
    if (flags & TUPLE_TARGET) {
        return parse_target_item(p, flags);
    }
    return flags & TUPLE_NO_COND ? parse_or(p) : jinja__parse_expression(p);
}

static struct node *parse_tuple_items(struct parser *p, int flags, const char *end_name)
{
    struct node_list items = {0};
    bool is_tuple = false;
    char described[64];
    uint32_t line = p->at->line;
    while (!tuple_ends(p, end_name)) {
        struct node *item = parse_tuple_item(p, flags);
        if (!item || !jinja__add(p, &items, item)) {
            return NULL;
        }
        if (!jinja__skip(p, T_COMMA)) {
            break;
        }
        is_tuple = true;
    }
    if (!is_tuple && items.n == 1) {
        return items.items[0];
    }
    if (!is_tuple && !(flags & TUPLE_PARENS)) {
        jinja__syntax(p, line, "Expected an expression, got '%s'", jinja__describe(p->at, described, sizeof described));
        return NULL;
    }
    struct node *n = jinja__node(p, N_TUPLE, line);
    if (n) {
        n->items = items.items;
        n->n = items.n;
    }
    return n;
}

struct node *jinja__parse_tuple(struct parser *p, int flags, const char *end_name)
{
    struct node *n = enter(p) ? parse_tuple_items(p, flags, end_name) : NULL;
    p->depth--;
    return n;
}

/* "[a, b]" or "{a: b, c: d}", behind the opening bracket. */
static struct node *parse_display(struct parser *p, bool dict)
{
    enum token_type close = dict ? T_RBRACE : T_RBRACKET;
    struct node *n = jinja__node(p, dict ? N_DICT : N_LIST, p->at->line);
    struct node_list items = {0};
    while (n && p->at->type != close) {
        struct node *item = jinja__parse_expression(p);
        if (!item || !jinja__add(p, &items, item)) {
            return NULL;
        }
        if (dict) {
            if (!jinja__expect(p, T_COLON, NULL) || !(item = jinja__parse_expression(p)) ||
                !jinja__add(p, &items, item)) {
                return NULL;
            }
        }
        if (p->at->type != close && !jinja__expect(p, T_COMMA, NULL)) {
            return NULL;
        }
    }
    if (n) {
        p->at++;
        n->items = items.items;
        n->n = items.n;
    }
    return n;
}

static struct node *const_node(struct parser *p, uint32_t line, struct jval value)
{
    struct node *n = jinja__node(p, N_CONST, line);
    if (n) {
        n->value = value;
    }
    return n;
}

static struct node *parse_strings(struct parser *p)
{
    uint32_t line = p->at->line;
    struct str text = p->at++->text;
    if (p->at->type != T_STRING) {
        return const_node(p, line, jval_str(text));
    }
    size_t size = text.len;
    for (const struct token *t = p->at; t->type == T_STRING; t++) {
        size += t->text.len;
    }
    char *joined = jinja__parse_alloc(p, size + 1, 1);
    if (!joined) {
        return NULL;
    }
    memcpy(joined, text.ptr ? text.ptr : "", text.len);
    for (size = text.len; p->at->type == T_STRING; p->at++) {
        if (p->at->text.len) {
            memcpy(joined + size, p->at->text.ptr, p->at->text.len);
        }
        size += p->at->text.len;
    }
    return const_node(p, line, jval_str((struct str){joined, size}));
}

static struct node *parse_name(struct parser *p)
{
    static const struct {
        const char *name;
        struct jval value;
    } constants[] = {{"true", {.type = J_BOOL, .b = true}},
                     {"True", {.type = J_BOOL, .b = true}},
                     {"false", {.type = J_BOOL}},
                     {"False", {.type = J_BOOL}},
                     {"none", {.type = J_NONE}},
                     {"None", {.type = J_NONE}}};
    const struct token *t = p->at++;
    for (size_t i = 0; i < ARRAY_LEN(constants); i++) {
        if (str_eq(t->text, str_of(constants[i].name))) {
            return const_node(p, t->line, constants[i].value);
        }
    }
    struct node *n = jinja__node(p, N_NAME, t->line);
    if (!n || !jinja__intern(p->names, t->text, &n->name, p->err)) {
        return NULL;
    }
    n->text = t->text;
    return n;
}

static struct node *parse_primary(struct parser *p)
{
    const struct token *t = p->at;
    char described[64];
    struct node *n;
    switch (t->type) {
    case T_NAME:
        return parse_name(p);
    case T_STRING:
        return parse_strings(p);
    case T_INT:
        p->at++;
        return const_node(p, t->line, jval_int(t->i));
    case T_FLOAT:
        p->at++;
        return const_node(p, t->line, jval_float(t->f));
    case T_LPAREN:
        p->at++;
        n = jinja__parse_tuple(p, TUPLE_PARENS, NULL);
        return n && jinja__expect(p, T_RPAREN, NULL) ? n : NULL;
    case T_LBRACKET:
    case T_LBRACE:
        p->at++;
        return parse_display(p, t->type == T_LBRACE);
    default:
        jinja__syntax(p, t->line, "unexpected '%s'", jinja__describe(t, described, sizeof described));
        return NULL;
    }
}

static bool add_keyword(struct parser *p, struct call_node *call, size_t *cap)
{
    struct str name = p->at->text;
    for (size_t i = 0; i < call->n_keywords; i++) {
        if (str_eq(call->keywords[i].name, name)) {
            return jinja__syntax(p, p->at->line, "keyword argument repeated: " STR_FMT, STR_ARG(name));
        }
    }
    if (call->n_keywords == *cap) {
        size_t grown = *cap ? *cap * 2 : 4;
        struct keyword_node *items = jinja__parse_alloc(p, grown, sizeof *items);
        if (!items) {
            return false;
        }
        if (*cap) {
            memcpy(items, call->keywords, *cap * sizeof *items);
        }
        call->keywords = items;
        *cap = grown;
    }
    p->at += 2;
    struct node *value = jinja__parse_expression(p);
    call->keywords[call->n_keywords++] = (struct keyword_node){name, value};
    return value != NULL;
}

struct call_state {
    struct call_node *call;
    struct node_list positional;
    size_t keywords_cap;
};

static bool parse_argument(struct parser *p, struct call_state *s, uint32_t line)
{
    struct call_node *call = s->call;
    bool ordered = true, ok;
    if (jinja__skip(p, T_MUL)) {
        ordered = !call->star && !call->star_star;
        ok = (call->star = jinja__parse_expression(p)) != NULL;
    } else if (jinja__skip(p, T_POW)) {
        ordered = !call->star_star;
        ok = (call->star_star = jinja__parse_expression(p)) != NULL;
    } else if (p->at->type == T_NAME && p->at[1].type == T_ASSIGN) {
        ordered = !call->star_star;
        ok = add_keyword(p, call, &s->keywords_cap);
    } else {
        ordered = !call->star && !call->star_star && !call->n_keywords;
        struct node *value = jinja__parse_expression(p);
        ok = value && jinja__add(p, &s->positional, value);
    }
    return ok && (ordered || jinja__syntax(p, line, "invalid syntax for function call expression"));
}

static struct call_node *parse_call_args(struct parser *p)
{
    struct call_state s = {.call = jinja__parse_alloc(p, 1, sizeof(struct call_node))};
    uint32_t line = p->at->line;
    if (!s.call || !jinja__expect(p, T_LPAREN, NULL)) {
        return NULL;
    }
    for (bool comma = false; p->at->type != T_RPAREN; comma = true) {
        if (comma) {
            if (!jinja__expect(p, T_COMMA, NULL)) {
                return NULL;
            }
            if (p->at->type == T_RPAREN) {
                break;
            }
        }
        if (!parse_argument(p, &s, line)) {
            return NULL;
        }
    }
    p->at++;
    s.call->positional = s.positional.items;
    s.call->n_positional = s.positional.n;
    return s.call;
}

static struct node *parse_call(struct parser *p, struct node *callee)
{
    struct node *n = unary_node(p, N_CALL, p->at->line, callee);
    return n && (n->call = parse_call_args(p)) ? n : NULL;
}

/* One subscript: an expression, or a slice with the bounds that are there. */
static struct node *parse_subscript(struct parser *p, bool *is_slice)
{
    struct node *bounds[3] = {NULL, NULL, NULL};
    uint32_t line = p->at->line;
    *is_slice = false;
    if (p->at->type != T_COLON) {
        if (!(bounds[0] = jinja__parse_expression(p))) {
            return NULL;
        }
        if (p->at->type != T_COLON) {
            return bounds[0];
        }
    }
    for (int i = 1; i < 3 && jinja__skip(p, T_COLON); i++) {
        enum token_type type = p->at->type;
        bool none = type == T_COLON || type == T_RBRACKET || type == T_COMMA;
        if (!none && !(bounds[i] = jinja__parse_expression(p))) {
            return NULL;
        }
    }
    *is_slice = true;
    struct node *n = jinja__node(p, N_SLICE, line);
    if (n && (n->items = jinja__parse_alloc(p, 3, sizeof *n->items))) {
        memcpy(n->items, bounds, sizeof bounds);
        n->n = 3;
        return n;
    }
    return NULL;
}

static struct node *parse_brackets(struct parser *p, struct node *of)
{
    uint32_t line = p->at++->line;
    struct node_list subscripts = {0};
    bool is_slice = false, any_slice = false;
    while (p->at->type != T_RBRACKET) {
        if (subscripts.n && !jinja__expect(p, T_COMMA, NULL)) {
            return NULL;
        }
        struct node *subscript = parse_subscript(p, &is_slice);
        if (!subscript || !jinja__add(p, &subscripts, subscript)) {
            return NULL;
        }
        any_slice |= is_slice;
    }
    p->at++;
    if (any_slice && subscripts.n == 1) {
        subscripts.items[0]->a = of;
        return subscripts.items[0];
    }
    if (any_slice) {
        jinja__syntax(p, line, "a slice can not be one of several subscripts.");
        return NULL;
    }
    struct node *n = unary_node(p, N_ITEM, line, of);
    if (n && subscripts.n == 1) {
        n->b = subscripts.items[0];
    } else if (n && (n->b = jinja__node(p, N_TUPLE, line))) {
        n->b->items = subscripts.items;
        n->b->n = subscripts.n;
    }
    return n && n->b ? n : NULL;
}

static struct node *parse_dot(struct parser *p, struct node *of)
{
    uint32_t line = p->at++->line;
    const struct token *t = p->at;
    struct node *n = NULL;
    if (t->type == T_NAME) {
        p->at++;
        if ((n = unary_node(p, N_ATTR, line, of))) {
            n->text = t->text;
        }
    } else if (t->type == T_INT) {
        p->at++;
        n = unary_node(p, N_ITEM, line, of);
        if (n && !(n->b = const_node(p, line, jval_int(t->i)))) {
            n = NULL;
        }
    } else {
        jinja__syntax(p, t->line, "expected name or number");
    }
    return n;
}

/* Postfix operators build a chain that nests to the left: its length counts as depth. */
#define MAX_POSTFIX 64

static struct node *parse_postfix(struct parser *p, struct node *n)
{
    for (int i = 0; n; i++) {
        enum token_type type = p->at->type;
        if (i == MAX_POSTFIX) {
            jinja__syntax(p, p->at->line, "more than %d attributes, elements and calls in a row.", MAX_POSTFIX);
            return NULL;
        }
        if (type == T_DOT) {
            n = parse_dot(p, n);
        } else if (type == T_LBRACKET) {
            n = parse_brackets(p, n);
        } else if (type == T_LPAREN) {
            n = parse_call(p, n);
        } else {
            break;
        }
    }
    return n;
}

/* "a.b.c" after | or is. */
static bool parse_dotted(struct parser *p, struct str *out)
{
    struct token t;
    if (!jinja__expect(p, T_NAME, &t)) {
        return false;
    }
    *out = t.text;
    while (jinja__skip(p, T_DOT)) {
        struct token part;
        if (!jinja__expect(p, T_NAME, &part)) {
            return false;
        }
        char *joined = jinja__parse_alloc(p, out->len + part.text.len + 2, 1);
        if (!joined) {
            return false;
        }
        memcpy(joined, out->ptr, out->len);
        joined[out->len] = '.';
        memcpy(joined + out->len + 1, part.text.ptr, part.text.len);
        *out = (struct str){joined, out->len + 1 + part.text.len};
    }
    return true;
}

static struct node *parse_one_filter(struct parser *p, struct node *of)
{
    struct node *n = jinja__node(p, N_FILTER, p->at->line);
    if (!n || !parse_dotted(p, &n->text)) {
        return NULL;
    }
    n->a = of;
    n->function = jinja__find_filter(n->text);
    n->call = p->at->type == T_LPAREN ? parse_call_args(p) : jinja__parse_alloc(p, 1, sizeof *n->call);
    return n->call ? n : NULL;
}

struct node *jinja__parse_filter(struct parser *p, struct node *of, bool first_inline)
{
    struct node *n = of;
    for (int i = 0; first_inline || jinja__skip(p, T_PIPE); i++) {
        first_inline = false;
        if (i == MAX_POSTFIX) {
            jinja__syntax(p, p->at->line, "more than %d filters in a row.", MAX_POSTFIX);
            return NULL;
        }
        if (!(n = parse_one_filter(p, n))) {
            return NULL;
        }
    }
    return n;
}

/* The argument of a test without parentheses: "x is divisibleby 3". */
static bool test_takes_argument(const struct parser *p)
{
    switch (p->at->type) {
    case T_NAME:
        return !jinja__at_name(p, "else") && !jinja__at_name(p, "or") && !jinja__at_name(p, "and");
    case T_STRING:
    case T_INT:
    case T_FLOAT:
    case T_LBRACKET:
    case T_LBRACE:
        return true;
    default:
        return false;
    }
}

static struct call_node *parse_test_args(struct parser *p)
{
    if (p->at->type == T_LPAREN) {
        return parse_call_args(p);
    }
    struct call_node *call = jinja__parse_alloc(p, 1, sizeof *call);
    if (!call || !test_takes_argument(p)) {
        return call;
    }
    if (jinja__at_name(p, "is")) {
        jinja__syntax(p, p->at->line, "You cannot chain multiple tests with is");
        return NULL;
    }
    struct node_list args = {0};
    struct node *arg = parse_primary(p);
    arg = arg ? parse_postfix(p, arg) : NULL;
    if (!arg || !jinja__add(p, &args, arg)) {
        return NULL;
    }
    call->positional = args.items;
    call->n_positional = 1;
    return call;
}

static struct node *parse_test(struct parser *p, struct node *of)
{
    uint32_t line = p->at++->line;
    bool negated = jinja__skip_name(p, "not");
    struct node *n = jinja__node(p, N_TEST, line);
    if (!n || !parse_dotted(p, &n->text) || !(n->call = parse_test_args(p))) {
        return NULL;
    }
    n->a = of;
    n->function = jinja__find_test(n->text);
    return negated ? unary_node(p, N_NOT, line, n) : n;
}

static struct node *parse_filter_expr(struct parser *p, struct node *n)
{
    for (int i = 0; n; i++) {
        if (i == MAX_POSTFIX) {
            jinja__syntax(p, p->at->line, "more than %d filters and tests in a row.", MAX_POSTFIX);
            return NULL;
        }
        if (p->at->type == T_PIPE) {
            n = jinja__parse_filter(p, n, false);
        } else if (jinja__at_name(p, "is")) {
            n = parse_test(p, n);
        } else if (p->at->type == T_LPAREN) {
            n = parse_call(p, n);
        } else {
            break;
        }
    }
    return n;
}

static struct node *parse_unary(struct parser *p, bool with_filter)
{
    uint32_t line = p->at->line;
    enum token_type type = p->at->type;
    struct node *n;
    if (type == T_SUB || type == T_ADD) {
        p->at++;
        struct node *operand = enter(p) ? parse_unary(p, false) : NULL;
        p->depth--;
        n = unary_node(p, type == T_SUB ? N_NEG : N_POS, line, operand);
    } else {
        n = parse_primary(p);
    }
    n = n ? parse_postfix(p, n) : NULL;
    return n && with_filter ? parse_filter_expr(p, n) : n;
}
