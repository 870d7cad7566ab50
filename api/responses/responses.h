/* OpenAI's Responses API, /v1/responses: shared by the responses_*.c only.
 *
 *     responses_fields.c   the fields of a request
 *     responses_mcp.c      tools of MCP servers: in a request, and as items
 *     responses_items.c    items of its input: checked, listed
 *     responses_chat.c     items as chat messages
 *     responses_decode.c   a request: decode, what it needs of earlier ones, chat messages that fit
 *     responses_object.c   the response object
 *     responses_encode.c   events to that object, or to its events
 *     responses_routes.c   what is done with a stored one
 *
 * A stored response is a kept request (api/kept/kept.h) whose route is /v1/responses: its result in the journal is the
 * response object, its body is what came, or [what came, context, references] where that needs other responses:
 * `context` are the items of the one that it follows and of all before it, `references` those that its item references
 * mean, by their ids. So a stored response needs no other to go on or to be followed, and the journal may drop the
 * older ones. */
#ifndef TANDEM_API_RESPONSES_H
#define TANDEM_API_RESPONSES_H

#include "api/generate.h"
#include "gateway/journal.h"

#define RESPONSES_ROUTE "/v1/responses"
#define RESPONSES_ID_DIGITS \
    24 /* of "resp_..."; items are named after their response: "msg_", these, 4 for their place */
#define RESPONSES_INPUT_PLACE 0x8000 /* items of the output count from 0, those of the input from here */
#define RESPONSES_REFERENCES  64     /* other responses that one request's item references may name */

struct responses_request {         /* lies in the request's arena, as do its values */
    struct gen_request request;    /* first: the fields of the house write into it; the call has a copy */
    const struct json *context;    /* array of items, NULL: it follows no other */
    const struct json *references; /* object: id to item, NULL: none is known */
    const struct json *input;      /* string or array of items; NULL: none */
    struct str instructions, previous_id, user, safety_identifier, cache_key;
    const struct json *tools, *tool_choice, *text, *reasoning, *metadata; /* as they came; NULL: not given */
    int64_t max_tool_calls;                                               /* 0: not given */
    int store;          /* 1, 0; -1: not given, which is 1 where something keeps responses */
    bool with_logprobs; /* asked for by `include` */
    bool truncate;      /* drop the oldest items where they do not fit */
};

/* What is known of a response now. */
struct responses_view {
    const struct call *call; /* decoded */
    const char *status, *model;
    const char *fingerprint, *resumed_from; /* "": none */
    const struct error *error;              /* failed; else NULL */
    const char *incomplete;                 /* why it ended early; NULL: it did not */
    struct str output;                      /* its items, separated by commas */
    const struct gen_usage *usage;          /* NULL: not known yet */
    int64_t completed_s;                    /* 0: it is not completed */
};

static inline struct responses_request *responses_of(const struct call *c)
{
    return (struct responses_request *)(uintptr_t)c->extra;
}

/* ---- fields and decoding; any thread ---- */

extern const struct field api__responses_fields[];
bool api__decode_responses(struct call *c, struct error *err);
bool api__work_responses(struct call *c, struct error *err);

/* An error about a tool of chat completions names the field that it came from. False. */
bool responses_bare_param(struct error *err);
/* Parses text into a tree that the arena owns. */
NODISCARD const struct json *responses_keep_json(struct arena *arena, struct str text, struct error *err);

/* ---- tools of MCP servers ---- */

bool responses_is_mcp(const struct json *tool);
/* Takes such a tool, found at `where`, into the request's mcp. */
NODISCARD bool responses_take_mcp(struct decoding *d, const struct json *tool, const char *where, struct error *err);
/* Once all fields are known: they are servers that are configured here, and nothing that cannot be goes with them. */
NODISCARD bool responses_settle_mcp(const struct call *c, struct responses_request *r, struct error *err);
void responses_put_mcp_call(struct json_writer *w, const char *id, const struct gen_event *e); /* of a CALL, a RESULT */
void responses_put_mcp_list(struct json_writer *w, const char *id, const struct gen_mcp *mcp, struct str server,
                            bool whole);
bool responses_lists_mcp(const struct call *c, size_t i); /* the answer has an item with the tools of tool i's server */

/* ---- items ---- */

bool responses_has_mcp_list(const struct call *c, struct str server); /* among them is the list of its tools */

/* INVALID or UNSUPPORTED names the item: "input[2].content[0]". */
NODISCARD bool responses_check_items(const struct json *items, struct error *err);
/* The same of what the journal has of earlier responses; NULL is fine. */
NODISCARD bool responses_check_earlier(const struct json *context, const struct json *references, struct error *err);
/* Chat messages of the context and the input, without the oldest n_dropped items of those that may be dropped.
 * NOT_FOUND: an item reference names none that is known. */
NODISCARD const struct json *responses_messages(const struct call *c, size_t n_dropped, struct error *err);
size_t responses_n_droppable(const struct call *c);
/* Items of the context and of the input, oldest first; with an id each. */
size_t responses_n_items(const struct call *c);
void responses_put_item(struct json_writer *w, const struct call *c, size_t i);
struct str responses_item_id(const struct call *c, size_t i, char *room, size_t size);
/* The id of the response that made the item with this id, "resp_..."; false: none of ours did. */
bool responses_maker(struct str item_id, char *out, size_t size);

/* ---- the object ---- */

void responses_put_object(struct json_writer *w, const struct responses_view *v);
void responses_put_error(struct json_writer *w, const struct error *err); /* {"code", "message"} */

extern const struct gen_encoder api__responses_encoder;

/* ---- stored ones ---- */

void api__response_get(struct app *a, struct http_exchange *x, struct str rest);
void api__response_delete(struct app *a, struct http_exchange *x, struct str rest);
void api__response_cancel(struct app *a, struct http_exchange *x, struct str rest);
void api__response_input(struct app *a, struct http_exchange *x, struct str rest);

#endif
