#include "pipeline/choice.h"

#include "base/array.h"
#include "base/utf8.h"
#include "pipeline/stop_strings.h"

#include <stdlib.h>

void choice_init(struct choice *c, const struct gen_request *request, const struct tokenizer *tokenizer)
{
    *c = (struct choice){.request = request, .tokenizer = tokenizer, .stop_id = -1};
    detokenizer_init(&c->detokenizer, tokenizer, request->skip_special_tokens, true);
    detokenizer_show(&c->detokenizer, request->shown_ids, request->n_shown_ids);
    buf_init(&c->text, GIB(1));
}

bool choice_take_apart(struct choice *c, uint32_t prompt, uint32_t choice, struct error *err)
{
    const struct gen_request *r = c->request;
    if (!r->tool_format && !r->reasoning_format) {
        return true;
    }
    c->aligned = true;
    c->output = choice_output_create(r, prompt, choice, err);
    return c->output != NULL;
}

bool choice_predict(struct choice *c, const int32_t *ids, uint32_t n)
{
    return prediction_init(&c->prediction, ids, n);
}

void choice_release(struct choice *c)
{
    for (size_t i = 0; i < c->n_tokens; i++) {
        free(c->tokens[i].top);
    }
    free(c->tokens);
    prediction_release(&c->prediction);
    choice_output_free(c->output);
    buf_release(&c->text);
}

bool choice_token_score(struct choice_token *t, const struct token_logprob *from)
{
    free(t->top);
    t->top = from->n_top ? malloc(from->n_top * sizeof t->top[0]) : NULL;
    t->n_top = t->top ? from->n_top : 0;
    t->logprob = from->logprob;
    t->rank = from->rank;
    if (t->top) {
        memcpy(t->top, from->top, from->n_top * sizeof t->top[0]);
    }
    return t->n_top == from->n_top;
}

/* min_tokens holds for stop strings too: they are looked for in the text that comes after so many tokens. */
static void find_stop(struct choice *c, bool *stopped)
{
    const struct gen_request *r = c->request;
    struct stop_match match;
    if (c->n_tokens < r->min_tokens) {
        c->stop_from = c->searched = c->safe = c->text.len;
        return;
    }
    if (stop_strings_find(r->stops, r->n_stops, buf_view(&c->text), c->stop_from, c->searched, &match)) {
        c->finish = FINISH_STOP;
        c->stop = r->stops[match.which];
        c->safe = r->include_stop ? match.end : match.begin;
        *stopped = true;
        return;
    }
    c->searched = c->text.len;
    c->safe = stop_strings_safe(r->stops, r->n_stops, buf_view(&c->text), c->stop_from);
}

static bool accept_token(struct choice *c, const struct engine_event *event, size_t i, int64_t now_ms,
                         struct error *err)
{
    if (!array_reserve(&c->tokens, &c->cap_tokens, c->n_tokens + 1, LIMIT_CONTEXT, "tokens of an answer", err)) {
        return false;
    }
    struct choice_token t = {
        .id = event->ids[i], .text_begin = (uint32_t)c->text.len, .char_begin = c->n_chars, .shown = true};
    if (event->logprobs) {
        t.digest = event->logprobs[i].digest;
        if (!choice_token_score(&t, &event->logprobs[i])) {
            return error_set(err, ERR_NO_MEMORY, "no memory for the logprobs of an answer.");
        }
    }
    c->sum_logprob += (double)t.logprob;
    if (event->finish == FINISH_STOP && i + 1 == event->n && event->stop_id == t.id) {
        t.shown = c->request->include_stop || !c->request->skip_special_tokens;
    }
    if (t.shown) {
        detokenizer_feed(&c->detokenizer, t.id, &c->text);
    }
    t.text_end = (uint32_t)c->text.len;
    c->n_chars += (uint32_t)utf8_count(str_slice(buf_view(&c->text), t.text_begin, t.text_end));
    if (c->released_tokens == c->n_tokens) {
        c->first_pending_ms = now_ms;
    }
    c->tokens[c->n_tokens++] = t;
    prediction_add(&c->prediction, t.id);
    return true;
}

static void skip(struct choice *c);

bool choice_accept(struct choice *c, const struct engine_event *event, int64_t now_ms, bool *stopped, struct error *err)
{
    *stopped = false;
    if (event->index > c->n_tokens) {
        return error_set(err, ERR_PROTOCOL, "the engine sent token %u of an answer where token %zu was expected.",
                         event->index, c->n_tokens);
    }
    for (size_t i = c->n_tokens - event->index; i < event->n && c->finish == FINISH_NONE; i++) {
        if (!accept_token(c, event, i, now_ms, err)) {
            return false;
        }
        find_stop(c, stopped);
    }
    c->n_drafted += event->n_drafted;
    c->n_held += event->n_held;
    if (event->finish != FINISH_NONE && c->finish == FINISH_NONE) {
        c->stop_id = event->finish == FINISH_STOP ? event->stop_id : -1;
        choice_finish(c, event->finish);
    }
    skip(c);
    return buf_ok(&c->text, "the text of an answer", err);
}

/* An answer that is cut off may end inside a character, which then does not show. Bytes that a complete answer leaves
 * without their rest are what the model said. */
void choice_finish(struct choice *c, enum finish_reason reason)
{
    c->finish = reason;
    if (reason == FINISH_STOP) {
        detokenizer_finish(&c->detokenizer, &c->text);
    }
    if (c->n_tokens) {
        c->tokens[c->n_tokens - 1].text_end = (uint32_t)c->text.len;
    }
    c->safe = c->text.len;
}

size_t choice_pending_tokens(const struct choice *c)
{
    return c->n_tokens - c->released_tokens;
}

/* Tokens go out with their text: one that is held back in part waits, one whose text begins behind a stop string never
 * goes. Those without text of their own (pieces of a character) go with what precedes them. */
static size_t count_shown(const struct choice *c)
{
    size_t n = c->released_tokens;
    bool ended = c->finish != FINISH_NONE;
    while (n < c->n_tokens && c->tokens[n].shown) {
        const struct choice_token *t = &c->tokens[n];
        bool cut = t->text_begin >= c->safe && c->safe < c->text.len;
        if (cut || (!ended && t->text_end > c->safe)) {
            break;
        }
        n++;
    }
    return n - c->released_tokens;
}

/* Of those, what goes out at once. */
static size_t count_next(const struct choice *c)
{
    size_t n = count_shown(c);
    return c->request->stepwise && n > 1 ? 1 : n;
}

/* Where the text ends that goes out with the next n tokens. */
static size_t text_end(const struct choice *c, size_t n)
{
    bool stepwise = c->request->stepwise;
    bool rest = c->finish != FINISH_NONE && n == count_shown(c) && (n == 0 || !stepwise);
    if (rest || (!c->aligned && !stepwise)) {
        return c->safe;
    }
    size_t taken = c->released_tokens + n, end = taken ? c->tokens[taken - 1].text_end : 0;
    return end < c->safe ? end : c->safe;
}

bool choice_has_pending(const struct choice *c, bool with_tokens)
{
    bool stepwise = c->request->stepwise;
    size_t n = with_tokens || c->aligned || stepwise ? count_next(c) : 0;
    return (stepwise && n > 0) || text_end(c, n) > c->released || (with_tokens && n > 0);
}

struct str choice_take(struct choice *c, size_t *first_token, size_t *n_tokens)
{
    *first_token = c->released_tokens;
    *n_tokens = count_next(c);
    size_t end = text_end(c, *n_tokens);
    struct str text = str_slice(buf_view(&c->text), c->released, end);
    c->released = end > c->released ? end : c->released;
    c->released_tokens += *n_tokens;
    return text;
}

/* What its reader already has is taken as soon as it could be given out, and not before: a token whose text is held
 * back was not given to anybody. */
static void skip(struct choice *c)
{
    if (c->released_tokens >= c->skip_tokens) {
        return;
    }
    size_t n = count_shown(c), left = c->skip_tokens - c->released_tokens, end = c->safe;
    bool whole = c->finish != FINISH_NONE && c->skip_tokens >= c->n_tokens;
    n = n < left ? n : left;
    c->released_tokens += n;
    if (!whole) {
        end = c->released_tokens ? c->tokens[c->released_tokens - 1].text_end : 0;
        end = end < c->safe ? end : c->safe;
    }
    c->released = end > c->released ? end : c->released;
}

void choice_skip(struct choice *c, struct gen_place place)
{
    c->aligned = true;
    c->skip_tokens = place.n;
    if (c->output) {
        choice_output_skip(c->output, place);
    }
    skip(c);
}

bool choice_all_taken(const struct choice *c)
{
    return c->finish != FINISH_NONE && c->released >= c->safe && count_shown(c) == 0;
}

/* The token that ended the answer need not show: it counts once all is taken. */
struct gen_place choice_position(const struct choice *c)
{
    if (c->output) {
        return choice_output_place(c->output, c);
    }
    return (struct gen_place){(uint32_t)(choice_all_taken(c) ? c->n_tokens : c->released_tokens), 0};
}
