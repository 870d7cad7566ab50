/* The turns of a generation whose request has tools of MCP servers: a turn runs like any generation; when it ends with
 * calls of such tools these are made, all at once, and the next turn's prompt has them and their results; and so on,
 * until a turn ends without, or with calls of the client's own tools, or there may be no more turns.
 *
 *     WRITING --FINISH--> CALLING --all results taken--> PREPARING --worker--> WRITING ...
 *        |                   | (the client's calls too, out of turns, cancelled)
 *        +------ENDED <------+
 *
 * A part of the generation (generation_internal.h), whose consumer drives it: a turn's calls are known when its end is
 * taken. A call never fails a generation: what went wrong is its result. The loop's thread, but for the preparing.
 *
 * One that is kept (generation_kept.h) takes its own events, so that it goes on whoever reads it, and keeps its turns
 * for those who follow it (mcp_follow.h). A call goes out when it is recorded that it does. What was saved of an
 * earlier process comes first: the tokens of its turns and the results of its calls, whose requests are prepared again.
 * What its turns were asked with stays in memory as long as it does: an arena for each, MCP_HOST_MAX_TURNS at most. */
#ifndef TANDEM_PIPELINE_MCP_LOOP_H
#define TANDEM_PIPELINE_MCP_LOOP_H

#include "pipeline/generation.h"
#include "pipeline/mcp/mcp_turn.h"

struct choice;
struct gen_saved;
struct mcp_loop;
struct prompt_state;

/* kept: it outlives whoever asked for it; saved: what there is of it, in the request's arena; NULL: nothing. */
NODISCARD struct mcp_loop *mcp_loop_create(struct generation *g, bool kept, const struct gen_saved *saved,
                                           struct error *err);
/* Calls under way are cancelled. True: a worker still reads the request; its arena is freed after that. */
bool mcp_loop_free(struct mcp_loop *l); /* NULL is fine */

bool mcp_loop_next(struct mcp_loop *l, int64_t now_ms, struct gen_event *event); /* as generation_next */
bool mcp_loop_ended(const struct mcp_loop *l); /* what is not taken of it is all that will ever come */
bool mcp_loop_calls(const struct mcp_loop *l); /* it is between two turns: the engine has nothing of it */
/* The generation is cancelled, or has failed: nothing begins any more. */
void mcp_loop_stop(struct mcp_loop *l);
/* Tokens of the turns that are over. */
const struct gen_usage *mcp_loop_past(const struct mcp_loop *l);
uint64_t mcp_loop_first_prompt(const struct mcp_loop *l); /* tokens of the first turn's */

/* ---- of one that is kept ---- */

void mcp_loop_drain(struct mcp_loop *l); /* takes all that there is now; nothing, where it is not kept */
bool mcp_loop_calls_due(const struct mcp_loop *l);
void mcp_loop_make_calls(struct mcp_loop *l); /* those of the due ones that are recorded by now */

size_t mcp_loop_n_turns(const struct mcp_loop *l); /* that have begun, at least 1 */
/* Of one of them; they live as long as the loop, but the calls of the last one grow. */
struct gen_request *mcp_loop_request(const struct mcp_loop *l, size_t turn);
const struct prompt_state *mcp_loop_prompt(const struct mcp_loop *l, size_t turn);
const struct choice *mcp_loop_choice(const struct mcp_loop *l, size_t turn);
struct mcp_turn *mcp_loop_turn(const struct mcp_loop *l, size_t turn);
/* What the answer ends with behind the calls of a turn; NONE: it goes on, or nobody knows yet. */
enum finish_reason mcp_loop_turn_end(const struct mcp_loop *l, size_t turn, bool *out_of_turns);

#endif
