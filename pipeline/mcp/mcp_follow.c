#include "pipeline/mcp/mcp_follow.h"

#include "pipeline/generation_internal.h"
#include "pipeline/generation_kept.h"

#include <stdlib.h>

enum phase { READING, RESULTS, ENDED };

struct mcp_follow {
    struct generation *g;
    const struct mcp_loop *leader;
    enum phase phase;
    size_t turn;
    size_t n_shown;          /* RESULTS: calls of the turn whose results are out, or that have none */
    struct gen_event finish; /* RESULTS: of the turn */
    struct gen_usage past;
    const struct gen_mark *marks;
    struct gen_place skip, end; /* end: of the turn, in it, before the results */
    uint32_t n_before, carry;   /* tokens of the turns before; pieces at the end of the last of them */
};

struct mcp_follow *mcp_follow_create(struct generation *f, const struct mcp_loop *leader, struct error *err)
{
    struct mcp_follow *m = calloc(1, sizeof *m);
    if (!m) {
        error_set(err, ERR_NO_MEMORY, "no memory for a reader of a request.");
        return NULL;
    }
    m->g = f;
    m->leader = leader;
    return m;
}

void mcp_follow_free(struct mcp_follow *m)
{
    free(m);
}

size_t mcp_follow_turn(const struct mcp_follow *m)
{
    return m->turn;
}

const struct gen_usage *mcp_follow_past(const struct mcp_follow *m)
{
    return &m->past;
}

/* ---- how far it may see ---- */

static bool is_last(const struct mcp_follow *m)
{
    return m->turn + 1 == mcp_loop_n_turns(m->leader);
}

/* Of the turn at hand. Marks without an end are the same for all turns, and hide the answer's end only. */
static struct gen_mark mark_of(const struct mcp_follow *m)
{
    static const struct gen_mark everything = {
        .n = UINT32_MAX, .finished = true, .n_results = UINT32_MAX, .ended = true};
    struct gen_mark mark = everything;
    if (m->marks && m->marks[0].n == UINT32_MAX) {
        mark.finished = !is_last(m) || !mcp_loop_ended(m->leader);
        mark.ended = false;
    } else if (m->marks) {
        mark = m->marks[m->turn];
    }
    return mark;
}

static void fail(struct mcp_follow *m, const struct error *why)
{
    m->g->failed = true;
    m->g->error = *why;
}

/* Its leader has failed in the turn at hand, and that may be shown: so has it. */
static void fail_as_leader(struct mcp_follow *m)
{
    const struct generation *leader = m->g->follows;
    if (!m->g->failed && leader->failed && !m->marks && is_last(m)) {
        fail(m, &leader->error);
    }
}

static bool copy(struct mcp_follow *m)
{
    struct gen_mark mark = mark_of(m);
    struct error err = {0};
    bool news = false;
    if (!generation__copy(m->g, &mark, &news, &err)) {
        fail(m, &err);
    }
    return news || m->g->failed;
}

bool mcp_follow_catch_up(struct mcp_follow *m, const struct gen_mark *marks)
{
    m->marks = marks;
    bool news = copy(m);
    if (m->phase == READING) {
        fail_as_leader(m);
    }
    return news || m->g->failed || m->phase == RESULTS;
}

/* ---- places ---- */

static uint32_t n_results(const struct mcp_follow *m)
{
    return (uint32_t)mcp_turn_n_of(mcp_loop_turn(m->leader, m->turn), true);
}

static struct choice *choice_of(const struct mcp_follow *m)
{
    return generation__choice(m->g, 0, 0);
}

/* What its reader has of the turn that begins. */
static void skip_in_turn(struct mcp_follow *m)
{
    uint32_t n = m->skip.n > m->n_before ? m->skip.n - m->n_before : 0;
    uint32_t pieces = n > 0 || m->turn == 0 ? m->skip.pieces : 0;
    if (n == 0 && m->skip.n == m->n_before && m->skip.pieces > m->carry) {
        pieces = m->skip.pieces - m->carry;
    }
    if (m->turn == 0 || n > 0 || pieces > 0) {
        choice_skip(choice_of(m), (struct gen_place){n, pieces});
    }
}

void mcp_follow_skip(struct mcp_follow *m, struct gen_place place)
{
    m->skip = place;
    skip_in_turn(m);
}

/* Of the results of the turn its reader has so many. */
static uint32_t n_skipped_results(const struct mcp_follow *m)
{
    uint32_t at = m->n_before + m->end.n;
    if (m->skip.n != at) {
        return m->skip.n > at ? UINT32_MAX : 0;
    }
    return m->skip.pieces > m->end.pieces ? m->skip.pieces - m->end.pieces : 0;
}

static uint32_t n_results_out(const struct mcp_follow *m)
{
    const struct mcp_turn *turn = mcp_loop_turn(m->leader, m->turn);
    uint32_t n = 0;
    for (size_t i = 0; i < m->n_shown && i < turn->n_calls; i++) {
        n += turn->calls[i].tool != NULL;
    }
    return n;
}

struct gen_place mcp_follow_place(const struct mcp_follow *m)
{
    if (m->phase != READING && m->finish.kind == GEN_FINISH) {
        return (struct gen_place){m->n_before + m->end.n, m->end.pieces + n_results_out(m)};
    }
    struct gen_place place = choice_position(choice_of(m));
    place.pieces += place.n == 0 ? m->carry : 0;
    place.n += m->n_before;
    return place;
}

/* ---- what its reader takes ---- */

/* Its leader has taken the call already. */
static void mark_call(const struct mcp_follow *m, struct gen_event *e)
{
    const struct mcp_turn *turn = mcp_loop_turn(m->leader, m->turn);
    if (e->kind >= GEN_CALL && e->kind <= GEN_CALL_END && e->call.index < turn->n_calls) {
        mcp_turn_mark(&turn->calls[e->call.index], e);
    }
}

static bool give_end(struct mcp_follow *m, struct gen_event *event)
{
    m->phase = ENDED;
    generation__usage(m->g, &event->usage);
    return true;
}

/* False: the turn's end is kept until its calls have results. */
static bool take(struct mcp_follow *m, struct gen_event *e)
{
    mark_call(m, e);
    if (e->kind != GEN_FINISH) {
        return true;
    }
    e->n_calls = (uint32_t)mcp_turn_n_of(mcp_loop_turn(m->leader, m->turn), false);
    if (n_results(m) == 0) {
        return give_end(m, e);
    }
    m->finish = *e;
    m->end = choice_position(choice_of(m));
    m->phase = RESULTS;
    m->n_shown = 0;
    return false;
}

static bool may_show(const struct mcp_follow *m, const struct mcp_turn *turn)
{
    return turn->calls[m->n_shown].answered && m->n_shown < mark_of(m).n_results;
}

/* The next result that its reader has not; else *all says whether all are out. */
static bool next_result(struct mcp_follow *m, struct gen_event *event, bool *all)
{
    const struct mcp_turn *turn = mcp_loop_turn(m->leader, m->turn);
    while (m->n_shown < turn->n_calls &&
           (!turn->calls[m->n_shown].tool || (may_show(m, turn) && n_results_out(m) < n_skipped_results(m)))) {
        m->n_shown++;
    }
    *all = m->n_shown == turn->n_calls;
    if (*all || !may_show(m, turn)) {
        return false;
    }
    generation__give_result(m->g, turn, m->n_shown++, event);
    return true;
}

static bool next_end(struct mcp_follow *m, struct gen_event *event)
{
    bool out_of_turns;
    enum finish_reason finish = mcp_loop_turn_end(m->leader, m->turn, &out_of_turns);
    if (finish == FINISH_NONE || !mcp_loop_ended(m->leader) || !mark_of(m).ended) {
        return false;
    }
    *event = m->finish;
    event->finish = finish;
    event->out_of_turns = out_of_turns;
    return give_end(m, event);
}

static bool next_turn(struct mcp_follow *m)
{
    struct error err = {0};
    struct gen_usage used;
    if (is_last(m)) {
        return false;
    }
    generation__usage(m->g, &used);
    uint32_t carry = m->end.pieces + n_results(m);
    if (!generation__follow_turn(m->g, mcp_loop_request(m->leader, m->turn + 1), &err)) {
        fail(m, &err);
        return false;
    }
    m->past = used;
    m->turn++;
    m->carry = carry;
    m->n_before += m->end.n;
    m->phase = READING;
    skip_in_turn(m);
    choice_of(m)->echo_taken = true;
    (void)copy(m);
    return true;
}

/* Nothing is there: that is the end, where its leader has failed. */
static bool next_failure(struct mcp_follow *m, int64_t now_ms, struct gen_event *event)
{
    fail_as_leader(m);
    return m->g->failed && generation__next(m->g, now_ms, event);
}

bool mcp_follow_next(struct mcp_follow *m, int64_t now_ms, struct gen_event *event)
{
    bool all;
    do {
        while (m->phase == READING && generation__next(m->g, now_ms, event)) {
            if (event->kind == GEN_ERROR || take(m, event)) {
                return true;
            }
        }
        if (m->phase == ENDED) {
            return generation__next(m->g, now_ms, event);
        }
        if (m->phase == READING) {
            return next_failure(m, now_ms, event);
        }
        if (next_result(m, event, &all) || (all && next_end(m, event))) {
            return true;
        }
    } while (all && next_turn(m));
    return next_failure(m, now_ms, event);
}
