/* A generation and the exchange it answers, for any API: the encoder makes JSON of events, this file decides when it is
 * sent.
 *
 * A stream begins with its first event, so that what fails at once (queue full, engine down) still gets its own HTTP
 * status; when nothing has come for a while it begins anyway, and keep-alive comments go out. */
#ifndef TANDEM_API_GENERATE_H
#define TANDEM_API_GENERATE_H

#include "api/api_internal.h"

struct reply_choice { /* what a non-streaming answer gathers of one choice */
    struct buf text;
    struct buf logprobs;        /* chat: JSON items of logprobs.content */
    struct buf columns[4];      /* completions: tokens, token_logprobs, top_logprobs, text_offset */
    struct buf ids, digests;    /* JSON items */
    struct buf prompt_logprobs; /* a JSON array, or empty */
    struct buf reasoning;
    struct buf calls, arguments; /* chat: JSON items of tool_calls; text of the call at hand */
    struct buf mcp_calls;        /* chat: JSON items */
    uint32_t n_calls;
    bool call_failed; /* the last one is not valid: cut off, maybe */
    enum finish_reason finish;
    struct str stop;
    int32_t stop_id;
    bool out_of_turns;
    bool started; /* streaming: its first chunk was sent */
};

struct gen_reply {
    struct call *call;
    const struct gen_encoder *encoder;
    void *state;                   /* the encoder's */
    struct generation *generation; /* NULL: there is none yet, or it comes to none */
    struct reply_choice *choices;  /* [n_choices] */
    size_t n_choices;
    struct gen_usage usage;
    struct loop_timer *timer; /* begin of a silent stream; flush intervals */
    bool stream;              /* as the request wants it, or as one that reads it again does */
    bool streaming, ended;
    struct buf head;     /* JSON that begins every chunk; empty until the first */
    bool head_elsewhere; /* it has generation_fingerprint */
    /* of a request that is kept */
    bool placed;               /* events say how far they go: "id: 17" (kept.h) */
    const struct call *origin; /* whose answer it is; call, unless that only reads another's */
    struct kept *kept;         /* it follows this one; NULL: it has a generation of its own */
    struct gen_reply *next_reader;
    bool live;  /* it sees tokens before they are saved */
    bool again; /* it is not the client that sent the request */
};

struct gen_encoder {
    size_t state_size;            /* of what it keeps of one reply: gen_reply.state, zeroed; 0: nothing */
    void (*release)(void *state); /* what that holds; NULL: nothing */
    /* Appends the server-sent events of one event; of DONE what ends an answer. */
    void (*stream_event)(struct gen_reply *r, const struct gen_event *e, struct buf *out);
    /* Appends an event that says so; of a reply that has no generation, too. */
    void (*stream_error)(struct gen_reply *r, const struct error *err, struct buf *out);
    const char *stream_end; /* behind the last event, whatever it was */
    /* What a silent stream sends now and then. NULL: there is nothing that it could send, and so no reason to begin
     * before its generation. */
    const char *keepalive;
    const char *content_type; /* of a stream; NULL: server-sent events */
    /* Its events have numbers, the same for every reader (gen_request.stepwise): call.first_event says where one goes
     * on, and an error that ended the answer comes as an event to who reads it again. It has one choice. Where it is
     * kept, its end is told when it is saved. */
    bool numbered;
    /* The reply (200) to a background request; its stream, if it asks for one, goes to the client that sent it. NULL:
     * a 202 that names the request. */
    void (*accepted)(const struct call *c, struct buf *out);
    /* Gathers an event of a non-streaming answer. */
    void (*gather)(struct gen_reply *r, const struct gen_event *e);
    /* The whole body at the end. */
    void (*body)(struct gen_reply *r, struct buf *out);
};
extern const struct gen_encoder api__chat_encoder, api__completion_encoder, api__messages_encoder;

#define API_STREAM_BEGIN_MS 500 /* a silent stream begins after this, so that proxies and clients see it live */
void api__stream_start(struct http_exchange *x, const struct gen_encoder *encoder, const struct http_source *source);

/* A reply to c's exchange; c is its own from api__reply_begin on. NULL: no memory. */
struct gen_reply *api__reply_create(struct call *c, const struct gen_encoder *encoder);
void api__reply_discard(struct gen_reply *r); /* instead of beginning; c and x stay */
/* Takes over g, whose on_ready is api__reply_ready with r. Call that too where g may have something already. */
void api__reply_begin(struct gen_reply *r, struct generation *g);
void api__reply_ready(void *reply);

/* The body that answers c, out of a complete generation that nobody has taken anything of. */
NODISCARD bool api__reply_body(struct call *c, struct generation *g, struct buf *out, struct error *err);

const struct gen_request *reply_request(const struct gen_reply *r);

#endif
