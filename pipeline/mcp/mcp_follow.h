/* The turns of a generation with tools of MCP servers, as somebody reads them who follows it (generation_kept.h): the
 * tokens of each turn as its leader has or had them, then the results of its calls, then the next turn. It prepares,
 * computes and calls nothing. What it has of the leader's is found anew whenever something is taken, so a reader who
 * was slow goes through all turns at once.
 *
 * Places of an answer of several turns count the tokens of all of them. At the end of a turn the results of its calls
 * are pieces behind those of its last token, and the pieces of the next turn's first token come behind them.
 *
 * Owned by the follower; the loop's thread. */
#ifndef TANDEM_PIPELINE_MCP_FOLLOW_H
#define TANDEM_PIPELINE_MCP_FOLLOW_H

#include "pipeline/choice_output.h"
#include "pipeline/generation.h"

struct gen_mark;
struct mcp_follow;
struct mcp_loop;

/* f: the follower, whose request is the leader's first. */
NODISCARD struct mcp_follow *mcp_follow_create(struct generation *f, const struct mcp_loop *leader, struct error *err);
void mcp_follow_free(struct mcp_follow *m); /* NULL is fine */

/* Copies what is new, up to marks (generation_catch_up), which count until the next call. */
bool mcp_follow_catch_up(struct mcp_follow *m, const struct gen_mark *marks);
bool mcp_follow_next(struct mcp_follow *m, int64_t now_ms, struct gen_event *event); /* as generation_next */
size_t mcp_follow_turn(const struct mcp_follow *m);                                  /* that it reads */
const struct gen_usage *mcp_follow_past(const struct mcp_follow *m);                 /* of the turns before it */

void mcp_follow_skip(struct mcp_follow *m, struct gen_place place); /* before anything was taken */
struct gen_place mcp_follow_place(const struct mcp_follow *m);

#endif
