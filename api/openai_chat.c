/* Events to OpenAI's chat completion objects and chunks. */
#include "api/openai_objects.h"

#define OBJECT       "chat.completion"
#define CHUNK_OBJECT "chat.completion.chunk"

static void put_bytes(struct json_writer *w, struct str bytes)
{
    json_begin_array(w);
    for (size_t i = 0; i < bytes.len; i++) {
        json_put_int(w, (uint8_t)bytes.ptr[i]);
    }
    json_end_array(w);
}

static void put_token(struct json_writer *w, struct str bytes, float logprob)
{
    json_key(w, "token");
    json_put_str(w, bytes);
    json_key(w, "logprob");
    json_put_double(w, (double)logprob);
    json_key(w, "bytes");
    put_bytes(w, bytes);
}

/* Items of logprobs.content. */
static void put_logprobs(const struct gen_reply *r, struct buf *out, const struct gen_event *e)
{
    size_t n = reply_request(r)->logprobs ? e->n_tokens : 0;
    for (size_t i = 0; i < n; i++) {
        const struct gen_token *t = &e->tokens[i];
        struct json_writer w = {.out = out, .need_comma = out->len > 0};
        json_begin_object(&w);
        put_token(&w, t->bytes, t->logprob);
        json_key(&w, "top_logprobs");
        json_begin_array(&w);
        for (uint32_t k = 0; k < t->n_top; k++) {
            json_begin_object(&w);
            put_token(&w, t->top[k].bytes, t->top[k].logprob);
            json_end_object(&w);
        }
        json_end_array(&w);
        json_end_object(&w);
    }
}

static void put_logprobs_field(const struct gen_reply *r, struct json_writer *w, const struct buf *items)
{
    json_key(w, "logprobs");
    if (!reply_request(r)->logprobs) {
        json_put_null(w);
        return;
    }
    json_begin_object(w);
    json_key(w, "content");
    json_begin_array(w);
    buf_append(w->out, buf_view(items));
    json_end_array(w);
    json_key(w, "refusal");
    json_put_null(w);
    json_end_object(w);
}

/* ---- one body ---- */

static void gather(struct gen_reply *r, const struct gen_event *e)
{
    struct reply_choice *c = &r->choices[e->index];
    switch (e->kind) {
    case GEN_PROMPT_LOGPROBS:
        reply_prompt_logprobs(&c->prompt_logprobs, e);
        break;
    case GEN_DELTA:
        reply_gather_delta(c, e);
        put_logprobs(r, &c->logprobs, e);
        break;
    case GEN_FINISH:
        reply_gather_finish(c, e);
        break;
    default:
        break;
    }
}

static void put_choice(struct gen_reply *r, struct json_writer *w, size_t index)
{
    struct reply_choice *c = &r->choices[index];
    json_begin_object(w);
    json_key(w, "index");
    json_put_uint(w, index);
    json_key(w, "message");
    json_begin_object(w);
    json_key(w, "role");
    json_put_cstr(w, "assistant");
    json_key(w, "content");
    json_put_str(w, buf_view(&c->text));
    json_key(w, "refusal");
    json_put_null(w);
    json_end_object(w);
    put_logprobs_field(r, w, &c->logprobs);
    reply_end_choice(r, w, c);
}

static void body(struct gen_reply *r, struct buf *out)
{
    struct json_writer w = reply_begin(r, out, OBJECT);
    for (size_t i = 0; i < r->n_choices; i++) {
        put_choice(r, &w, i);
    }
    reply_end_choices(r, &w);
    if (reply_request(r)->prompt_logprobs) {
        json_key(&w, "prompt_logprobs");
        json_put_raw(&w, buf_view(&r->choices[0].prompt_logprobs));
    }
    json_end_object(&w);
}

/* ---- chunks ---- */

static void begin_choice(struct json_writer *w, uint32_t index)
{
    json_begin_object(w);
    json_key(w, "index");
    json_put_uint(w, index);
    json_key(w, "delta");
    json_begin_object(w);
}

/* The first chunk of a choice: its role, no text yet. */
static void send_role(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    if (r->choices[e->index].started) {
        return;
    }
    r->choices[e->index].started = true;
    struct json_writer w = reply_begin_chunk(r, CHUNK_OBJECT, out);
    begin_choice(&w, e->index);
    json_key(&w, "role");
    json_put_cstr(&w, "assistant");
    json_key(&w, "content");
    json_put_cstr(&w, "");
    json_end_object(&w);
    json_key(&w, "logprobs");
    json_put_null(&w);
    json_key(&w, "finish_reason");
    json_put_null(&w);
    json_end_object(&w);
    reply_end_role_chunk(r, &w, e);
}

static void send_delta(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct buf *items = &r->choices[e->index].logprobs;
    struct json_writer w = reply_begin_chunk(r, CHUNK_OBJECT, out);
    begin_choice(&w, e->index);
    json_key(&w, "content");
    json_put_str(&w, e->text);
    json_end_object(&w);
    buf_clear(items);
    put_logprobs(r, items, e);
    put_logprobs_field(r, &w, items);
    reply_end_chunk_choice(r, &w, e);
    reply_end_chunk(r, &w, e);
}

static void send_finish(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct json_writer w = reply_begin_chunk(r, CHUNK_OBJECT, out);
    begin_choice(&w, e->index);
    json_end_object(&w);
    json_key(&w, "logprobs");
    json_put_null(&w);
    reply_end_chunk_choice(r, &w, e);
    reply_end_chunk(r, &w, e);
}

static void stream_event(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    switch (e->kind) {
    case GEN_PROGRESS:
        send_role(r, e, out);
        reply_progress_chunk(r, CHUNK_OBJECT, e, out);
        break;
    case GEN_DELTA:
        send_role(r, e, out);
        send_delta(r, e, out);
        break;
    case GEN_FINISH:
        send_role(r, e, out);
        send_finish(r, e, out);
        break;
    case GEN_DONE:
        reply_usage_chunk(r, CHUNK_OBJECT, e, out);
        break;
    default:
        break;
    }
}

const struct gen_encoder api__chat_encoder = {.stream_event = stream_event,
                                              .stream_error = reply_stream_error,
                                              .stream_end = OPENAI_STREAM_END,
                                              .keepalive = OPENAI_KEEPALIVE,
                                              .gather = gather,
                                              .body = body};
