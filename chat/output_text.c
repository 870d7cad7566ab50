/* Outside of calls: text and reasoning, up to a marker. What may become one is held back, and so is white space, which
 * belongs to no piece where it touches a marker. */
#include "base/array.h"
#include "chat/output_internal.h"

/* ---- marks ---- */

static void add_mark(struct output_parser *p, const char *text, enum text_mark_use use, const struct call_syntax *s)
{
    if (!output__given(text)) {
        return;
    }
    for (size_t i = 0; i < p->n_marks; i++) {
        if (strcmp(p->marks[i].text, text) == 0) {
            return; /* another syntax with this opener: tried when the first one does not fit */
        }
    }
    if (p->n_marks < TEXT_MARKS) {
        p->marks[p->n_marks++] = (struct text_mark){text, use, s};
        p->mark_starts[(unsigned char)*text] = 1;
    }
}

void output__prepare_text(struct output_parser *p)
{
    const struct tool_format *tools = p->options.tools;
    const struct reasoning_format *r = p->options.reasoning;
    for (size_t i = 0; tools && i < CALL_SYNTAXES && tools->syntaxes[i]; i++) {
        add_mark(p, tools->syntaxes[i]->open, TEXT_CALL, tools->syntaxes[i]);
        p->bare = !p->bare && !tools->syntaxes[i]->open[0] ? tools->syntaxes[i] : p->bare;
    }
    for (size_t i = 0; tools && i < ARRAY_LEN(tools->answer); i++) {
        add_mark(p, tools->answer[i], TEXT_ANSWER, NULL);
    }
    for (size_t i = 0; r && i < ARRAY_LEN(r->starts); i++) {
        add_mark(p, r->starts[i], TEXT_REASONING, NULL);
        add_mark(p, r->ends[i], TEXT_REASONING_END, NULL);
    }
    if (r) {
        add_mark(p, r->answer[0], TEXT_ANSWER, NULL);
        add_mark(p, r->answer[1], TEXT_ANSWER_END, NULL);
    }
    output__begin_text(p);
    p->fresh = true;
}

/* Is a mark one where the text stands now? Reasoning only begins where an answer would; its end without a beginning is
 * dropped there, as models write it that were told not to reason. */
static bool counts(const struct output_parser *p, enum text_mark_use use)
{
    switch (use) {
    case TEXT_CALL:
        return !p->reasoning || p->options.reasoning->ends_at_call;
    case TEXT_REASONING:
    case TEXT_ANSWER:
        return !p->reasoning && p->fresh;
    case TEXT_REASONING_END:
        return p->reasoning || p->fresh;
    case TEXT_ANSWER_END:
        return !p->reasoning && p->in_answer;
    }
    return false;
}

/* The longest mark that is there. One that may still come is waited for, as it may be the longer one. */
static enum match find_mark(const struct output_parser *p, size_t at, const struct text_mark **found)
{
    enum match result = MATCH_NO;
    if (!p->mark_starts[(unsigned char)p->in.data[at - p->base]]) {
        return MATCH_NO;
    }
    for (size_t i = 0; i < p->n_marks; i++) {
        const struct text_mark *m = &p->marks[i];
        enum match one = counts(p, m->use) ? output__match_at(p, at, m->text) : MATCH_NO;
        if (one == MATCH_PARTIAL) {
            return MATCH_PARTIAL;
        }
        if (one == MATCH_YES && (result == MATCH_NO || strlen(m->text) > strlen((*found)->text))) {
            *found = m;
            result = MATCH_YES;
        }
    }
    return result;
}

/* ---- what marks do ---- */

void output__begin_text(struct output_parser *p)
{
    p->state = output__text;
    p->syntax = NULL;
}

void output__begin_reasoning(struct output_parser *p)
{
    p->reasoning = p->trim = true;
    p->fresh = false;
}

static enum step begin_block(struct output_parser *p, size_t at, const struct call_syntax *s)
{
    p->candidate = at;
    p->syntax = s;
    p->committed = false;
    p->at = at + strlen(s->open);
    return output__go(p, output__begin_block);
}

static enum step at_mark(struct output_parser *p, const struct text_mark *m, size_t at)
{
    size_t end = at + strlen(m->text);
    if (m->use == TEXT_CALL) {
        return begin_block(p, at, m->syntax);
    }
    p->at = p->done = end;
    p->trim = true;
    p->fresh = m->use != TEXT_ANSWER_END;
    p->reasoning = false;
    p->in_answer = m->use == TEXT_ANSWER || m->use == TEXT_REASONING_END;
    if (m->use == TEXT_REASONING) {
        output__begin_reasoning(p);
    }
    return STEP_GO;
}

/* An answer begins here, with no marker: a call without one? */
static enum step answer_begins(struct output_parser *p, size_t at)
{
    p->fresh = false;
    return p->bare ? begin_block(p, at, p->bare) : STEP_GO;
}

/* [done, at) is white space that is held back. */
enum step output__text(struct output_parser *p)
{
    size_t end = p->base + p->in.len, text_end = p->done, i = p->at;
    const struct text_mark *mark = NULL;
    enum match m = MATCH_NO;
    bool bare = false;
    for (; i < end; i++) {
        if (output__space(p->in.data[i - p->base])) {
            continue;
        }
        m = find_mark(p, i, &mark);
        bare = m == MATCH_NO && p->fresh;
        if (m != MATCH_NO || bare) {
            break;
        }
        text_end = i + 1;
    }
    if (text_end > p->done) {
        p->at = text_end; /* what the piece comes from */
        output__emit_until(p, text_end);
    }
    p->at = i;
    if (m == MATCH_YES) {
        return at_mark(p, mark, i);
    }
    return bare ? answer_begins(p, i) : STEP_WAIT;
}
