/* Calls in notations whose values are not JSON: Python's f(city="Paris", days=[1, 2]) and Gemma's
 * call:f{city:<escape>Paris<escape>,days:[1,2]}. They are turned into JSON while they come. Containers are a stack of
 * the characters that close them; the lowest are the arguments themselves. */
#include "chat/output_internal.h"

static enum step word_key(struct output_parser *p);
static enum step assign(struct output_parser *p);
static enum step value(struct output_parser *p);
static enum step word(struct output_parser *p);
static enum step string(struct output_parser *p);
static enum step after(struct output_parser *p);

/* ---- between calls ---- */

enum step output__expression_begin(struct output_parser *p)
{
    if (!p->syntax->list) {
        return output__go(p, output__begin_item);
    }
    if (!output__skip_space(p)) {
        return STEP_WAIT;
    }
    if (output__peek(p) != '[') {
        return output__reject(p);
    }
    p->array = true;
    p->at++;
    return output__go(p, output__begin_item);
}

enum step output__expression_next(struct output_parser *p)
{
    const struct call_syntax *s = p->syntax;
    if (!output__skip_space(p)) {
        return STEP_WAIT;
    }
    int c = output__peek(p);
    if (p->array && (c == ',' || c == ']')) {
        p->done = ++p->at;
        return output__go(p, c == ',' ? output__begin_item : output__close_block);
    }
    if (!s->repeats) {
        return output__go(p, output__close_block);
    }
    enum match m = output__given(s->close) ? output__match_at(p, p->at, s->close) : MATCH_NO;
    if (m == MATCH_PARTIAL) {
        return STEP_WAIT;
    }
    return output__go(p, m == MATCH_YES ? output__close_block : output__begin_item);
}

/* ---- containers ---- */

static char closer(const struct output_parser *p)
{
    return p->depth ? p->closers[p->depth] : p->syntax->closer;
}

static bool in_object(const struct output_parser *p)
{
    return p->depth == 0 || p->closers[p->depth] == '}';
}

static enum step open_container(struct output_parser *p, char c)
{
    if (p->depth + 1 == OUTPUT_JSON_DEPTH) {
        return output__bad(p);
    }
    p->closers[++p->depth] = c == '{' ? '}' : c == '[' ? ']' : ')';
    output__emit_args(p, c == '{' ? STR("{") : STR("["));
    p->first = true;
    return output__go(p, c == '{' ? output__expression_key : value);
}

static enum step close_container(struct output_parser *p)
{
    output__emit_args(p, in_object(p) ? STR("}") : STR("]"));
    if (p->depth == 0) {
        return output__end_call(p, true, output__next_item);
    }
    p->depth--;
    p->first = false;
    return output__go(p, after);
}

static void comma(struct output_parser *p)
{
    if (!p->first) {
        output__emit_args(p, STR(","));
    }
    p->first = false;
}

/* ---- what begins ---- */

/* A string's opening quote, if it is one: p->quote is Python's, or 0 for the syntax's own. */
static enum match take_quote(struct output_parser *p)
{
    const char *own = p->syntax->quote;
    int c = output__peek(p);
    if (c == '"' || c == '\'') {
        p->quote = (char)c;
        p->at++;
        return MATCH_YES;
    }
    enum match m = own ? output__match_at(p, p->at, own) : MATCH_NO;
    if (m == MATCH_YES) {
        p->quote = 0;
        p->at += strlen(own);
    }
    return m;
}

static bool word_char(int c)
{
    return c > ' ' && !strchr(",:=()[]{}<>\"'`", c);
}

static enum step begin_string(struct output_parser *p)
{
    comma(p);
    output__emit_args(p, STR("\""));
    p->done = p->at;
    return output__go(p, string);
}

enum step output__expression_key(struct output_parser *p)
{
    if (!output__skip_space(p)) {
        return STEP_WAIT;
    }
    int c = output__peek(p);
    if (c == closer(p)) {
        p->at++;
        return close_container(p);
    }
    enum match m = take_quote(p);
    if (m != MATCH_NO) {
        p->in_key = true;
        return m == MATCH_PARTIAL ? STEP_WAIT : begin_string(p);
    }
    if (!word_char(c)) {
        return output__bad(p);
    }
    p->done = p->at;
    return output__go(p, word_key);
}

static enum step value(struct output_parser *p)
{
    if (!output__skip_space(p)) {
        return STEP_WAIT;
    }
    int c = output__peek(p);
    if (!in_object(p) && c == closer(p)) {
        p->at++;
        return close_container(p);
    }
    if (c == '{' || c == '[' || c == '(') {
        p->at++;
        if (!in_object(p)) {
            comma(p);
        }
        return open_container(p, (char)c);
    }
    p->first = p->first || in_object(p); /* the comma stands before the key */
    enum match m = take_quote(p);
    if (m != MATCH_NO) {
        p->in_key = false;
        return m == MATCH_PARTIAL ? STEP_WAIT : begin_string(p);
    }
    p->done = p->at;
    return word_char(c) ? output__go(p, word) : output__bad(p);
}

/* ---- what goes on ---- */

static bool read_word(struct output_parser *p, struct str *out)
{
    int c;
    while ((c = output__peek(p)) >= 0 && word_char(c)) {
        p->at++;
    }
    *out = output__bytes(p, (struct output_range){p->done, p->at});
    return c >= 0;
}

static enum step word_key(struct output_parser *p)
{
    struct str w;
    if (!read_word(p, &w)) {
        return STEP_WAIT;
    }
    comma(p);
    output__emit_args(p, STR("\""));
    output__emit_escaped(p, w);
    output__emit_args(p, STR("\""));
    p->done = p->at;
    return output__go(p, assign);
}

static enum step assign(struct output_parser *p)
{
    if (!output__skip_space(p)) {
        return STEP_WAIT;
    }
    char wanted = p->depth ? ':' : p->syntax->assign;
    if (output__peek(p) != (unsigned char)wanted) {
        return output__bad(p);
    }
    p->at++;
    output__emit_args(p, STR(":"));
    return output__go(p, value);
}

static enum step word(struct output_parser *p)
{
    struct str w;
    if (!read_word(p, &w)) {
        return STEP_WAIT;
    }
    if (output__peek(p) == '(') {
        p->at = p->done;
        return output__bad(p); /* an expression, not a value */
    }
    struct buf b;
    buf_init(&b, p->out.max);
    comma(p);
    output__word_json(w, &b);
    output__emit_made(p, &b);
    p->done = p->at;
    return output__go(p, after);
}

static enum step after(struct output_parser *p)
{
    if (!output__skip_space(p)) {
        return STEP_WAIT;
    }
    int c = output__peek(p);
    if (c != ',' && c != closer(p)) {
        return output__bad(p);
    }
    p->at++;
    p->first = false;
    if (c != ',') {
        return close_container(p);
    }
    return output__go(p, in_object(p) ? output__expression_key : value);
}

/* ---- strings ---- */

static enum step string_ends(struct output_parser *p)
{
    output__emit_args(p, STR("\""));
    p->done = p->at;
    return output__go(p, p->in_key ? assign : after);
}

static void give(struct output_parser *p)
{
    output__emit_escaped(p, output__bytes(p, (struct output_range){p->done, p->at}));
    p->done = p->at;
}

static enum step python_string(struct output_parser *p)
{
    int c;
    for (; (c = output__peek(p)) >= 0; p->at++) {
        if (c != p->quote && c != '\\') {
            continue;
        }
        give(p);
        if (c == p->quote) {
            p->at++;
            return string_ends(p);
        }
        struct str rest = output__bytes(p, (struct output_range){p->at, p->base + p->in.len});
        if (rest.len < 2 || (rest.len < 12 && strchr("xuU", rest.ptr[1]) && !p->ended)) {
            return STEP_WAIT; /* the longest escape is a pair of \u */
        }
        struct buf b;
        buf_init(&b, p->out.max);
        p->at += output__python_escape(rest, &b);
        output__emit_made(p, &b);
        p->done = p->at;
        p->at--;
    }
    give(p);
    return STEP_WAIT;
}

static enum step string(struct output_parser *p)
{
    if (p->quote) {
        return python_string(p);
    }
    for (; output__peek(p) >= 0; p->at++) {
        enum match m = output__match_at(p, p->at, p->syntax->quote);
        if (m == MATCH_NO) {
            continue;
        }
        give(p);
        if (m == MATCH_PARTIAL) {
            return STEP_WAIT;
        }
        p->at += strlen(p->syntax->quote);
        return string_ends(p);
    }
    give(p);
    return STEP_WAIT;
}
