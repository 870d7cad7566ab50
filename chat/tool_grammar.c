/* Grammars of tool calls, in llguidance's dialect of Lark (its docs/syntax.md): a rule per tool, which the format's row
 * says how to write. Special tokens are given by their ids; what is text up to a marker is a lazy lexeme, as lexemes
 * are greedy otherwise. */
#include "base/array.h"
#include "chat/output_internal.h"

struct lark {
    struct buf *out;
    const struct tool_grammar *g;
    const struct call_syntax *s;
    size_t tool;                   /* the one being written */
    const struct json *parameters; /* its schema, or NULL */
};

/* ---- words of the grammar ---- */

static void put(struct lark *l, const char *text)
{
    buf_puts(l->out, text);
}

static void put_literal(struct lark *l, struct str text)
{
    if (text.len) {
        put(l, " \"");
        output__escape(l->out, text);
        put(l, "\"");
    }
}

/* The first special token in a text: its offset, or the text's length. */
static size_t next_token(const struct lark *l, struct str text, const struct tool_token **token)
{
    size_t first = text.len;
    *token = NULL;
    for (size_t i = 0; i < l->g->n_tokens; i++) {
        size_t at = str_find(text, str_of(l->g->tokens[i].marker));
        if (at < first || (at == first && *token && strlen(l->g->tokens[i].marker) > strlen((*token)->marker))) {
            first = at;
            *token = &l->g->tokens[i];
        }
    }
    return first;
}

static void put_str(struct lark *l, struct str text)
{
    while (text.len) {
        const struct tool_token *token;
        size_t at = next_token(l, text, &token);
        put_literal(l, str_slice(text, 0, at));
        if (token) {
            buf_printf(l->out, " <[%d]>", (int)token->id);
            at += strlen(token->marker);
        }
        text = str_slice(text, at, text.len);
    }
}

static void put_text(struct lark *l, const char *text)
{
    put_str(l, str_of(text));
}

/* Any text up to and including `end`. A special token ends a lexeme by itself; up to a text it has to be a lazy one, as
 * others are greedy. */
static void put_until_rule(struct lark *l, const char *name, const char *terminal, const char *end)
{
    const struct tool_token *token;
    struct str text = str_of(end);
    size_t at = next_token(l, text, &token);
    if (token) {
        buf_printf(l->out, "%s: /(?s:.*)/", terminal);
        put_literal(l, str_slice(text, 0, at));
        buf_printf(l->out, "\n%s: %s", name, terminal);
        put_str(l, str_slice(text, at, text.len));
    } else {
        buf_printf(l->out, "%s[suffix=\"", name);
        output__escape(l->out, text);
        put(l, "\"]: /(?s:.*)/");
    }
    put(l, "\n");
}

/* ---- schemas ---- */

/* Definitions that $ref names stand at the root of a schema. */
static void put_definitions(struct lark *l, struct json_writer *w)
{
    static const char *const keys[] = {"$defs", "definitions"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const struct json *v = json_get(l->parameters, keys[i]);
        if (v) {
            json_member_json(w, keys[i], v);
        }
    }
}

/* Between tokens of JSON, at the root of a schema: as grammar/schema_widen.c has it, or a model might write blanks
 * until it has no tokens left. */
static void put_white_space(struct json_writer *w)
{
    json_member_raw(w, "x-guidance", STR("{\"whitespace_pattern\":\" |\\\\r?\\\\n[ \\\\t]{0,64}\"}"));
}

static void put_parameters(struct lark *l, struct json_writer *w)
{
    if (l->parameters) {
        json_put_json(w, l->parameters);
    } else {
        json_begin_object(w);
        json_member_cstr(w, "type", "object");
        put_white_space(w);
        json_end_object(w);
    }
}

static void put_arguments(struct lark *l)
{
    struct json_writer w = json_writer(l->out);
    put(l, " %json ");
    put_parameters(l, &w);
}

static void put_schema(struct lark *l, const struct json *schema)
{
    struct json_writer w = json_writer(l->out);
    struct json_iter it = json_members(schema);
    put(l, " %json ");
    json_begin_object(&w);
    while (json_next(&it)) {
        json_member_json(&w, it.key.ptr, it.value);
    }
    if (!json_get(schema, "$defs") && !json_get(schema, "definitions")) {
        put_definitions(l, &w);
    }
    json_end_object(&w);
}

static bool is_required(const struct lark *l, struct str key)
{
    return json_lists(json_get(l->parameters, "required"), key);
}

/* The strings that a schema allows, if it names them. */
static const struct json *string_values(const struct json *schema)
{
    const struct json *values = json_get(schema, "enum");
    for (size_t i = 0; i < json_len(values); i++) {
        if (json_type(json_at(values, i)) != JSON_STRING) {
            return NULL;
        }
    }
    return json_len(values) ? values : NULL;
}

/* ---- JSON ---- */

/* The members of a call: its name and arguments, or the arguments by its name. */
static void put_members(struct lark *l, struct json_writer *w, struct str name)
{
    const char *name_key = l->s->name_key;
    json_key(w, "properties");
    json_begin_object(w);
    if (name_key) {
        json_key(w, name_key);
        json_begin_object(w);
        json_member_str(w, "const", name);
        json_end_object(w);
    }
    json_key(w, name_key ? l->s->arguments_key : name.ptr);
    put_parameters(l, w);
    json_end_object(w);
    json_key(w, "required");
    json_begin_array(w);
    if (name_key) {
        json_put_cstr(w, name_key);
    }
    json_put_cstr(w, name_key ? l->s->arguments_key : name.ptr);
    json_end_array(w);
}

static void put_json_call(struct lark *l, struct str name)
{
    struct json_writer w = json_writer(l->out);
    put(l, " %json ");
    json_begin_object(&w);
    json_member_cstr(&w, "type", "object");
    put_members(l, &w, name);
    json_member_bool(&w, "additionalProperties", false);
    put_definitions(l, &w);
    put_white_space(&w);
    json_end_object(&w);
    put(l, "\n");
}

/* ---- a name, then JSON ---- */

static void put_ends(struct lark *l)
{
    put_text(l, l->s->layout.before_end);
    put_text(l, l->s->end[0]);
    put_text(l, l->s->end[1]);
    put(l, "\n");
}

static void put_named_call(struct lark *l, struct str name)
{
    put_text(l, l->s->item);
    put_text(l, l->s->qualified ? "functions." : "");
    put_literal(l, name);
    if (l->s->qualified) {
        put(l, " \":\" /[0-9]+/");
    }
    put_text(l, l->s->name_ends[0].text);
    put_text(l, l->s->layout.after_name);
    put_arguments(l);
    put_ends(l);
}

static void put_harmony_call(struct lark *l, struct str name)
{
    put_literal(l, name);
    put_text(l, " <|constrain|>json<|message|>");
    put_arguments(l);
    put_text(l, "<|call|>");
    put(l, "\n");
}

/* ---- values that are not JSON ---- */

static void put_alternatives(struct lark *l, const struct json *values, const char *quote)
{
    for (size_t i = 0; i < json_len(values); i++) {
        put(l, i ? " |" : " (");
        put_text(l, quote);
        put_str(l, json_str(json_at(values, i)));
        put_text(l, quote);
    }
    put(l, ")");
}

/* Between tags, closing tag included. */
static void put_tagged_value(struct lark *l, const struct json *schema, enum value_type type)
{
    const char *newline = l->s->newlines ? "\n" : NULL;
    const struct json *values = string_values(schema);
    put_text(l, newline);
    if (type != VALUE_JSON && !values) {
        put(l, " text_value");
        return;
    }
    if (values) {
        put_alternatives(l, values, NULL);
    } else {
        put_schema(l, schema);
    }
    put_text(l, newline);
    put_text(l, l->s->value_end);
}

static const char *key_end(const struct lark *l, enum value_type type)
{
    enum mark_use wanted = type == VALUE_JSON ? MARK_VALUE : MARK_STRING;
    for (size_t i = 0; i < CALL_MARKS && l->s->key_ends[i].text; i++) {
        if (l->s->key_ends[i].use == wanted) {
            return l->s->key_ends[i].text;
        }
    }
    return l->s->key_ends[0].text;
}

/* May a value hold others? Such a value is not described any further in a notation that is not JSON. */
static bool is_container(const struct json *schema)
{
    struct str type = json_str(json_get(schema, "type"));
    return json_get(schema, "properties") || json_get(schema, "items") || !type.len || str_eq(type, STR("array")) ||
           str_eq(type, STR("object"));
}

static void put_expression_value(struct lark *l, const struct json *schema, enum value_type type)
{
    const char *own = l->s->quote;
    const struct json *values = string_values(schema);
    if (values) {
        put_alternatives(l, values, own ? own : "\"");
    } else if (type == VALUE_STRING || type == VALUE_STRING_OR_NULL) {
        put(l, " string_value");
    } else if (own && (type == VALUE_ANY || is_container(schema))) {
        put(l, " any_value");
    } else if (!own && str_eq(json_str(json_get(schema, "type")), STR("boolean"))) {
        put(l, " (\"True\" | \"False\")");
    } else {
        put_schema(l, schema);
    }
}

static void put_parameter_rule(struct lark *l, size_t i, struct str key, const struct json *schema)
{
    enum value_type type = output__value_type(l->parameters, key);
    char assign[] = {l->s->assign, '\0'};
    buf_printf(l->out, "p_%zu_%zu:", l->tool, i);
    if (l->s->shape == CALL_EXPRESSION) {
        put_literal(l, key);
        put_text(l, assign);
        put_expression_value(l, schema, type);
    } else {
        put_text(l, l->s->key);
        put_literal(l, key);
        put_text(l, key_end(l, type));
        put_text(l, l->s->layout.after_key);
        put_text(l, l->s->value);
        put_tagged_value(l, schema, type);
        put_text(l, l->s->layout.after_value);
    }
    put(l, "\n");
}

static void put_parameter_rules(struct lark *l)
{
    struct json_iter it = json_members(json_get(l->parameters, "properties"));
    for (size_t i = 0; json_next(&it); i++) {
        put_parameter_rule(l, i, it.key, it.value);
    }
}

static void put_tagged_call(struct lark *l, struct str name)
{
    struct json_iter it = json_members(json_get(l->parameters, "properties"));
    put_text(l, l->s->item);
    put_literal(l, name);
    put_text(l, l->s->name_ends[0].text);
    put_text(l, l->s->layout.after_name);
    for (size_t i = 0; json_next(&it); i++) {
        buf_printf(l->out, " p_%zu_%zu%s", l->tool, i, is_required(l, it.key) ? "" : "?");
    }
    put_ends(l);
    put_parameter_rules(l);
}

/* Commas stand between arguments, some of which may be missing: the required ones come first, and rest_T_I is what may
 * follow the optional ones before I. */
static void put_rest_rules(struct lark *l, size_t n)
{
    struct json_iter it = json_members(json_get(l->parameters, "properties"));
    const char *comma = l->s->quote ? "\",\"" : "\", \"";
    for (size_t i = 0; json_next(&it); i++) {
        buf_printf(l->out, "rest_%zu_%zu:", l->tool, i);
        if (!is_required(l, it.key)) {
            buf_printf(l->out, " (%s p_%zu_%zu)?", comma, l->tool, i);
        }
        buf_printf(l->out, " rest_%zu_%zu\n", l->tool, i + 1);
    }
    buf_printf(l->out, "rest_%zu_%zu: \"\"\n", l->tool, n);
}

static void put_expression_arguments(struct lark *l, size_t n)
{
    const struct json *properties = json_get(l->parameters, "properties");
    const char *comma = l->s->quote ? " \",\"" : " \", \"", *between = "";
    struct json_iter it = json_members(properties);
    for (size_t i = 0; json_next(&it); i++) {
        if (is_required(l, it.key)) {
            buf_printf(l->out, "%s p_%zu_%zu", between, l->tool, i);
            between = comma;
        }
    }
    if (*between) {
        buf_printf(l->out, " rest_%zu_0", l->tool);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        buf_printf(l->out, "%s p_%zu_%zu rest_%zu_%zu", i ? " |" : " (", l->tool, i, l->tool, i + 1);
    }
    put(l, n ? ")?" : "");
}

static void put_expression_call(struct lark *l, struct str name)
{
    size_t n = json_len(json_get(l->parameters, "properties"));
    char closer[] = {l->s->closer, '\0'};
    put_text(l, l->s->item);
    put_literal(l, name);
    put_text(l, l->s->name_ends[0].text);
    put_expression_arguments(l, n);
    put_text(l, closer);
    put(l, "\n");
    put_parameter_rules(l);
    put_rest_rules(l, n);
}

/* ---- the whole ---- */

/* Names stand between markers in all formats but JSON, where they are quoted. */
static bool name_fits(const struct call_syntax *s, struct str name)
{
    for (size_t i = 0; i < name.len && s->shape != CALL_JSON; i++) {
        if (!output__name_char((unsigned char)name.ptr[i])) {
            return false;
        }
    }
    return name.len > 0;
}

static void put_call_rule(struct lark *l, struct str name)
{
    buf_printf(l->out, "call_%zu:", l->tool);
    switch (l->s->shape) {
    case CALL_JSON:
        put_json_call(l, name);
        break;
    case CALL_NAMED:
        put_named_call(l, name);
        break;
    case CALL_TAGGED:
        put_tagged_call(l, name);
        break;
    case CALL_EXPRESSION:
        put_expression_call(l, name);
        break;
    case CALL_HARMONY:
        put_harmony_call(l, name);
        break;
    }
}

static void put_shared_rules(struct lark *l, size_t n_tools)
{
    const char *quote = l->s->quote;
    put(l, "call:");
    for (size_t i = 0; i < n_tools; i++) {
        buf_printf(l->out, "%s call_%zu", i ? " |" : "", i);
    }
    put(l, "\n");
    if (l->s->shape == CALL_TAGGED) {
        put_until_rule(l, "text_value", "TEXT_VALUE", l->s->value_end);
    }
    if (l->s->shape != CALL_EXPRESSION) {
        return;
    }
    if (!quote) {
        put(l, "string_value: STRING\n"
               "STRING: /\"(\\\\[\"'\\\\nrtbf]|[^\"\\\\\\x00-\\x1F\\x7F])*\"/\n");
        return;
    }
    put(l, "string_value:");
    put_text(l, quote);
    put(l, " string_rest\n");
    put_until_rule(l, "string_rest", "STRING_REST", quote);
    put(l, "any_value: string_value | NUMBER | \"true\" | \"false\" | \"null\""
           " | \"[\" (any_value (\",\" any_value)*)? \"]\" | \"{\" (member (\",\" member)*)? \"}\"\n"
           "member: (KEY | string_value) \":\" any_value\n"
           "KEY: /[A-Za-z0-9_]+/\n"
           "NUMBER: /-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?/\n");
}

/* One block's opener, which may have text before it. */
static void put_open(struct lark *l)
{
    if (!l->g->after_trigger && l->s->open[0]) {
        put_text(l, l->g->text_first ? NULL : l->s->open);
        put(l, l->g->text_first ? " lead" : "");
    }
}

static void put_block(struct lark *l)
{
    const struct call_layout *y = &l->s->layout;
    put_text(l, y->after_open);
    put_text(l, l->s->list ? "[" : NULL);
    put(l, " call");
    if (l->g->parallel && !y->single) {
        put(l, " (");
        put_text(l, l->s->list ? ", " : y->between);
        put(l, " call)*");
    }
    put_text(l, l->s->list ? "]" : NULL);
    put_text(l, y->before_close);
    put_text(l, l->s->close);
}

static void put_start(struct lark *l)
{
    buf_printf(l->out, "%%llguidance {}\n%s:", l->g->rule ? l->g->rule : "start");
    put_open(l);
    put_block(l);
    if (l->g->parallel && l->s->layout.single && l->s->open[0]) {
        put(l, " (");
        put_text(l, l->s->layout.between);
        put_text(l, l->s->open);
        put_block(l);
        put(l, ")*");
    }
    put(l, "\n");
    if (l->g->text_first && !l->g->after_trigger && l->s->open[0]) {
        put_until_rule(l, "lead", "LEAD", l->s->open);
    }
}

bool tool_format_grammar(const struct tool_format *f, const struct tool_grammar *g, struct buf *out, struct error *err)
{
    struct lark l = {.out = out, .g = g, .s = f->syntaxes[f->canonical]};
    size_t n = json_len(g->definitions);
    if (n == 0) {
        return error_set(err, ERR_UNSUPPORTED, "A grammar of tool calls needs at least one tool.");
    }
    put_start(&l);
    put_shared_rules(&l, n);
    for (; l.tool < n; l.tool++) {
        const struct json *function = json_get(json_at(g->definitions, l.tool), "function");
        struct str name = json_str(json_get(function, "name"));
        l.parameters = json_get(function, "parameters");
        if (!name_fits(l.s, name)) {
            return error_set(err, ERR_UNSUPPORTED, "The format %s cannot write the name of the tool '" STR_FMT "'.",
                             f->name, STR_ARG(name));
        }
        put_call_rule(&l, name);
    }
    return buf_ok(out, "a grammar of tool calls", err);
}
