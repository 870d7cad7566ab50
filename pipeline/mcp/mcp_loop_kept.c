/* Turns of a loop that is kept, for those who follow it; and those that were saved of an earlier one. */
#include "base/array.h"
#include "pipeline/mcp/mcp_loop_internal.h"

#include <stdlib.h>

_Static_assert(GEN_SAVED_TURNS > MCP_HOST_MAX_TURNS, "all turns and one more");

/* ---- turns that are kept ---- */

bool mcp_loop__add_turn(struct mcp_loop *l, struct error *err)
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

void mcp_loop__put_turn_by(struct mcp_loop *l, struct prompt_state *prompts, struct choice *choices)
{
    struct kept_turn *t = l->turns[l->n_kept - 1];
    mcp_turn_release(&t->turn);
    t->turn = l->turn;
    t->prompts = prompts;
    t->choices = choices;
    t->over = true;
    mcp_turn_init(&l->turn);
}

void mcp_loop__free_turns(struct mcp_loop *l)
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

bool mcp_loop__is_saved(const struct mcp_loop *l, size_t turn)
{
    return l->saved && turn < l->saved->n_turns;
}

const struct gen_saved_calls *mcp_loop__saved_calls(const struct mcp_loop *l)
{
    size_t turn = l->n_kept - 1;
    return l->kept && l->saved && turn < l->saved->n_called ? &l->saved->calls[turn] : NULL;
}

const struct gen_saved_call *mcp_loop__saved_call(const struct mcp_loop *l, size_t n, const struct mcp_turn_call *c)
{
    static const struct gen_saved_call nobody_knows = {0};
    const struct gen_saved_calls *calls = mcp_loop__saved_calls(l);
    if (!calls) {
        return NULL;
    }
    if (n < calls->n && str_eq(calls->items[n].tool, buf_view(&c->name)) &&
        str_eq(calls->items[n].arguments, buf_view(&c->arguments))) {
        return &calls->items[n];
    }
    return l->saved->damaged ? &nobody_knows : NULL;
}
