/* What a generation's consumer takes. Nothing is queued: the next event is computed from what the choices hold and was
 * not taken yet, choice after choice. */
#include "pipeline/generation_internal.h"

#include "base/array.h"
#include "base/utf8.h"

#include <math.h>

/* Best first by mean logprob per token, as OpenAI defines best_of; the lower choice wins a tie. */
static double score_of(const struct choice *c)
{
    return c->n_tokens ? c->sum_logprob / (double)c->n_tokens : -INFINITY;
}

static void order_choices(struct generation *g, size_t prompt)
{
    struct prompt_state *state = &g->prompts[prompt];
    const struct choice *choices = generation__choice(g, prompt, 0);
    for (uint32_t k = 0; k < g->request->n; k++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t i = 0; i < g->request->best_of; i++) {
            bool taken = false;
            for (uint32_t j = 0; j < k; j++) {
                taken = taken || state->order[j] == i;
            }
            if (!taken && (best == UINT32_MAX || score_of(&choices[i]) > score_of(&choices[best]))) {
                best = i;
            }
        }
        state->order[k] = best;
    }
    state->ordered = true;
}

static bool wants_tokens(const struct generation *g)
{
    return gen_request_wants_tokens(g->request);
}

static bool reserve_scratch(struct generation *g, size_t n_tokens, size_t n_tops, struct error *err)
{
    return array_reserve(&g->tokens, &g->cap_tokens, n_tokens, LIMIT_CONTEXT, "tokens", err) &&
           array_reserve(&g->tops, &g->cap_tops, n_tops, (size_t)LIMIT_CONTEXT * JOB_MAX_TOP, "logprobs", err);
}

/* One that only reads what another has fails alone. */
static void fail(struct generation *g, const struct error *err)
{
    if (g->follows || g->detached) {
        g->failed = true;
        g->error = *err;
    } else {
        (void)generation__fail(g, err);
    }
}

/* What was taken and cannot be given is not passed over: the generation ends here, with the error. */
static void end_by(struct generation *g, const struct error *why, struct gen_event *event)
{
    fail(g, why);
    g->ended = true;
    *event = (struct gen_event){.kind = GEN_ERROR, .error = *why, .stop_id = -1};
}

static void fill_tokens(struct generation *g, const struct choice_token *from, size_t n, struct gen_event *event)
{
    const struct tokenizer *tokenizer = pipeline_options(g->pipeline)->tokenizer;
    struct error err = {0};
    size_t n_tops = 0, at = 0;
    for (size_t i = 0; i < n; i++) {
        n_tops += from[i].n_top;
    }
    if (!reserve_scratch(g, n, n_tops, &err)) {
        end_by(g, &err, event);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const struct choice_token *t = &from[i];
        g->tokens[i] = (struct gen_token){
            .id = t->id,
            .logprob = t->logprob,
            .rank = t->rank,
            .bytes = tokenizer_bytes(tokenizer, t->id),
            .text_offset = t->char_begin,
            .n_top = t->n_top,
            .top = g->tops + at,
            .digest = t->digest,
        };
        for (uint32_t k = 0; k < t->n_top; k++) {
            g->tops[at++] = (struct gen_top){t->top[k].id, t->top[k].logprob, tokenizer_bytes(tokenizer, t->top[k].id)};
        }
    }
    event->tokens = g->tokens;
    event->n_tokens = n;
}

static bool next_progress(struct generation *g, struct gen_event *event)
{
    for (size_t i = 0; i < g->request->n_jobs; i++) {
        struct prompt_state *prompt = &g->prompts[i];
        if (prompt->progress_pending) {
            prompt->progress_pending = false;
            event->kind = GEN_PROGRESS;
            event->prompt = (uint32_t)i;
            event->index = (uint32_t)i * g->request->n;
            event->n_done = prompt->n_done;
            event->n_total = g->request->jobs[i].n_prompt;
            event->n_cached = prompt->n_cached;
            return true;
        }
    }
    return false;
}

static bool scores_ready(const struct generation *g, size_t prompt)
{
    const struct prompt_state *state = &g->prompts[prompt];
    return !state->scores || state->n_scores >= g->request->jobs[prompt].n_prompt ||
           g->request->jobs[prompt].n_prompt == 1;
}

static bool next_prompt_logprobs(struct generation *g, size_t prompt, struct gen_event *event)
{
    struct prompt_state *state = &g->prompts[prompt];
    const struct job *job = &g->request->jobs[prompt];
    if (!state->scores || state->scores_taken || !scores_ready(g, prompt)) {
        return false;
    }
    const struct tokenizer *tokenizer = pipeline_options(g->pipeline)->tokenizer;
    state->scores_taken = true;
    state->n_scores = job->n_prompt;
    uint32_t chars = 0;
    for (uint32_t i = 0; i < job->n_prompt; i++) {
        state->scores[i].id = job->prompt[i];
        state->scores[i].char_begin = chars;
        chars += (uint32_t)utf8_count(tokenizer_bytes(tokenizer, job->prompt[i]));
    }
    state->scores[0].logprob = NAN;
    event->kind = GEN_PROMPT_LOGPROBS;
    event->prompt = (uint32_t)prompt;
    event->index = (uint32_t)prompt * g->request->n;
    fill_tokens(g, state->scores, job->n_prompt, event);
    return true;
}

static bool flush_due(const struct generation *g, const struct choice *c, int64_t now_ms)
{
    const struct gen_request *r = g->request;
    bool by_tokens = r->interval_tokens > 1, by_time = r->interval_ms > 0;
    if (g->failed || now_ms == INT64_MAX || c->finish != FINISH_NONE || c->released_tokens == 0 ||
        (!by_tokens && !by_time)) {
        return true;
    }
    return (by_tokens && choice_pending_tokens(c) >= (size_t)r->interval_tokens) ||
           (by_time && now_ms - c->first_pending_ms >= r->interval_ms);
}

static bool next_delta(struct generation *g, struct choice *c, int64_t now_ms, struct gen_event *event)
{
    if (!choice_has_pending(c, wants_tokens(g)) || !flush_due(g, c, now_ms)) {
        return false;
    }
    size_t first, n;
    event->kind = GEN_DELTA;
    event->text = choice_take(c, &first, &n);
    if (wants_tokens(g)) {
        fill_tokens(g, c->tokens + first, n, event);
    }
    return true;
}

/* Likewise, of a choice whose text is taken apart: what was begun with goes out whole, then comes the next flush. */
static bool next_output(struct generation *g, struct choice *c, int64_t now_ms, struct gen_event *event)
{
    struct error err = {0};
    size_t first = 0, n = 0;
    bool found = choice_output_next(c->output, c, event, &first, &n, &err);
    while (!found && !err.code && choice_has_pending(c, true) && flush_due(g, c, now_ms)) {
        (void)choice_take(c, &first, &n);
        found = choice_output_next(c->output, c, event, &first, &n, &err);
    }
    if (err.code) {
        end_by(g, &err, event);
        return true;
    }
    if (found && wants_tokens(g)) {
        fill_tokens(g, c->tokens + first, n, event);
    }
    return found;
}

/* The prompt as the client gave it; as its tokens say where it gave tokens or some were cut. */
static void make_echo(struct generation *g, size_t prompt)
{
    const struct gen_request *r = g->request;
    struct prompt_state *state = &g->prompts[prompt];
    buf_init(&state->echo, GIB(1));
    if (r->input == GEN_PROMPTS && !r->prompts[prompt].ids && r->n_truncated[prompt] == 0) {
        buf_append(&state->echo, r->prompts[prompt].text);
    } else {
        tokenizer_decode(pipeline_options(g->pipeline)->tokenizer, r->jobs[prompt].prompt, r->jobs[prompt].n_prompt,
                         false, &state->echo);
    }
    state->echo_chars = utf8_count(buf_view(&state->echo));
}

static bool next_echo(struct generation *g, size_t prompt, struct choice *c, struct gen_event *event)
{
    struct prompt_state *state = &g->prompts[prompt];
    if (!g->request->echo || c->echo_taken) {
        return false;
    }
    if (!state->echo.max) {
        make_echo(g, prompt);
    }
    c->echo_taken = true;
    event->kind = GEN_DELTA;
    event->echo = true;
    event->text = buf_view(&state->echo);
    return true;
}

static bool everything_taken(const struct generation *g)
{
    for (size_t i = 0; i < g->request->n_jobs; i++) {
        for (uint32_t k = 0; k < g->request->n; k++) {
            if (!g->prompts[i].ordered || !generation__choice(g, i, g->prompts[i].order[k])->finish_taken) {
                return false;
            }
        }
    }
    return true;
}

static void finish_event(struct generation *g, struct choice *c, struct gen_event *event)
{
    const struct job *job = &g->request->jobs[event->prompt];
    c->finish_taken = true;
    event->kind = GEN_FINISH;
    event->finish = c->finish;
    event->stop = c->stop;
    event->stop_id = c->stop_id;
    event->usage =
        (struct gen_usage){.prompt_tokens = job->n_prompt, .cached_tokens = g->prompts[event->prompt].n_cached};
    generation__add_choice(&event->usage, c);
    event->n_calls = c->output ? choice_output_calls(c->output) : 0;
    if (event->n_calls > 0) {
        event->call = choice_output_call(c->output);
    }
    event->last = everything_taken(g);
}

/* What the k-th choice to give out of a prompt has now. */
static bool next_of_choice(struct generation *g, size_t prompt, uint32_t k, int64_t now_ms, struct gen_event *event)
{
    struct prompt_state *state = &g->prompts[prompt];
    if (!state->ordered) {
        if (state->n_running > 0) {
            return false;
        }
        order_choices(g, prompt);
    }
    if (next_prompt_logprobs(g, prompt, event)) {
        return true;
    }
    if (state->scores && !state->scores_taken && state->n_running > 0) {
        return false; /* the prompt's logprobs come first */
    }
    struct choice *c = generation__choice(g, prompt, state->order[k]);
    event->prompt = (uint32_t)prompt;
    event->choice = k;
    event->index = (uint32_t)prompt * g->request->n + k;
    if (c->text.failed) {
        return false; /* part of it is lost, and the generation has failed: it has no end */
    }
    if (next_echo(g, prompt, c, event)) {
        return true;
    }
    event->echo_chars = state->echo_chars;
    if (c->output ? next_output(g, c, now_ms, event) : next_delta(g, c, now_ms, event)) {
        return true;
    }
    if (c->finish != FINISH_NONE && !c->finish_taken && (!c->output || choice_output_ended(c->output))) {
        finish_event(g, c, event);
        return true;
    }
    return false;
}

static bool next_end(struct generation *g, struct gen_event *event)
{
    if (g->failed) {
        event->kind = GEN_ERROR;
        event->error = g->error;
    } else if (everything_taken(g)) {
        event->kind = GEN_DONE;
        generation__usage(g, &event->usage);
    } else {
        return false;
    }
    g->ended = true;
    return true;
}

static void begin_event(const struct generation *g, struct gen_event *event)
{
    *event = (struct gen_event){.stop_id = -1};
    if (g->request->continuous_usage) {
        generation__usage(g, &event->usage);
    }
}

void generation__give_result(const struct generation *g, const struct mcp_turn *turn, size_t call,
                             struct gen_event *event)
{
    begin_event(g, event);
    event->kind = GEN_RESULT;
    event->call = mcp_turn_call(turn, call);
    event->text = buf_view(&turn->calls[call].result);
    event->is_error = turn->calls[call].is_error;
}

bool generation__next(struct generation *g, int64_t now_ms, struct gen_event *event)
{
    begin_event(g, event);
    if (g->ended) {
        return false;
    }
    if (next_progress(g, event)) {
        return true;
    }
    size_t n = g->request->n_jobs * g->request->n;
    for (size_t turn = 0; turn < n; turn++) {
        size_t i = (g->cursor + turn) % n;
        if (next_of_choice(g, i / g->request->n, (uint32_t)(i % g->request->n), now_ms, event)) {
            g->cursor = event->kind == GEN_PROMPT_LOGPROBS ? i : i + 1;
            return true;
        }
    }
    return next_end(g, event);
}

bool generation_next(struct generation *g, int64_t now_ms, struct gen_event *event)
{
    if (g->mcp_follow) {
        return mcp_follow_next(g->mcp_follow, now_ms, event);
    }
    return g->mcp ? mcp_loop_next(g->mcp, now_ms, event) : generation__next(g, now_ms, event);
}

int64_t generation_next_due(const struct generation *g, int64_t now_ms)
{
    const struct gen_request *r = g->request;
    int64_t due = -1;
    if (r->interval_ms <= 0 || g->ended) {
        return -1;
    }
    for (size_t i = 0; i < g->n_choices; i++) {
        const struct choice *c = &g->choices[i];
        if (c->finish == FINISH_NONE && choice_has_pending(c, wants_tokens(g))) {
            int64_t left = c->first_pending_ms + r->interval_ms - now_ms;
            left = left < 0 ? 0 : left;
            due = due < 0 || left < due ? left : due;
        }
    }
    return due;
}
