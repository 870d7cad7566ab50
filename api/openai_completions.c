/* Events to OpenAI's text completion objects and chunks; /infill answers in the same shape. */
#include "api/generate.h"
#include "http/sse.h"

#include <math.h>

enum { COLUMN_TOKENS, COLUMN_LOGPROBS, COLUMN_TOP, COLUMN_OFFSETS, N_COLUMNS };
static const char *const column_names[N_COLUMNS] = {"tokens", "token_logprobs", "top_logprobs", "text_offset"};

static void comma(struct buf *b)
{
    if (b->len) {
        buf_putc(b, ',');
    }
}

static void put_top(struct buf *out, const struct gen_token *t)
{
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    for (uint32_t k = 0; k < t->n_top; k++) {
        if (k) {
            buf_putc(out, ',');
        }
        json_quote(out, t->top[k].bytes);
        buf_putc(out, ':');
        struct json_writer value = json_writer(out);
        json_put_double(&value, (double)t->top[k].logprob);
    }
    w.need_comma = false;
    json_end_object(&w);
}

/* The four parallel arrays of the older logprobs shape; offset: characters before the choice's own text. */
static void put_columns(struct buf columns[N_COLUMNS], const struct gen_event *e, size_t offset)
{
    for (size_t i = 0; i < e->n_tokens; i++) {
        const struct gen_token *t = &e->tokens[i];
        bool first = isnan(t->logprob); /* the first token of a prompt has no probability */
        for (int c = 0; c < N_COLUMNS; c++) {
            comma(&columns[c]);
        }
        json_quote(&columns[COLUMN_TOKENS], t->bytes);
        struct json_writer w = json_writer(&columns[COLUMN_LOGPROBS]);
        json_put_double(&w, (double)t->logprob);
        if (first) {
            buf_puts(&columns[COLUMN_TOP], "null");
        } else {
            put_top(&columns[COLUMN_TOP], t);
        }
        buf_printf(&columns[COLUMN_OFFSETS], "%zu", offset + t->text_offset);
    }
}

static void put_logprobs_field(const struct gen_reply *r, struct json_writer *w, struct buf columns[N_COLUMNS])
{
    json_key(w, "logprobs");
    if (!reply_request(r)->logprobs) {
        json_put_null(w);
        return;
    }
    json_begin_object(w);
    for (int c = 0; c < N_COLUMNS; c++) {
        json_key(w, column_names[c]);
        json_begin_array(w);
        buf_append(w->out, buf_view(&columns[c]));
        json_end_array(w);
    }
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

static void gather_prompt(struct gen_reply *r, const struct gen_event *e)
{
    const struct gen_request *request = reply_request(r);
    for (uint32_t k = 0; k < request->n; k++) {
        struct reply_choice *c = &r->choices[e->prompt * request->n + k];
        if (request->prompt_logprobs) {
            reply_prompt_logprobs(&c->prompt_logprobs, e);
        }
        if (request->echo && request->logprobs) {
            put_columns(c->columns, e, 0);
        }
    }
}

static void gather(struct gen_reply *r, const struct gen_event *e)
{
    struct reply_choice *c = &r->choices[e->index];
    switch (e->kind) {
    case GEN_PROMPT_LOGPROBS:
        gather_prompt(r, e);
        break;
    case GEN_DELTA:
        buf_append(&c->text, e->text);
        if (e->echo) {
            break; /* its logprobs came with the prompt's */
        }
        put_columns(c->columns, e, e->echo_chars);
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
    json_key(w, "text");
    json_put_str(w, buf_view(&c->text));
    put_logprobs_field(r, w, c->columns);
    reply_finish(w, c->finish, c->stop, c->stop_id);
    if (request->prompt_logprobs) {
        json_key(w, "prompt_logprobs");
        json_put_raw(w, buf_view(&c->prompt_logprobs));
    }
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
    reply_head(r, &w, "text_completion");
    json_key(&w, "choices");
    json_begin_array(&w);
    for (size_t i = 0; i < r->n_choices; i++) {
        put_choice(r, &w, i);
    }
    json_end_array(&w);
    json_key(&w, "usage");
    reply_usage(r, &w, &r->usage);
    json_end_object(&w);
}

/* ---- chunks ---- */

static struct json_writer begin_chunk(struct gen_reply *r)
{
    buf_clear(&r->chunk);
    struct json_writer w = json_writer(&r->chunk);
    json_begin_object(&w);
    reply_head(r, &w, "text_completion");
    json_key(&w, "choices");
    json_begin_array(&w);
    return w;
}

static void end_chunk(struct gen_reply *r, struct json_writer *w, const struct gen_usage *usage, struct buf *out)
{
    json_end_array(w);
    if (usage || reply_request(r)->include_usage) {
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

/* The logprobs of an echoed prompt go out with the first text of each of its choices. */
static void keep_prompt_columns(struct gen_reply *r, const struct gen_event *e)
{
    if (reply_request(r)->echo && reply_request(r)->logprobs) {
        gather_prompt(r, e);
    }
}

static void send_text(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct reply_choice *c = &r->choices[e->index];
    struct json_writer w = begin_chunk(r);
    if (!e->echo) {
        put_columns(c->columns, e, e->echo_chars);
    }
    json_begin_object(&w);
    json_key(&w, "index");
    json_put_uint(&w, e->index);
    json_key(&w, "text");
    json_put_str(&w, e->text);
    put_logprobs_field(r, &w, c->columns);
    reply_finish(&w, e->kind == GEN_FINISH ? e->finish : FINISH_NONE, e->stop, e->stop_id);
    if (reply_request(r)->return_token_ids) {
        buf_clear(&c->ids);
        reply_token_ids(&c->ids, e->tokens, e->n_tokens);
        put_raw_array(&w, "token_ids", &c->ids);
    }
    json_end_object(&w);
    end_chunk(r, &w, reply_request(r)->continuous_usage ? &e->usage : NULL, out);
    for (int i = 0; i < N_COLUMNS; i++) {
        buf_clear(&c->columns[i]);
    }
}

static void stream_event(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct json_writer w;
    switch (e->kind) {
    case GEN_PROGRESS:
        w = begin_chunk(r);
        json_end_array(&w);
        reply_progress(&w, e);
        json_end_object(&w);
        sse_data(out, buf_view(&r->chunk));
        break;
    case GEN_PROMPT_LOGPROBS:
        keep_prompt_columns(r, e);
        break;
    case GEN_DELTA:
    case GEN_FINISH:
        send_text(r, e, out);
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

const struct gen_encoder api__completion_encoder = {.stream_event = stream_event, .gather = gather, .body = body};
