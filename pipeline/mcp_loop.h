/* The turns of a generation whose request has tools of MCP servers: a turn runs like any generation; when it ends with
 * calls of such tools these are made, all at once, and the next turn's prompt has them and their results; and so on,
 * until a turn ends without, or with calls of the client's own tools, or there may be no more turns.
 *
 *     WRITING --FINISH--> CALLING --all results taken--> PREPARING --worker--> WRITING ...
 *        |                   | (the client's calls too, out of turns, cancelled)
 *        +------ENDED <------+
 *
 * A part of the generation (generation_internal.h), whose consumer drives it: a turn's calls are known when its end is
 * taken. A call never fails a generation: what went wrong is its result. The loop's thread, but for the preparing. */
#ifndef TANDEM_PIPELINE_MCP_LOOP_H
#define TANDEM_PIPELINE_MCP_LOOP_H

#include "pipeline/generation.h"

struct mcp_loop;

NODISCARD struct mcp_loop *mcp_loop_create(struct generation *g, struct error *err);
/* Calls under way are cancelled. True: a worker still reads the request; its arena is freed after that. */
bool mcp_loop_free(struct mcp_loop *l); /* NULL is fine */

bool mcp_loop_next(struct mcp_loop *l, int64_t now_ms, struct gen_event *event); /* as generation_next */
bool mcp_loop_ended(const struct mcp_loop *l); /* what is not taken of it is all that will ever come */
/* The generation is cancelled, or has failed: nothing begins any more. */
void mcp_loop_stop(struct mcp_loop *l);
/* Tokens of the turns that are over. */
const struct gen_usage *mcp_loop_past(const struct mcp_loop *l);
uint64_t mcp_loop_first_prompt(const struct mcp_loop *l); /* tokens of the first turn's */

#endif
