/* Events to OpenAI's chat completion objects and chunks. */
#include "api/generate.h"
#include "http/sse.h"

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
static void put_logprobs(struct buf *out, const struct gen_event *e)
{
    for (size_t i = 0; i < e->n_tokens; i++) {
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

static void put_raw_array(struct json_writer *w, const char *key, const struct buf *items)
{
    json_key(w, key);
    json_begin_array(w);
    buf_append(w->out, buf_view(items));
    json_end_array(w);
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
        buf_append(&c->text, e->text);
        put_logprobs(&c->logprobs, e);
        reply_token_ids(&c->ids, e->tokens, e->n_tokens);
        for (size_t i = 0; i < e->n_tokens; i++) {
            buf_printf(&c->digests, "%s\"%016llx\"", c->digests.len ? "," : "",
                       (unsigned long long)e->tokens[i].digest);
        }
        break;
    case GEN_FINISH:
        c->finish = e->finish;
        c->stop = e->stop;
        c->stop_id = e->stop_id;
        break;
    default:
        break;
    }
}

static void put_choice(struct gen_reply *r, struct json_writer *w, size_t index)
{
    const struct gen_request *request = reply_request(r);
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
    reply_finish(w, c->finish, c->stop, c->stop_id);
    if (request->return_token_ids) {
        put_raw_array(w, "token_ids", &c->ids);
    }
    if (request->digest) {
        put_raw_array(w, "tandem_digests", &c->digests);
    }
    json_end_object(w);
}

static void body(struct gen_reply *r, struct buf *out)
{
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    reply_head(r, &w, "chat.completion");
    json_key(&w, "choices");
    json_begin_array(&w);
    for (size_t i = 0; i < r->n_choices; i++) {
        put_choice(r, &w, i);
    }
    json_end_array(&w);
    json_key(&w, "usage");
    reply_usage(r, &w, &r->usage);
    if (reply_request(r)->prompt_logprobs) {
        json_key(&w, "prompt_logprobs");
        json_put_raw(&w, buf_view(&r->choices[0].prompt_logprobs));
    }
    json_end_object(&w);
}

/* ---- chunks ---- */

static struct json_writer begin_chunk(struct gen_reply *r)
{
    buf_clear(&r->chunk);
    struct json_writer w = json_writer(&r->chunk);
    json_begin_object(&w);
    reply_head(r, &w, "chat.completion.chunk");
    json_key(&w, "choices");
    json_begin_array(&w);
    return w;
}

static void end_chunk(struct gen_reply *r, struct json_writer *w, const struct gen_usage *usage, struct buf *out)
{
    const struct gen_request *request = reply_request(r);
    json_end_array(w);
    if (usage || request->include_usage) {
        json_key(w, "usage");
        if (usage) {
            reply_usage(r, w, usage);
        } else {
            json_put_null(w);
        }
    }
    json_end_object(w);
    sse_data(out, buf_view(&r->chunk));
}

static const struct gen_usage *running_usage(const struct gen_reply *r, const struct gen_event *e)
{
    return reply_request(r)->continuous_usage ? &e->usage : NULL;
}

static void begin_choice(struct json_writer *w, uint32_t index)
{
    json_begin_object(w);
    json_key(w, "index");
    json_put_uint(w, index);
    json_key(w, "delta");
    json_begin_object(w);
}

static void send_role(struct gen_reply *r, uint32_t index, const struct gen_event *e, struct buf *out)
{
    if (r->choices[index].started) {
        return;
    }
    r->choices[index].started = true;
    struct json_writer w = begin_chunk(r);
    begin_choice(&w, index);
    json_key(&w, "role");
    json_put_cstr(&w, "assistant");
    json_key(&w, "content");
    json_put_cstr(&w, "");
    json_end_object(&w);
    json_key(&w, "logprobs");
    json_put_null(&w);
    reply_finish(&w, FINISH_NONE, STR(""), -1);
    json_end_object(&w);
    end_chunk(r, &w, running_usage(r, e), out);
}

static void send_delta(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct buf items;
    buf_init(&items, LIMIT_HTTP_REPLY);
    if (reply_request(r)->logprobs) {
        put_logprobs(&items, e);
    }
    struct json_writer w = begin_chunk(r);
    begin_choice(&w, e->index);
    json_key(&w, "content");
    json_put_str(&w, e->text);
    json_end_object(&w);
    put_logprobs_field(r, &w, &items);
    reply_finish(&w, FINISH_NONE, STR(""), -1);
    if (reply_request(r)->return_token_ids) {
        buf_clear(&items);
        reply_token_ids(&items, e->tokens, e->n_tokens);
        put_raw_array(&w, "token_ids", &items);
    }
    json_end_object(&w);
    end_chunk(r, &w, running_usage(r, e), out);
    buf_release(&items);
}

static void send_finish(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct json_writer w = begin_chunk(r);
    begin_choice(&w, e->index);
    json_end_object(&w);
    json_key(&w, "logprobs");
    json_put_null(&w);
    reply_finish(&w, e->finish, e->stop, e->stop_id);
    json_end_object(&w);
    end_chunk(r, &w, running_usage(r, e), out);
}

static void send_progress(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct json_writer w = begin_chunk(r);
    json_end_array(&w);
    reply_progress(&w, e);
    json_end_object(&w);
    sse_data(out, buf_view(&r->chunk));
}

static void stream_event(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct json_writer w;
    switch (e->kind) {
    case GEN_PROGRESS:
        send_role(r, e->index, e, out);
        send_progress(r, e, out);
        break;
    case GEN_DELTA:
        send_role(r, e->index, e, out);
        send_delta(r, e, out);
        break;
    case GEN_FINISH:
        send_role(r, e->index, e, out);
        send_finish(r, e, out);
        break;
    case GEN_DONE:
        if (reply_request(r)->include_usage) {
            w = begin_chunk(r);
            end_chunk(r, &w, &e->usage, out);
        }
        break;
    default:
        break;
    }
}

const struct gen_encoder api__chat_encoder = {.stream_event = stream_event, .gather = gather, .body = body};
