/* One turn of a model that may call MCP tools: what it said, thought and called, what became of those calls, and the
 * messages that the next turn's prompt has of it. Pure. Owned by the loop's thread.
 *
 *     mcp_turn_take(&t, &event, ...)        each event of the turn
 *     mcp_turn_answer(&t, i, ...)           each call of an MCP tool, in any order
 *     mcp_turn_put_messages(&t, &writer)    an assistant's message, and one of the role tool for each answer
 *     mcp_turn_clear(&t)                    the next turn */
#ifndef TANDEM_PIPELINE_MCP_TURN_H
#define TANDEM_PIPELINE_MCP_TURN_H

#include "base/buf.h"
#include "pipeline/generation.h"

struct mcp_turn_call {
    struct buf id, name, arguments, fault, result;
    const struct gen_mcp_tool *tool; /* NULL: the client's */
    uint32_t index;                  /* in the answer, among those of its kind */
    bool valid;                      /* its arguments are what its schema wants; else fault says why not */
    bool answered, is_error;
    int64_t sent_us, took_us; /* by clock_us; sent_us 0: it was not made */
    /* of a generation that is kept: */
    bool due;               /* it goes out once it is recorded that it did */
    uint8_t sending, saved; /* whoever keeps it: what is on its way, and what is there (generation_kept.h) */
};

struct mcp_turn {
    struct buf text, reasoning;
    struct mcp_turn_call *calls; /* [n_calls] */
    size_t n_calls, cap_calls;
};

void mcp_turn_init(struct mcp_turn *t);
void mcp_turn_release(struct mcp_turn *t);
void mcp_turn_clear(struct mcp_turn *t);

/* Takes an event in, and says in it whose tool a call is of, and its place among those of its kind: *n_own and *n_mcp
 * calls have begun before it. TOO_LARGE: there are more than LIMIT_TURN_CALLS, or too much text. */
NODISCARD bool mcp_turn_take(struct mcp_turn *t, const struct gen_mcp *mcp, struct gen_event *e, uint32_t *n_own,
                             uint32_t *n_mcp, struct error *err);

/* Says in an event of the call whose tool it is of, and its place among those of its kind. */
void mcp_turn_mark(const struct mcp_turn_call *c, struct gen_event *e);
size_t mcp_turn_n_of(const struct mcp_turn *t, bool of_mcp); /* calls of MCP tools, or of the client's */
void mcp_turn_answer(struct mcp_turn *t, size_t call, bool is_error, struct str text);
/* The call as an event shows it; views into the turn. */
struct gen_call mcp_turn_call(const struct mcp_turn *t, size_t call);

/* Each is an item of an array of chat messages. */
void mcp_turn_put_messages(const struct mcp_turn *t, struct json_writer *w);
NODISCARD bool mcp_turn_ok(const struct mcp_turn *t, struct error *err); /* all of it was kept */

#endif
