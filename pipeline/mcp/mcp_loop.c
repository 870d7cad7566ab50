#include "pipeline/mcp/mcp_loop.h"

#include "pipeline/mcp/mcp_loop_internal.h"

#include <stdlib.h>

struct mcp_loop *mcp_loop_create(struct generation *g, bool kept, const struct gen_saved *saved, struct error *err)
{
    const struct gen_request *r = g->request;
    struct mcp_loop *l = calloc(1, sizeof *l);
    if (!l) {
        error_set(err, ERR_NO_MEMORY, "no memory for a request.");
        return NULL;
    }
    l->g = g;
    l->host = pipeline_options(g->pipeline)->mcp;
    l->first_messages = r->messages;
    l->n_first_prompt = r->jobs[0].n_prompt;
    l->tool_choice = r->tool_choice == GEN_TOOLS_NONE ? GEN_TOOLS_NONE : GEN_TOOLS_AUTO;
    l->max_tokens = r->max_tokens;
    l->seed = r->seed;
    l->kept = kept;
    l->saved = saved;
    mcp_turn_init(&l->turn);
    buf_init(&l->messages, LIMIT_HTTP_BODY);
    if (!mcp_loop__add_turn(l, err)) {
        (void)mcp_loop_free(l);
        return NULL;
    }
    return l;
}

bool mcp_loop_ended(const struct mcp_loop *l)
{
    return l->phase == ENDED;
}

bool mcp_loop_calls(const struct mcp_loop *l)
{
    return l->phase == CALLING || l->phase == PREPARING;
}

const struct gen_usage *mcp_loop_past(const struct mcp_loop *l)
{
    return &l->past;
}

uint64_t mcp_loop_first_prompt(const struct mcp_loop *l)
{
    return l->n_first_prompt;
}

/* ---- the end of a turn ---- */

static void end(struct mcp_loop *l)
{
    l->phase = ENDED;
    generation__end(l->g);
}

/* What the answer may still have; all tokens, where it has no limit. */
static int64_t tokens_left(const struct mcp_loop *l)
{
    struct gen_usage used;
    generation__usage(l->g, &used);
    return l->max_tokens < 0 ? INT64_MAX : l->max_tokens - (int64_t)used.completion_tokens;
}

/* Why the turn's calls are not made; NULL: they are. Where the client's calls end the answer, no turn has to follow. */
static const char *why_not(struct mcp_loop *l)
{
    struct gen_event *f = &l->finish;
    if (l->stopped || f->finish == FINISH_CANCELLED) {
        return "not called: the request was cancelled.";
    }
    if (f->finish != FINISH_STOP) {
        return "not called: the answer was cut off.";
    }
    bool ends = f->n_calls > 0, no_tokens = tokens_left(l) <= 0;
    f->out_of_turns = !ends && l->n_turns >= mcp_host_options(l->host)->max_turns;
    if (!f->out_of_turns && (ends || !no_tokens)) {
        return NULL;
    }
    f->finish = FINISH_LENGTH;
    return f->out_of_turns ? "not called: the request may have no more turns."
                           : "not called: the answer may have no more tokens.";
}

/* What was saved holds, whatever the limits are now. */
static const char *decide(struct mcp_loop *l)
{
    size_t turn = l->n_kept - 1;
    const struct gen_saved_calls *calls = mcp_loop__saved_calls(l);
    if (l->kept && mcp_loop__is_saved(l, turn + 1)) {
        l->finish_due = false;
        return NULL;
    }
    if (calls && calls->n && calls->items[0].finish != FINISH_NONE) {
        l->finish.finish = calls->items[0].finish;
        l->finish.out_of_turns = calls->items[0].out_of_turns;
        l->finish_due = true;
        return NULL;
    }
    const char *why = why_not(l);
    l->finish_due = why || l->finish.n_calls > 0;
    return why;
}

/* False: the turn's end is kept until its calls have results. */
static bool take_finish(struct mcp_loop *l, struct gen_event *e)
{
    l->n_turns++;
    e->n_calls = (uint32_t)mcp_turn_n_of(&l->turn, false);
    if (mcp_turn_n_of(&l->turn, true) == 0) {
        end(l);
        generation__usage(l->g, &e->usage);
        return true;
    }
    const struct gen_saved_calls *calls = mcp_loop__saved_calls(l);
    if (!calls || !calls->n) { /* else it was counted when it was made */
        mcp_host_note_turn(l->host);
    }
    l->finish = *e;
    l->phase = CALLING;
    l->n_shown = 0;
    const char *why = decide(l);
    recovery_note_end(l->g); /* nobody waits for it while it has nothing in the engine */
    mcp_loop__make_calls(l, why);
    return false;
}

static bool give_finish(struct mcp_loop *l, struct gen_event *event)
{
    *event = l->finish;
    event->finish = l->stopped ? FINISH_CANCELLED : event->finish;
    generation__choice(l->g, 0, 0)->finish = event->finish; /* for whoever asks how it ended */
    end(l);
    generation__usage(l->g, &event->usage);
    return true;
}

/* ---- the next turn ---- */

struct preparation {
    struct mcp_loop *loop; /* NULL: it is gone */
    struct pipeline *pipeline;
    struct gen_request next;
    const struct json *first_messages;
    struct str added;                   /* in next's arena */
    struct arena *orphan, *turn_before; /* the request's and the turn's, once the loop is gone */
    bool ok;
    struct error error;
};

static const struct json *all_messages(struct preparation *p, struct error *err)
{
    struct buf text;
    buf_init(&text, LIMIT_HTTP_BODY + LIMIT_REQUEST_ARENA / 4);
    struct json_writer w = json_writer(&text);
    json_begin_array(&w);
    for (size_t i = 0; i < json_len(p->first_messages); i++) {
        json_put_json(&w, json_at(p->first_messages, i));
    }
    json_put_raw(&w, p->added);
    json_end_array(&w);
    struct json *root =
        buf_ok(&text, "the conversation", err) ? json_parse(buf_view(&text), LIMIT_JSON_DEPTH + 8, err) : NULL;
    buf_release(&text);
    return json_keep(root, p->next.arena, "the conversation", err);
}

static void prepare(void *arg)
{
    struct preparation *p = arg;
    p->next.messages = all_messages(p, &p->error);
    p->ok = p->next.messages && pipeline_prepare(p->pipeline, &p->next, &p->error);
}

static bool begin_turn(struct mcp_loop *l, const struct gen_request *next, struct error *err)
{
    struct generation *g = l->g;
    struct prompt_state *prompts;
    struct choice *choices;
    struct gen_request asked = *g->request;
    if (!generation__swap_turn(g, next, &prompts, &choices, err)) {
        return false;
    }
    if (!l->kept) {
        generation__release_turn(&asked, prompts, choices);
        return generation__begin_turn(g, err);
    }
    mcp_loop__put_turn_by(l, prompts, choices);
    return mcp_loop__add_turn(l, err) &&
           (!mcp_loop__is_saved(l, l->n_kept - 1) || generation__restore_turn(g, l->saved, l->n_kept - 1, err)) &&
           (g->detached || generation__begin_turn(g, err));
}

/* What the turn was asked with stays; what the first had of its own goes. */
static void go_on(struct mcp_loop *l, struct preparation *p)
{
    struct generation *g = l->g;
    struct error err = {0};
    struct gen_usage used;
    generation__usage(g, &used);
    l->past = used;
    l->arena_before = l->arena;
    l->arena = p->next.arena;
    p->next.arena = NULL;
    if (!l->kept) {
        mcp_turn_clear(&l->turn);
    }
    l->phase = WRITING;
    if (begin_turn(l, &p->next, &err)) {
        if (!l->kept) {
            arena_free(l->arena_before);
        }
        l->arena_before = NULL;
    } else {
        (void)generation__fail(g, &err);
        generation__notify(g);
        return;
    }
    if (l->kept) {
        generation__notify(g); /* all of it may be there already */
    }
}

static void prepared(void *arg)
{
    struct preparation *p = arg;
    struct mcp_loop *l = p->loop;
    struct pipeline *pipeline = p->pipeline;
    if (l) {
        l->preparation = NULL;
    }
    if (l && !l->stopped && p->ok) {
        go_on(l, p);
    } else if (l && !l->stopped && generation__fail(l->g, &p->error)) {
        generation__notify(l->g);
    }
    arena_free(p->next.arena);
    arena_free(p->turn_before);
    if (p->orphan) {
        pipeline__free_arena(pipeline, p->orphan);
    }
    free(p);
    pipeline__hold(pipeline, false);
}

static struct gen_request next_request(const struct mcp_loop *l, struct arena *arena)
{
    struct gen_request next = *l->g->request;
    next.arena = arena;
    next.tool_choice = l->tool_choice;
    next.max_tokens = l->max_tokens < 0 ? -1 : tokens_left(l);
    next.seed = l->seed + (uint64_t)l->n_turns;
    next.has_prediction = false;
    next.prediction = next.widened = (struct str){0};
    return next;
}

/* False: it could not begin, and the generation has failed. */
static bool begin_preparation(struct mcp_loop *l)
{
    struct generation *g = l->g;
    struct error err = {0};
    struct preparation *p = calloc(1, sizeof *p);
    struct arena *arena = p ? arena_create(LIMIT_REQUEST_ARENA) : NULL;
    struct json_writer w = {.out = &l->messages, .need_comma = l->messages.len > 0};
    mcp_turn_put_messages(&l->turn, &w);
    struct str added = arena ? arena_str(arena, buf_view(&l->messages)) : (struct str){0};
    if (!added.ptr) {
        error_set(&err, ERR_NO_MEMORY, "no memory for the next turn of a request.");
    }
    if (err.code || !mcp_turn_ok(&l->turn, &err) || !buf_ok(&l->messages, "the conversation", &err)) {
        arena_free(arena);
        free(p);
        (void)generation__fail(g, &err);
        return false;
    }
    *p = (struct preparation){.loop = l,
                              .pipeline = g->pipeline,
                              .next = next_request(l, arena),
                              .first_messages = l->first_messages,
                              .added = added};
    l->preparation = p;
    l->phase = PREPARING;
    pipeline__hold(g->pipeline, true);
    loop_work(mcp_host_options(l->host)->loop, prepare, prepared, p);
    return true;
}

/* ---- what its consumer takes ---- */

/* False: the event is not given out. */
static bool take(struct mcp_loop *l, struct gen_event *e)
{
    struct error err = {0};
    if (!mcp_turn_take(&l->turn, &l->g->request->mcp, e, &l->n_own, &l->n_mcp, &err)) {
        (void)generation__fail(l->g, &err);
        return false;
    }
    return e->kind != GEN_FINISH || take_finish(l, e);
}

/* The next result, in the order of the calls; else *all says whether there will be one. */
static bool next_result(struct mcp_loop *l, struct gen_event *event, bool *all)
{
    while (l->n_shown < l->turn.n_calls && !l->turn.calls[l->n_shown].tool) {
        l->n_shown++;
    }
    *all = l->n_shown == l->turn.n_calls;
    if (*all || !l->turn.calls[l->n_shown].answered) {
        return false;
    }
    generation__give_result(l->g, &l->turn, l->n_shown++, event);
    return true;
}

static bool next_of_calls(struct mcp_loop *l, int64_t now_ms, struct gen_event *event)
{
    bool all;
    if (next_result(l, event, &all)) {
        return true;
    }
    if (all && (l->finish_due || l->stopped)) {
        return give_finish(l, event);
    }
    return all && !begin_preparation(l) && generation__next(l->g, now_ms, event);
}

bool mcp_loop_next(struct mcp_loop *l, int64_t now_ms, struct gen_event *event)
{
    while (l->phase == WRITING && !l->g->failed && generation__next(l->g, now_ms, event)) {
        if (event->kind == GEN_ERROR || take(l, event)) {
            return true;
        }
    }
    if (l->phase == ENDED || l->g->failed) {
        return generation__next(l->g, now_ms, event);
    }
    if (l->phase == PREPARING && l->stopped) {
        return give_finish(l, event);
    }
    return l->phase == CALLING && next_of_calls(l, now_ms, event);
}

/* What was saved is all that there is, and it has no end. */
static bool is_exhausted(const struct mcp_loop *l)
{
    return l->g->detached && !l->g->failed && (l->phase == WRITING || l->phase == CALLING);
}

void mcp_loop_drain(struct mcp_loop *l)
{
    struct gen_event event;
    while (l->kept && mcp_loop_next(l, INT64_MAX, &event)) {
    }
    if (l->kept && is_exhausted(l)) {
        generation__fail_replay(l->g, l->saved);
        while (mcp_loop_next(l, INT64_MAX, &event)) {
        }
    }
}

/* ---- its end ---- */

void mcp_loop_stop(struct mcp_loop *l)
{
    if (l->stopped || l->phase == ENDED) {
        return;
    }
    l->stopped = true;
    mcp_loop__cancel_calls(l);
    if (l->phase != WRITING) { /* the turn has ended, the answer did not */
        generation__choice(l->g, 0, 0)->finish = FINISH_CANCELLED;
    }
}

bool mcp_loop_free(struct mcp_loop *l)
{
    if (!l) {
        return false;
    }
    mcp_loop_stop(l);
    bool read = l->preparation != NULL;
    mcp_loop__free_turns(l);
    if (read) {
        l->preparation->loop = NULL;
        l->preparation->orphan = l->g->request->arena;
        l->preparation->turn_before = l->arena;
    } else {
        arena_free(l->arena);
    }
    arena_free(l->arena_before);
    mcp_turn_release(&l->turn);
    buf_release(&l->messages);
    free(l->running);
    free(l);
    return read;
}
