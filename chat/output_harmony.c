/* Harmony, the format of gpt-oss: an answer is a series of messages, each with a header that names its channel and
 * maybe a recipient (https://github.com/openai/harmony, docs/format.md):
 *
 *     <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>commentary to=functions.f
 *     <|constrain|>json<|message|>{...}<|call|>
 *
 * The prompt ends with "<|start|>assistant", so an answer begins inside a header. Text of the channel analysis is
 * reasoning, of others the answer; a message to a function is a call. */
#include "base/array.h"
#include "chat/output_internal.h"

#define HEADER_MAX 512

static const struct call_syntax call = {
    .shape = CALL_HARMONY,
    .qualified = true,
    .open = "<|start|>",
    .item = "<|channel|>",
    .close = "<|return|>",
    .end = {"<|call|>", "<|end|>"},
};

/* What ends a message; the last two begin the next one. */
static const char *const ends[] = {"<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>"};
/* What a header may begin with. */
static const char *const begins[] = {"<|channel|>", "<|start|>", "<|message|>", "<|constrain|>", "to="};

static enum step header_begins(struct output_parser *p);
static enum step header(struct output_parser *p);
static enum step body(struct output_parser *p);

void output__harmony_begin(struct output_parser *p)
{
    const struct tool_format *t = p->options.tools;
    const struct reasoning_format *r = p->options.reasoning;
    if ((t && t->syntaxes[0]->shape == CALL_HARMONY) || (r && r->harmony)) {
        p->trim = false;
        p->syntax = NULL;
        p->state = p->reasoning ? body : header_begins;
    }
}

enum step output__harmony_next(struct output_parser *p)
{
    p->trim = p->reasoning = false;
    p->syntax = NULL;
    return output__go(p, header_begins);
}

/* Some write an answer without any header. */
static enum step header_begins(struct output_parser *p)
{
    size_t which;
    if (!output__skip_space(p)) {
        return STEP_WAIT;
    }
    enum match m = output__match_any(p, begins, ARRAY_LEN(begins), &which);
    if (m == MATCH_PARTIAL) {
        return STEP_WAIT;
    }
    if (m == MATCH_NO) {
        p->at = p->done;
    }
    return output__go(p, m == MATCH_YES ? header : body);
}

/* The word behind the last `before` in a header. */
static struct str word_after(struct str header, struct str before)
{
    size_t at;
    struct str rest = {0};
    while ((at = str_find(header, before)) != STR_NPOS) {
        rest = header = str_slice(header, at + before.len, header.len);
    }
    size_t n = 0;
    while (n < rest.len && !output__space(rest.ptr[n]) && rest.ptr[n] != '<') {
        n++;
    }
    return str_slice(rest, 0, n);
}

static enum step message_begins(struct output_parser *p, struct str head)
{
    struct str to = word_after(head, STR("to="));
    bool function = str_starts(to, STR("functions.")) || output__tool(p, to);
    p->reasoning = str_eq(word_after(head, STR("<|channel|>")), STR("analysis"));
    p->syntax = &call;
    if (p->options.tools && function && output__commit(p, to, (struct str){0})) {
        p->args = (struct output_args){0};
        return output__go(p, output__named_arguments);
    }
    p->syntax = NULL;
    p->done = p->at;
    return output__go(p, body);
}

static enum step header(struct output_parser *p)
{
    for (; output__peek(p) >= 0; p->at++) {
        enum match m = output__match_at(p, p->at, "<|message|>");
        if (m == MATCH_PARTIAL) {
            return STEP_WAIT;
        }
        if (m == MATCH_YES) {
            struct str head = output__bytes(p, (struct output_range){p->done, p->at});
            p->at += strlen("<|message|>");
            return message_begins(p, head);
        }
        if (p->at - p->done > HEADER_MAX) {
            p->state = body; /* no header after all */
            return STEP_GO;
        }
    }
    if (p->ended) {
        p->done = p->at; /* a header that was cut off holds no text */
    }
    return STEP_WAIT;
}

static enum step body(struct output_parser *p)
{
    for (; output__peek(p) >= 0; p->at++) {
        size_t which = 0;
        enum match m = output__match_any(p, ends, ARRAY_LEN(ends), &which);
        if (m == MATCH_NO) {
            continue;
        }
        output__emit_until(p, p->at);
        if (m == MATCH_PARTIAL) {
            return STEP_WAIT;
        }
        p->at += which < 3 ? strlen(ends[which]) : 0;
        p->done = p->at;
        return output__harmony_next(p);
    }
    output__emit_until(p, p->at);
    return STEP_WAIT;
}
