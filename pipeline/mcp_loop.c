#include "pipeline/mcp_loop.h"

#include "base/array.h"
#include "pipeline/generation_internal.h"
#include "pipeline/generation_kept.h"
#include "pipeline/mcp_host.h"

#include <stdio.h>
#include <stdlib.h>

_Static_assert(GEN_SAVED_TURNS > MCP_HOST_MAX_TURNS, "all turns and one more");

enum phase { WRITING, CALLING, PREPARING, ENDED };

struct running { /* a call of the turn at hand */
    struct mcp_loop *loop;
    size_t call;
    struct mcp_task *task; /* NULL: it is not under way */
};

struct kept_turn { /* of a generation that is kept: what those who follow it need */
    struct gen_request request;
    struct arena *arena; /* NULL: the request's own */
    bool over;           /* what follows is its; else the generation has that */
    struct mcp_turn turn;
    struct prompt_state *prompts;
    struct choice *choices;
};

struct mcp_loop {
    struct generation *g;
    struct mcp_host *host;
    enum phase phase;
    struct mcp_turn turn;
    struct running *running; /* [turn.n_calls] while CALLING */
    size_t n_shown;          /* calls of the turn whose results are out, or have none */
    struct gen_event finish; /* of the turn; given out when it is the last */
    bool stopped, finish_due;
    uint32_t n_own, n_mcp; /* calls of the answer so far */
    int64_t n_turns, n_made;
    struct gen_usage past;
    const struct json *first_messages; /* the client's */
    struct buf messages;               /* JSON items behind them */
    struct arena *arena;               /* of the turn at hand; NULL: the first, which is the request's */
    struct arena *arena_before;        /* of the one before, where the generation has failed between them */
    struct preparation *preparation;
    enum gen_tool_choice tool_choice; /* of later turns */
    uint64_t n_first_prompt;
    int64_t max_tokens; /* of all; -1: as far as the context goes */
    uint64_t seed;
    bool kept;
    const struct gen_saved *saved; /* NULL: nothing */
    struct kept_turn **turns;      /* [n_kept] those that have begun; none, where it is not kept */
    size_t n_kept, cap_turns;
};

/* ---- turns that are kept ---- */

static bool add_turn(struct mcp_loop *l, struct error *err)
{
    if (!l->kept) {
        return true;
    }
    struct kept_turn *t = calloc(1, sizeof *t);
    if (!t) {
        return error_set(err, ERR_NO_MEMORY, "no memory for a turn of a request.");
    }
    if (!array_reserve(&l->turns, &l->cap_turns, l->n_kept + 1, GEN_SAVED_TURNS, "turns of a request", err)) {
        free(t);
        return false;
    }
    t->request = *l->g->request;
    t->arena = l->arena;
    mcp_turn_init(&t->turn);
    l->turns[l->n_kept++] = t;
    return true;
}

/* The turn at hand is over: others may still read of it. */
static void put_turn_by(struct mcp_loop *l, struct prompt_state *prompts, struct choice *choices)
{
    struct kept_turn *t = l->turns[l->n_kept - 1];
    mcp_turn_release(&t->turn);
    t->turn = l->turn;
    t->prompts = prompts;
    t->choices = choices;
    t->over = true;
    mcp_turn_init(&l->turn);
}

static void free_turns(struct mcp_loop *l)
{
    for (size_t i = 0; i < l->n_kept; i++) {
        struct kept_turn *t = l->turns[i];
        if (t->over) {
            generation__release_turn(&t->request, t->prompts, t->choices);
        }
        mcp_turn_release(&t->turn);
        if (t->arena != l->arena) {
            arena_free(t->arena);
        }
        free(t);
    }
    free(l->turns);
}

size_t mcp_loop_n_turns(const struct mcp_loop *l)
{
    return l->n_kept;
}

struct gen_request *mcp_loop_request(const struct mcp_loop *l, size_t turn)
{
    return &l->turns[turn]->request;
}

const struct prompt_state *mcp_loop_prompt(const struct mcp_loop *l, size_t turn)
{
    return l->turns[turn]->over ? l->turns[turn]->prompts : l->g->prompts;
}

const struct choice *mcp_loop_choice(const struct mcp_loop *l, size_t turn)
{
    return l->turns[turn]->over ? l->turns[turn]->choices : l->g->choices;
}

struct mcp_turn *mcp_loop_turn(const struct mcp_loop *l, size_t turn)
{
    return l->turns[turn]->over ? &l->turns[turn]->turn : (struct mcp_turn *)(uintptr_t)&l->turn;
}

enum finish_reason mcp_loop_turn_end(const struct mcp_loop *l, size_t turn, bool *out_of_turns)
{
    *out_of_turns = false;
    if (turn + 1 < l->n_kept || l->phase == WRITING || l->g->failed) {
        return FINISH_NONE;
    }
    if (l->stopped) {
        return FINISH_CANCELLED;
    }
    *out_of_turns = l->finish_due && l->finish.out_of_turns;
    return l->finish_due ? l->finish.finish : FINISH_NONE;
}

/* ---- what was saved ---- */

static bool is_saved(const struct mcp_loop *l, size_t turn)
{
    return l->saved && turn < l->saved->n_turns;
}

/* Of the turn at hand; NULL: it had none. */
static const struct gen_saved_calls *saved_calls(const struct mcp_loop *l)
{
    size_t turn = l->n_kept - 1;
    return l->kept && l->saved && turn < l->saved->n_called ? &l->saved->calls[turn] : NULL;
}

/* Of the n-th call of an MCP tool of the turn at hand: what was recorded of it; NULL: nothing, so it never went out.
 * What is damaged may have gone out. */
static const struct gen_saved_call *saved_call(const struct mcp_loop *l, size_t n, const struct mcp_turn_call *c)
{
    static const struct gen_saved_call nobody_knows = {0};
    const struct gen_saved_calls *calls = saved_calls(l);
    if (!calls) {
        return NULL;
    }
    if (n < calls->n && str_eq(calls->items[n].tool, buf_view(&c->name)) &&
        str_eq(calls->items[n].arguments, buf_view(&c->arguments))) {
        return &calls->items[n];
    }
    return l->saved->damaged ? &nobody_knows : NULL;
}

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
    if (!add_turn(l, err)) {
        (void)mcp_loop_free(l);
        return NULL;
    }
    return l;
}

bool mcp_loop_ended(const struct mcp_loop *l)
{
    return l->phase == ENDED;
}

const struct gen_usage *mcp_loop_past(const struct mcp_loop *l)
{
    return &l->past;
}

uint64_t mcp_loop_first_prompt(const struct mcp_loop *l)
{
    return l->n_first_prompt;
}

/* ---- calls ---- */

static void answer_error(struct mcp_loop *l, size_t call, const char *text)
{
    mcp_turn_answer(&l->turn, call, true, str_of(text));
}

static void on_answer(void *arg, const struct mcp_answer *answer)
{
    struct running *r = arg;
    struct mcp_loop *l = r->loop;
    r->task = NULL;
    mcp_turn_answer(&l->turn, r->call, answer->is_error, answer->text);
    if (!l->stopped) {
        generation__notify(l->g);
    }
}

static void send_call(struct mcp_loop *l, size_t i)
{
    struct mcp_turn_call *c = &l->turn.calls[i];
    const struct gen_request *r = l->g->request;
    struct error err = {0};
    char text[sizeof err.msg + 16];
    l->running[i] = (struct running){.loop = l, .call = i};
    struct mcp_call_request call = {.request_id = r->request_id,
                                    .tool = *c->tool,
                                    .arguments = buf_view(&c->arguments),
                                    .done = on_answer,
                                    .arg = &l->running[i]};
    l->running[i].task = mcp_host_call(l->host, &call, &err);
    if (!l->running[i].task) {
        snprintf(text, sizeof text, "not called: %s", err.msg);
        answer_error(l, i, text);
    }
}

/* May it be made twice? Its server says so; nobody knows whether that is true. */
static bool is_repeatable(const struct gen_mcp_tool *tool)
{
    const struct json *hints = json_get(tool->definition, "annotations");
    return json_bool(json_get(hints, "readOnlyHint")) || json_bool(json_get(hints, "idempotentHint"));
}

static void make_call(struct mcp_loop *l, size_t i, const struct gen_saved_call *saved)
{
    struct mcp_turn_call *c = &l->turn.calls[i];
    const struct gen_request *r = l->g->request;
    if (saved && saved->answered) {
        l->n_made += c->valid;
        mcp_turn_answer(&l->turn, i, saved->is_error, saved->text);
        return;
    }
    if (!c->valid) {
        mcp_host_note_invalid(l->host, r->request_id, c->tool);
        mcp_turn_answer(&l->turn, i, true, buf_view(&c->fault));
        return;
    }
    if (r->mcp.max_calls > 0 && l->n_made >= r->mcp.max_calls) {
        answer_error(l, i, "not called: the request's limit of tool calls is reached.");
        return;
    }
    l->n_made++;
    if (saved && !is_repeatable(c->tool)) {
        answer_error(l, i,
                     "the server was restarted while this tool ran: it may or may not have done its work. It was not "
                     "called again.");
    } else if (!l->kept) {
        send_call(l, i);
    } else {
        c->due = !l->g->detached;
    }
}

/* Each call of an MCP tool gets a result, whether it is made or not. */
static void make_calls(struct mcp_loop *l, const char *why_not)
{
    free(l->running);
    l->running = calloc(l->turn.n_calls, sizeof *l->running);
    why_not = l->running ? why_not : "not called: no memory.";
    for (size_t i = 0, n = 0; i < l->turn.n_calls; i++) {
        struct mcp_turn_call *c = &l->turn.calls[i];
        const struct gen_saved_call *saved = c->tool ? saved_call(l, n, c) : NULL;
        n += c->tool != NULL;
        if (c->tool && why_not && !(saved && saved->answered)) {
            answer_error(l, i, why_not);
        } else if (c->tool) {
            make_call(l, i, saved);
        }
    }
}

bool mcp_loop_calls_due(const struct mcp_loop *l)
{
    for (size_t i = 0; l->phase == CALLING && i < l->turn.n_calls; i++) {
        if (l->turn.calls[i].due) {
            return true;
        }
    }
    return false;
}

void mcp_loop_make_calls(struct mcp_loop *l)
{
    bool any = false;
    for (size_t i = 0; l->phase == CALLING && i < l->turn.n_calls; i++) {
        struct mcp_turn_call *c = &l->turn.calls[i];
        if (c->due && c->saved) {
            c->due = false;
            any = true;
            send_call(l, i);
        }
    }
    if (any) {
        generation__notify(l->g); /* one may have its result already */
    }
}

static void cancel_calls(struct mcp_loop *l)
{
    for (size_t i = 0; l->phase == CALLING && l->running && i < l->turn.n_calls; i++) {
        bool waits = l->turn.calls[i].due || l->running[i].task;
        if (l->running[i].task) {
            mcp_task_cancel(l->running[i].task);
            l->running[i].task = NULL;
        }
        l->turn.calls[i].due = false;
        if (waits && !l->g->failed) { /* one that has failed may be tried again */
            answer_error(l, i, "cancelled.");
        }
    }
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
    const struct gen_saved_calls *calls = saved_calls(l);
    if (l->kept && is_saved(l, turn + 1)) {
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
    mcp_host_note_turn(l->host);
    l->finish = *e;
    l->phase = CALLING;
    l->n_shown = 0;
    const char *why = decide(l);
    recovery_note_end(l->g); /* nobody waits for it while it has nothing in the engine */
    make_calls(l, why);
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

static void give_result(struct mcp_loop *l, size_t call, struct gen_event *event)
{
    const struct mcp_turn_call *c = &l->turn.calls[call];
    event->kind = GEN_RESULT;
    event->prompt = l->finish.prompt;
    event->choice = l->finish.choice;
    event->index = l->finish.index;
    event->call = mcp_turn_call(&l->turn, call);
    event->text = buf_view(&c->result);
    event->is_error = c->is_error;
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
    put_turn_by(l, prompts, choices);
    return add_turn(l, err) &&
           (!is_saved(l, l->n_kept - 1) || generation__restore_turn(g, l->saved, l->n_kept - 1, err)) &&
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
    give_result(l, l->n_shown++, event);
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
    cancel_calls(l);
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
    free_turns(l);
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
