/* Statements: tags and the text between them. */
#include "chat/jinja_internal.h"

#include "base/array.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- shared with the expressions ---- */

bool jinja__syntax(struct parser *p, uint32_t line, const char *fmt, ...)
{
    char message[200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    return error_set(p->err, ERR_INVALID, "template line %u: %s", line, message);
}

void *jinja__parse_alloc(struct parser *p, size_t n, size_t size)
{
    void *memory = arena_alloc_array(p->arena, n, size);
    if (!memory) {
        arena_full(p->arena, "template", p->err);
    }
    return memory;
}

struct node *jinja__node(struct parser *p, enum node_kind kind, uint32_t line)
{
    struct node *n = jinja__parse_alloc(p, 1, sizeof *n);
    if (n) {
        n->kind = kind;
        n->line = line;
    }
    return n;
}

bool jinja__add(struct parser *p, struct node_list *list, struct node *node)
{
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 4;
        struct node **items = jinja__parse_alloc(p, cap, sizeof *items);
        if (!items) {
            return false;
        }
        if (list->n) {
            memcpy(items, list->items, list->n * sizeof(struct node *));
        }
        list->items = items;
        list->cap = cap;
    }
    list->items[list->n++] = node;
    return true;
}

bool jinja__at_name(const struct parser *p, const char *name)
{
    return p->at->type == T_NAME && str_eq(p->at->text, str_of(name));
}

bool jinja__skip_name(struct parser *p, const char *name)
{
    bool is = jinja__at_name(p, name);
    p->at += is;
    return is;
}

bool jinja__skip(struct parser *p, enum token_type type)
{
    bool is = p->at->type == type;
    p->at += is && type != T_EOF;
    return is;
}

static const char *type_text(enum token_type type)
{
    static const char *const texts[] = {[T_EOF] = "end of template",
                                        [T_DATA] = "template data / text",
                                        [T_VARIABLE_BEGIN] = "begin of print statement",
                                        [T_VARIABLE_END] = "end of print statement",
                                        [T_BLOCK_BEGIN] = "begin of statement block",
                                        [T_BLOCK_END] = "end of statement block",
                                        [T_NAME] = "name",
                                        [T_STRING] = "string",
                                        [T_INT] = "integer",
                                        [T_FLOAT] = "float",
                                        [T_LPAREN] = "(",
                                        [T_RPAREN] = ")",
                                        [T_LBRACKET] = "[",
                                        [T_RBRACKET] = "]",
                                        [T_LBRACE] = "{",
                                        [T_RBRACE] = "}",
                                        [T_ASSIGN] = "=",
                                        [T_DOT] = ".",
                                        [T_COLON] = ":",
                                        [T_COMMA] = ",",
                                        [T_SEMICOLON] = ";"};
    return type < ARRAY_LEN(texts) ? texts[type] : NULL;
}

const char *jinja__describe(const struct token *t, char *buf, size_t size)
{
    const char *fixed = t->type == T_NAME ? NULL : type_text(t->type);
    if (fixed) {
        return fixed;
    }
    snprintf(buf, size, STR_FMT, STR_ARG(str_slice(t->text, 0, size - 1)));
    return buf;
}

bool jinja__expect(struct parser *p, enum token_type type, struct token *out)
{
    char got[64];
    if (p->at->type != type) {
        const char *wanted = type_text(type);
        return jinja__syntax(p, p->at->line, "expected token '%s', got '%s'", wanted ? wanted : "operator",
                             jinja__describe(p->at, got, sizeof got));
    }
    if (out) {
        *out = *p->at;
    }
    p->at += type != T_EOF;
    return true;
}

static bool expect_name(struct parser *p, const char *name)
{
    char got[64];
    return jinja__skip_name(p, name) || jinja__syntax(p, p->at->line, "expected token '%s', got '%s'", name,
                                                      jinja__describe(p->at, got, sizeof got));
}

bool jinja__parse_name(struct parser *p, uint32_t *id, struct str *text)
{
    static const char *const constants[] = {"true", "false", "none", "True", "False", "None"};
    struct token t = {0};
    if (!jinja__expect(p, T_NAME, &t)) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(constants); i++) {
        if (str_eq(t.text, str_of(constants[i]))) {
            return jinja__syntax(p, t.line, "can't assign to '%s'", constants[i]);
        }
    }
    *text = t.text;
    return jinja__intern(p->names, t.text, id, p->err);
}

/* ---- bodies ---- */

static struct node *parse_statement(struct parser *p);

struct end_names { /* tags that end a body */
    const char *names[3];
};

static bool at_end_tag(const struct parser *p, const struct end_names *ends)
{
    for (int i = 0; ends && i < 3 && ends->names[i]; i++) {
        if (jinja__at_name(p, ends->names[i])) {
            return true;
        }
    }
    return false;
}

static struct node *parse_print(struct parser *p)
{
    uint32_t line = p->at++->line;
    struct node *n = jinja__node(p, S_PRINT, line);
    return n && (n->a = jinja__parse_tuple(p, 0, NULL)) && jinja__expect(p, T_VARIABLE_END, NULL) ? n : NULL;
}

static bool missing_end(struct parser *p, const struct end_names *ends, uint32_t line)
{
    return jinja__syntax(p, p->at->line, "Unexpected end of template. Expected '%s' for the block of line %u.",
                         ends->names[2]   ? ends->names[2]
                         : ends->names[1] ? ends->names[1]
                                          : ends->names[0],
                         line);
}

/* Statements up to one of the end tags, whose name is then the current token; to the end of the template when there are
 * none. */
static bool parse_until(struct parser *p, const struct end_names *ends, struct body *out)
{
    struct node_list list = {0};
    uint32_t line = p->at->line;
    for (;;) {
        struct node *n = NULL;
        if (p->at->type == T_EOF) {
            if (ends) {
                return missing_end(p, ends, line);
            }
            break;
        }
        if (p->at->type == T_DATA) {
            if ((n = jinja__node(p, S_TEXT, p->at->line))) {
                n->text = p->at++->text;
            }
        } else if (p->at->type == T_VARIABLE_BEGIN) {
            n = parse_print(p);
        } else {
            p->at++;
            if (at_end_tag(p, ends)) {
                break;
            }
            n = parse_statement(p);
            if (n && !jinja__expect(p, T_BLOCK_END, NULL)) {
                return false;
            }
        }
        if (!n || !jinja__add(p, &list, n)) {
            return false;
        }
    }
    out->items = list.items;
    out->n = list.n;
    return true;
}

/* The end of the tag that opens a block, then its body. */
static bool parse_body(struct parser *p, struct end_names ends, struct body *out)
{
    jinja__skip(p, T_COLON);
    return jinja__expect(p, T_BLOCK_END, NULL) && parse_until(p, &ends, out);
}

/* Likewise for a block with one end tag, which is passed. */
static bool parse_whole_body(struct parser *p, const char *end, struct body *out)
{
    if (!parse_body(p, (struct end_names){{end}}, out)) {
        return false;
    }
    p->at++;
    return true;
}

static struct node *body_node(struct parser *p, enum node_kind kind, uint32_t line)
{
    struct node *n = jinja__node(p, kind, line);
    return n && (n->bodies = jinja__parse_alloc(p, 1, sizeof *n->bodies)) ? n : NULL;
}

/* ---- statements: each starts at its tag's name ---- */

static struct node *parse_for(struct parser *p)
{
    struct node *n = jinja__node(p, S_FOR, p->at++->line);
    struct for_node *loop = jinja__parse_alloc(p, 1, sizeof *loop);
    if (!n || !loop) {
        return NULL;
    }
    n->loop = loop;
    if (!(loop->target = jinja__parse_tuple(p, TUPLE_TARGET, "in")) || !expect_name(p, "in") ||
        !(loop->iter = jinja__parse_tuple(p, TUPLE_NO_COND, "recursive"))) {
        return NULL;
    }
    if (jinja__skip_name(p, "if") && !(loop->test = jinja__parse_expression(p))) {
        return NULL;
    }
    loop->recursive = jinja__skip_name(p, "recursive");
    if (!parse_body(p, (struct end_names){{"endfor", "else"}}, &loop->body)) {
        return NULL;
    }
    bool has_else = jinja__at_name(p, "else");
    p->at++;
    return !has_else || parse_whole_body(p, "endfor", &loop->orelse) ? n : NULL;
}

struct branch_list {
    struct body *items;
    size_t n, cap;
};

static struct body *add_branch(struct parser *p, struct branch_list *list)
{
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 4;
        struct body *items = jinja__parse_alloc(p, cap, sizeof *items);
        if (!items) {
            return NULL;
        }
        if (list->n) {
            memcpy(items, list->items, list->n * sizeof *items);
        }
        list->items = items;
        list->cap = cap;
    }
    return &list->items[list->n++];
}

static struct node *parse_if(struct parser *p)
{
    static const struct end_names ends = {{"elif", "else", "endif"}};
    struct node *n = jinja__node(p, S_IF, p->at->line);
    struct node_list tests = {0};
    struct branch_list branches = {0};
    bool more = n != NULL, has_else = false;
    while (more) {
        p->at++; /* if, elif */
        struct node *test = jinja__parse_tuple(p, TUPLE_NO_COND, NULL);
        struct body *branch = test && jinja__add(p, &tests, test) ? add_branch(p, &branches) : NULL;
        if (!branch || !parse_body(p, ends, branch)) {
            return NULL;
        }
        more = jinja__at_name(p, "elif");
        has_else = jinja__at_name(p, "else");
    }
    struct body *orelse = n ? add_branch(p, &branches) : NULL;
    if (!orelse) {
        return NULL;
    }
    p->at++; /* else, endif */
    if (has_else && !parse_whole_body(p, "endif", orelse)) {
        return NULL;
    }
    n->items = tests.items;
    n->n = tests.n;
    n->bodies = branches.items;
    return n;
}

static struct node *parse_set(struct parser *p)
{
    uint32_t line = p->at++->line;
    struct node *target = jinja__parse_tuple(p, TUPLE_TARGET | TUPLE_NAMESPACE, NULL);
    if (!target) {
        return NULL;
    }
    if (jinja__skip(p, T_ASSIGN)) {
        struct node *n = jinja__node(p, S_SET, line);
        if (!n || !(n->b = jinja__parse_tuple(p, 0, NULL))) {
            return NULL;
        }
        n->a = target;
        return n;
    }
    struct node *n = body_node(p, S_SET_BLOCK, line);
    if (!n) {
        return NULL;
    }
    n->a = target;
    if (p->at->type == T_PIPE && !(n->b = jinja__parse_filter(p, NULL, false))) {
        return NULL;
    }
    return parse_whole_body(p, "endset", n->bodies) ? n : NULL;
}

static bool add_param(struct parser *p, struct macro_node *m, size_t *cap)
{
    if (m->n_params == *cap) {
        size_t grown = *cap ? *cap * 2 : 4;
        uint32_t *ids = jinja__parse_alloc(p, grown, sizeof *ids);
        struct str *names = jinja__parse_alloc(p, grown, sizeof *names);
        struct node **defaults = jinja__parse_alloc(p, grown, sizeof *defaults);
        if (!ids || !names || !defaults) {
            return false;
        }
        if (m->n_params) {
            memcpy(ids, m->params, m->n_params * sizeof *ids);
            memcpy(names, m->param_names, m->n_params * sizeof *names);
            memcpy(defaults, m->defaults, m->n_params * sizeof *defaults);
        }
        m->params = ids;
        m->param_names = names;
        m->defaults = defaults;
        *cap = grown;
    }
    size_t i = m->n_params;
    if (!jinja__parse_name(p, &m->params[i], &m->param_names[i])) {
        return false;
    }
    for (size_t k = 0; k < i; k++) {
        if (m->params[k] == m->params[i]) {
            return jinja__syntax(p, p->at->line, "duplicate argument '" STR_FMT "'", STR_ARG(m->param_names[i]));
        }
    }
    m->n_params++;
    if (jinja__skip(p, T_ASSIGN)) {
        return (m->defaults[i] = jinja__parse_expression(p)) != NULL;
    }
    return i == 0 || !m->defaults[i - 1] ||
           jinja__syntax(p, p->at->line, "non-default argument follows default argument");
}

static bool parse_signature(struct parser *p, struct macro_node *m)
{
    size_t cap = 0;
    if (!jinja__expect(p, T_LPAREN, NULL)) {
        return false;
    }
    while (p->at->type != T_RPAREN) {
        if (m->n_params && !jinja__expect(p, T_COMMA, NULL)) {
            return false;
        }
        if (!add_param(p, m, &cap)) {
            return false;
        }
    }
    p->at++;
    return true;
}

static struct node *macro_node(struct parser *p, enum node_kind kind)
{
    struct node *n = jinja__node(p, kind, p->at++->line);
    return n && (n->macro = jinja__parse_alloc(p, 1, sizeof *n->macro)) ? n : NULL;
}

static struct node *parse_macro(struct parser *p)
{
    struct node *n = macro_node(p, S_MACRO);
    if (!n || !jinja__parse_name(p, &n->macro->name_id, &n->macro->name) || !parse_signature(p, n->macro)) {
        return NULL;
    }
    return parse_whole_body(p, "endmacro", &n->macro->body) ? n : NULL;
}

static struct node *parse_call_block(struct parser *p)
{
    struct node *n = macro_node(p, S_CALL_BLOCK);
    if (!n || (p->at->type == T_LPAREN && !parse_signature(p, n->macro))) {
        return NULL;
    }
    n->macro->anonymous = true;
    if (!(n->b = jinja__parse_expression(p))) {
        return NULL;
    }
    if (n->b->kind != N_CALL) {
        jinja__syntax(p, n->line, "expected call");
        return NULL;
    }
    return parse_whole_body(p, "endcall", &n->macro->body) ? n : NULL;
}

static struct node *parse_filter_block(struct parser *p)
{
    struct node *n = body_node(p, S_FILTER_BLOCK, p->at++->line);
    return n && (n->b = jinja__parse_filter(p, NULL, true)) && parse_whole_body(p, "endfilter", n->bodies) ? n : NULL;
}

static struct node *parse_with(struct parser *p)
{
    struct node *n = body_node(p, S_WITH, p->at++->line);
    struct node_list items = {0};
    while (n && p->at->type != T_BLOCK_END) {
        struct node *target, *value;
        if ((items.n && !jinja__expect(p, T_COMMA, NULL)) || !(target = jinja__parse_tuple(p, TUPLE_TARGET, NULL)) ||
            !jinja__expect(p, T_ASSIGN, NULL) || !(value = jinja__parse_expression(p)) ||
            !jinja__add(p, &items, target) || !jinja__add(p, &items, value)) {
            return NULL;
        }
    }
    if (n) {
        n->items = items.items;
        n->n = items.n;
    }
    return n && parse_whole_body(p, "endwith", n->bodies) ? n : NULL;
}

static struct node *parse_block(struct parser *p)
{
    struct node *n = body_node(p, S_BLOCK, p->at++->line);
    struct token name = {0};
    uint32_t id;
    if (!n || !jinja__expect(p, T_NAME, &name) || !jinja__intern(p->names, name.text, &id, p->err)) {
        return NULL;
    }
    if (p->names->items[id].is_block) {
        jinja__syntax(p, name.line, "block '" STR_FMT "' defined twice", STR_ARG(name.text));
        return NULL;
    }
    p->names->items[id].is_block = true;
    jinja__skip_name(p, "scoped");
    jinja__skip_name(p, "required");
    if (!parse_whole_body(p, "endblock", n->bodies)) {
        return NULL;
    }
    if (p->at->type == T_NAME && str_eq(p->at->text, name.text)) {
        p->at++;
    }
    return n;
}

static struct node *parse_generation(struct parser *p)
{
    struct node *n = body_node(p, S_GENERATION, p->at++->line);
    return n && parse_whole_body(p, "endgeneration", n->bodies) ? n : NULL;
}

static struct node *parse_autoescape(struct parser *p)
{
    struct node *n = body_node(p, S_AUTOESCAPE, p->at++->line);
    return n && (n->a = jinja__parse_expression(p)) && parse_whole_body(p, "endautoescape", n->bodies) ? n : NULL;
}

static struct node *parse_print_tag(struct parser *p)
{
    struct node *n = jinja__node(p, S_PRINT, p->at++->line), *concat = jinja__node(p, N_CONCAT, p->at->line);
    struct node_list items = {0};
    while (n && concat && p->at->type != T_BLOCK_END) {
        struct node *item;
        if ((items.n && !jinja__expect(p, T_COMMA, NULL)) || !(item = jinja__parse_expression(p)) ||
            !jinja__add(p, &items, item)) {
            return NULL;
        }
    }
    if (n && concat) {
        concat->items = items.items;
        concat->n = items.n;
        n->a = concat;
    }
    return n && concat ? n : NULL;
}

static struct node *parse_loop_control(struct parser *p)
{
    struct node *n = jinja__node(p, jinja__at_name(p, "break") ? S_BREAK : S_CONTINUE, p->at->line);
    p->at++;
    return n;
}

/* Other templates can not be reached; that is an error only where the tag is reached. */
static struct node *parse_refused(struct parser *p)
{
    struct node *n = jinja__node(p, S_REFUSED, p->at->line);
    if (n) {
        n->text = p->at++->text;
    }
    while (p->at->type != T_BLOCK_END && p->at->type != T_EOF) {
        p->at++;
    }
    return n;
}

static struct node *parse_tag(struct parser *p)
{
    static const struct {
        const char *name;
        struct node *(*parse)(struct parser *p);
    } tags[] = {{"if", parse_if},
                {"for", parse_for},
                {"set", parse_set},
                {"macro", parse_macro},
                {"call", parse_call_block},
                {"filter", parse_filter_block},
                {"with", parse_with},
                {"generation", parse_generation},
                {"break", parse_loop_control},
                {"continue", parse_loop_control},
                {"block", parse_block},
                {"print", parse_print_tag},
                {"autoescape", parse_autoescape},
                {"include", parse_refused},
                {"import", parse_refused},
                {"from", parse_refused},
                {"extends", parse_refused}};
    char got[64];
    if (p->at->type != T_NAME) {
        jinja__syntax(p, p->at->line, "tag name expected");
        return NULL;
    }
    for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
        if (jinja__at_name(p, tags[i].name)) {
            return tags[i].parse(p);
        }
    }
    jinja__syntax(p, p->at->line, "Encountered unknown tag '%s'.", jinja__describe(p->at, got, sizeof got));
    return NULL;
}

static struct node *parse_statement(struct parser *p)
{
    struct node *n = NULL;
    if (++p->depth > JINJA_MAX_NESTING) {
        jinja__syntax(p, p->at->line, "nested deeper than %d levels.", JINJA_MAX_NESTING);
    } else {
        n = parse_tag(p);
    }
    p->depth--;
    return n;
}

bool jinja__parse(struct parser *p, struct body *out)
{
    return parse_until(p, NULL, out);
}
