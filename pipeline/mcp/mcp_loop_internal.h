/* Shared by the files of the loop of turns only:
 *
 *     mcp_loop.c         turns, from the first to the last
 *     mcp_loop_calls.c   the calls of one
 *     mcp_loop_kept.c    those that are kept, and what was saved of them */
#ifndef TANDEM_PIPELINE_MCP_LOOP_INTERNAL_H
#define TANDEM_PIPELINE_MCP_LOOP_INTERNAL_H

#include "pipeline/generation_internal.h"
#include "pipeline/generation_kept.h"
#include "pipeline/mcp/mcp_host.h"

enum mcp_phase { WRITING, CALLING, PREPARING, ENDED };

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
    enum mcp_phase phase;
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

/* mcp_loop_calls.c */

/* Each call of an MCP tool gets a result, whether it is made or not. why_not: no call is made for that; NULL: they are.
 */
void mcp_loop__make_calls(struct mcp_loop *l, const char *why_not);
void mcp_loop__cancel_calls(struct mcp_loop *l);

/* mcp_loop_kept.c */

/* The turn at hand begins; nothing, where the loop is not kept. */
NODISCARD bool mcp_loop__add_turn(struct mcp_loop *l, struct error *err);
/* It is over: others may still read of it. */
void mcp_loop__put_turn_by(struct mcp_loop *l, struct prompt_state *prompts, struct choice *choices);
void mcp_loop__free_turns(struct mcp_loop *l);
bool mcp_loop__is_saved(const struct mcp_loop *l, size_t turn); /* there is something of its text */
/* Calls of the turn at hand; NULL: it had none. */
const struct gen_saved_calls *mcp_loop__saved_calls(const struct mcp_loop *l);
/* Of the n-th call of an MCP tool of the turn at hand: what was recorded of it; NULL: nothing, so it never went out.
 * What is damaged may have gone out. */
const struct gen_saved_call *mcp_loop__saved_call(const struct mcp_loop *l, size_t n, const struct mcp_turn_call *c);

#endif
