/* What the shapes share: the beginning of a block, a call's name between markers, what ends a call, and the way to the
 * next one. Also calls whose arguments are JSON behind the name. */
#include "base/array.h"
#include "base/limits.h"
#include "chat/output_internal.h"

enum step output__begin_block(struct output_parser *p)
{
    p->array = false;
    output_state first = p->syntax->shape == CALL_JSON         ? output__json_begin
                         : p->syntax->shape == CALL_EXPRESSION ? output__expression_begin
                                                               : output__begin_item;
    return output__go(p, first);
}

static enum step name_begins(struct output_parser *p);
static enum step read_name(struct output_parser *p);

enum step output__begin_item(struct output_parser *p)
{
    if (output__given(p->syntax->item)) {
        enum match m = output__take(p, p->syntax->item);
        if (m != MATCH_YES) {
            return m == MATCH_PARTIAL || !output__skip_space(p) ? STEP_WAIT : output__bad(p);
        }
    }
    return output__go(p, name_begins);
}

static enum step name_begins(struct output_parser *p)
{
    if (!output__skip_space(p)) {
        return STEP_WAIT;
    }
    p->name = (struct output_range){p->at, p->at};
    p->id = (struct output_range){0, 0};
    p->reading_id = false;
    return output__go(p, read_name);
}

bool output__name_char(int c)
{
    return c >= 0x80 || (c > ' ' && !strchr("<>{}[]()\"'`,;=|", c));
}

enum match output__match_mark(const struct output_parser *p, const struct call_mark *marks,
                              const struct call_mark **found)
{
    enum match result = MATCH_NO;
    for (size_t i = 0; i < CALL_MARKS && marks[i].text; i++) {
        enum match one = output__match_at(p, p->at, marks[i].text);
        if (one == MATCH_YES) {
            *found = &marks[i];
            return MATCH_YES;
        }
        result = one == MATCH_PARTIAL ? MATCH_PARTIAL : result;
    }
    return result;
}

static output_state arguments_state(const struct call_syntax *s)
{
    return s->shape == CALL_TAGGED       ? output__tagged_parameter
           : s->shape == CALL_EXPRESSION ? output__expression_key
                                         : output__named_arguments;
}

static enum step name_ends(struct output_parser *p, const struct call_mark *m)
{
    struct output_range *r = p->reading_id ? &p->id : &p->name;
    r->to = p->at;
    p->at += m->use == MARK_KEEPS ? 0 : strlen(m->text);
    if (m->use == MARK_ID) {
        p->reading_id = true;
        p->id = (struct output_range){p->at, p->at};
        return STEP_GO;
    }
    struct str id = p->reading_id ? str_trim(output__bytes(p, p->id)) : (struct str){0};
    output_state then = arguments_state(p->syntax);
    if (!output__commit(p, str_trim(output__bytes(p, p->name)), id)) {
        return output__reject(p);
    }
    p->args = (struct output_args){0};
    if (p->syntax->shape == CALL_TAGGED || p->syntax->shape == CALL_EXPRESSION) {
        output__emit_args(p, STR("{"));
        p->depth = 0;
    }
    return output__go(p, then);
}

/* White space may only stand before what ends the name. */
static enum step read_name(struct output_parser *p)
{
    size_t from = p->reading_id ? p->id.from : p->name.from;
    for (;; p->at++) {
        size_t at = p->at;
        const struct call_mark *m = NULL;
        enum match found = output__match_mark(p, p->syntax->name_ends, &m);
        while (found == MATCH_NO && output__peek(p) >= 0 && output__space((char)output__peek(p))) {
            p->at++;
            found = output__match_mark(p, p->syntax->name_ends, &m);
        }
        int c = output__peek(p);
        if (found == MATCH_YES) {
            return name_ends(p, m);
        }
        if (found == MATCH_PARTIAL || c < 0) {
            p->at = at;
            return STEP_WAIT;
        }
        if (p->at > at || at - from > LIMIT_TOOL_NAME || !output__name_char(c)) {
            return output__reject(p);
        }
    }
}

/* ---- what ends a call ---- */

/* Markers behind a call may be missing: what comes decides. */
static enum match take_tail(struct output_parser *p)
{
    for (; p->tail < 2; p->tail++) {
        const char *text = p->syntax->end[p->tail];
        enum match m = output__given(text) ? output__take(p, text) : MATCH_NO;
        if (m == MATCH_YES) {
            p->done = p->at;
        } else if (m == MATCH_PARTIAL) {
            return m;
        } else if (output__given(text) && !output__skip_space(p)) {
            return MATCH_PARTIAL;
        }
    }
    return MATCH_YES;
}

enum step output__next_item(struct output_parser *p)
{
    const struct call_syntax *s = p->syntax;
    if (take_tail(p) == MATCH_PARTIAL) {
        return STEP_WAIT;
    }
    if (s->shape == CALL_HARMONY) {
        return output__harmony_next(p);
    }
    if (s->shape == CALL_JSON || s->shape == CALL_EXPRESSION) {
        return output__go(p, s->shape == CALL_JSON ? output__json_next : output__expression_next);
    }
    if (output__given(s->item)) {
        size_t at = p->at;
        enum match m = output__take(p, s->item);
        p->at = at;
        if (m == MATCH_YES) {
            return output__go(p, output__begin_item);
        }
        if (m == MATCH_PARTIAL || !output__skip_space(p)) {
            return STEP_WAIT;
        }
    }
    return output__go(p, output__close_block);
}

/* ---- NAMED ---- */

static enum step named_ended(struct output_parser *p)
{
    output__args_end(p);
    return output__end_call(p, p->args.complete, output__next_item);
}

/* Some write nothing where there are no arguments. */
static enum match no_arguments(struct output_parser *p)
{
    const char *const ends[] = {p->syntax->end[0], p->syntax->end[1], p->syntax->close};
    size_t which;
    return output__match_any(p, ends, ARRAY_LEN(ends), &which);
}

enum step output__named_arguments(struct output_parser *p)
{
    if (!p->args.seen) {
        if (!output__skip_space(p)) {
            return STEP_WAIT;
        }
        p->done = p->at;
        enum match m = no_arguments(p);
        if (m != MATCH_NO) {
            return m == MATCH_PARTIAL ? STEP_WAIT : named_ended(p);
        }
        output__args_begin(p);
    }
    return output__args_state(p, named_ended);
}
