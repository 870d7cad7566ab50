/* Calls whose arguments stand between tags, one by one: <parameter=city>Paris</parameter>. What is a string by the
 * tool's schema goes through as it is written; other values are turned into JSON when they are whole. */
#include "base/array.h"
#include "base/limits.h"
#include "chat/output_internal.h"

static enum step key(struct output_parser *p);
static enum step value_opens(struct output_parser *p);
static enum step value_begins(struct output_parser *p);
static enum step value(struct output_parser *p);

static enum step arguments_end(struct output_parser *p)
{
    output__emit_args(p, STR("}"));
    return output__end_call(p, true, output__next_item);
}

/* Another argument, or what ends the call. */
enum step output__tagged_parameter(struct output_parser *p)
{
    const struct call_syntax *s = p->syntax;
    const char *const ends[] = {s->end[0], s->close};
    size_t which;
    enum match m = output__take(p, s->key);
    if (m == MATCH_YES) {
        p->key.from = p->done = p->at;
        return output__go(p, key);
    }
    bool partial = m == MATCH_PARTIAL || !output__skip_space(p);
    enum match end = output__match_any(p, ends, ARRAY_LEN(ends), &which);
    if (end == MATCH_YES) {
        return arguments_end(p);
    }
    return partial || end == MATCH_PARTIAL ? STEP_WAIT : output__bad(p);
}

/* The key's mark says what the value is, or the schema does. */
static enum step key_ends(struct output_parser *p, const struct call_mark *m)
{
    struct str name = str_trim(output__bytes(p, p->key));
    p->type = m->use == MARK_STRING  ? VALUE_STRING
              : m->use == MARK_VALUE ? VALUE_JSON
                                     : output__value_type(p->schema, name);
    output__emit_args(p, p->first ? STR("\"") : STR(",\""));
    output__emit_escaped(p, name);
    output__emit_args(p, STR("\":"));
    p->first = false;
    p->at += strlen(m->text);
    p->done = p->at;
    return output__go(p, value_opens);
}

static enum step key(struct output_parser *p)
{
    size_t end = p->base + p->in.len;
    for (; p->at < end; p->at++) {
        const struct call_mark *m = NULL;
        enum match found = output__match_mark(p, p->syntax->key_ends, &m);
        if (found == MATCH_YES) {
            p->key.to = p->at;
            return key_ends(p, m);
        }
        if (found == MATCH_PARTIAL) {
            return STEP_WAIT;
        }
        if (p->at - p->key.from > LIMIT_TOOL_NAME || p->in.data[p->at - p->base] == '\n') {
            return output__bad(p);
        }
    }
    return STEP_WAIT;
}

static enum step value_opens(struct output_parser *p)
{
    if (!output__given(p->syntax->value)) {
        return output__go(p, value_begins);
    }
    enum match m = output__take(p, p->syntax->value);
    if (m == MATCH_YES) {
        return output__go(p, value_begins);
    }
    return m == MATCH_PARTIAL || !output__skip_space(p) ? STEP_WAIT : output__bad(p);
}

static enum step value_begins(struct output_parser *p)
{
    int c = output__peek(p);
    if (c < 0) {
        return STEP_WAIT;
    }
    p->at += p->syntax->newlines && c == '\n';
    p->done = p->at;
    if (p->type == VALUE_STRING) {
        output__emit_args(p, STR("\""));
    }
    return output__go(p, value);
}

static enum step value_ends(struct output_parser *p, size_t to)
{
    struct str text = output__bytes(p, (struct output_range){p->done, to});
    if (p->type == VALUE_STRING) {
        output__emit_escaped(p, text);
        output__emit_args(p, STR("\""));
    } else {
        struct buf b;
        buf_init(&b, p->out.max);
        output__value_json(text, p->type, &b);
        output__emit_made(p, &b);
    }
    p->at += strlen(p->syntax->value_end);
    p->done = p->at;
    return output__go(p, output__tagged_parameter);
}

static bool is_newline(const struct output_parser *p, size_t at)
{
    return p->syntax->newlines && p->in.data[at - p->base] == '\n';
}

/* A newline is held back as long as it may be the one before the closing tag. */
static enum step value(struct output_parser *p)
{
    size_t end = p->base + p->in.len;
    for (; p->at < end; p->at++) {
        enum match m = output__match_at(p, p->at, p->syntax->value_end);
        if (m == MATCH_YES) {
            bool newline = p->at > p->done && is_newline(p, p->at - 1);
            return value_ends(p, p->at - newline);
        }
        if (m == MATCH_PARTIAL) {
            break;
        }
    }
    size_t sure = p->at > p->done && is_newline(p, p->at - 1) ? p->at - 1 : p->at;
    if (p->type == VALUE_STRING && sure > p->done) {
        output__emit_escaped(p, output__bytes(p, (struct output_range){p->done, sure}));
        p->done = sure;
    }
    return STEP_WAIT;
}
