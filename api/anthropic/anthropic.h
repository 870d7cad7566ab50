/* Anthropic's Messages API over the same gen_request and gen_event as OpenAI's:
 *
 *     anthropic_fields.c    fields of the body, one by one
 *     anthropic_turns.c     system, messages and their content blocks to the message objects that chat templates take
 *     anthropic_systems.c   messages of the role system where a template takes them only at the beginning
 *     anthropic_tools.c     tool definitions to OpenAI's tool objects
 *     anthropic_mcp.c       MCP servers and their toolsets
 *     anthropic_decode.c    the routes: whole bodies
 *     anthropic_message.c   events to the Message object and to the events of a stream
 *     anthropic_encoder.c   the same as a gen_encoder
 *     anthropic_models.c    GET /v1/models in Anthropic's shape
 *
 * A request's struct messages_request lies in its arena. Decoding is done by any one thread, encoding on the loop's. */
#ifndef TANDEM_API_ANTHROPIC_H
#define TANDEM_API_ANTHROPIC_H

#include "api/api_internal.h"
#include "base/hash.h"
#include "pipeline/generation.h"

struct messages_request {
    struct gen_request request; /* first: the fields of the house write into it */
    /* as they came; NULL: absent */
    const struct json *system, *messages, *tools, *mcp_servers;
    const struct json *mcp_names; /* array: of those servers */
    bool drop_volatile_lines;
    bool omit_thinking;         /* thinking.display: the client wants signatures, not the text */
    bool warm_only;             /* max_tokens 0: the prompt goes into the cache, nothing is answered */
    bool marks_cache;           /* cache_control somewhere: usage says what was written to the cache */
    bool asks_diagnostics;      /* diagnostics with the id of an earlier message */
    bool has_edits;             /* context_management */
    int64_t keep_thinking;      /* turns whose thinking stays; -1: all */
    uint64_t n_cleared_turns;   /* that lost their thinking ... */
    struct str cleared;         /* ... which was this */
    uint64_t *n_cleared_tokens; /* ... and so many tokens; counted by the routes' work */
    uint64_t n_volatile;        /* lines dropped */
};

extern const struct field api__messages_fields[], api__count_fields[];

/* {"type": "ephemeral"}, or an error that names `where`. */
NODISCARD bool anthropic__check_cache_control(struct messages_request *m, const struct json *v, const char *where,
                                              struct error *err);
/* request.messages and how the last of them goes on, of m's system and messages. */
NODISCARD bool anthropic__convert_turns(struct messages_request *m, struct error *err);
/* For templates that take a message of the role system only at the beginning: the later ones, as Claude Code sends
 * them, become text of the user's messages around them, between tags. Contents of user and system are strings, as
 * anthropic__convert_turns makes them. */
NODISCARD bool anthropic__fold_systems(struct gen_request *r, struct error *err);
/* request.tools, of m's tools; checks tool_choice against them. */
NODISCARD bool anthropic__convert_tools(const struct decoding *d, struct error *err);
/* request.mcp, of m's servers and tools; before the two above. */
NODISCARD bool anthropic__convert_mcp(const struct call *c, const struct decoding *d, struct error *err);
/* JSON text as a value that the request's arena owns; *out stays on failure. */
NODISCARD bool anthropic__own_json(struct gen_request *r, struct buf *text, const struct json **out, struct error *err);

/* ---- signatures of thinking: a digest, by which a block that comes back is known to be as it was ---- */

#define SIGNATURE_PREFIX "tandem-1-"
#define SIGNATURE_SIZE   (sizeof SIGNATURE_PREFIX + 2 * SHA256_SIZE)
void anthropic__sign(struct str thinking, char out[SIGNATURE_SIZE]);

/* ---- the Message object ---- */

struct message_facts { /* all of it outlives the writer */
    const char *id, *model;
    const char *fingerprint, *resumed_from; /* "": none */
    const struct messages_request *request;
    uint32_t page_tokens; /* of the prefix cache; 0: it keeps nothing of this request */
    bool clipped;         /* the context holds fewer tokens than max_tokens */
};

enum message_block { BLOCK_NONE, BLOCK_TEXT, BLOCK_THINKING, BLOCK_TOOL, BLOCK_MCP_TOOL, BLOCK_MCP_RESULT };

struct message_writer {
    struct message_facts facts;
    bool started; /* message_start went out */
    enum message_block open;
    uint32_t n_blocks;       /* begun */
    struct buf blocks;       /* body: JSON of those that have ended */
    struct buf text;         /* of the open block: thinking, and whatever a body holds */
    char call_id[64];        /* of the open tool_use, or of the call that the open result is of */
    struct buf call_name;    /* likewise */
    struct str call_server;  /* likewise, of an MCP tool */
    bool is_error;           /* of the open result */
    struct gen_event finish; /* the FINISH event; its stop is in `stop` */
    struct buf stop;
};

void message_writer_init(struct message_writer *w, const struct message_facts *facts);
void message_writer_release(struct message_writer *w);
/* A writer takes either these, for a stream ... */
void message_stream_event(struct message_writer *w, const struct gen_event *e, struct buf *out);
/* ... or these, for a body. */
void message_gather(struct message_writer *w, const struct gen_event *e);
void message_body(struct message_writer *w, const struct gen_usage *usage, struct buf *out);

/* ---- routes ---- */
bool api__decode_messages(struct call *c, struct error *err);
bool api__prepare_messages(struct call *c, struct error *err);
bool api__decode_count(struct call *c, struct error *err);
bool api__work_count(struct call *c, struct error *err);
void api__anthropic_models(struct app *a, struct http_exchange *x);
void api__anthropic_model(struct http_exchange *x, struct served_model *m, struct str name);

#endif
