/* Events to OpenAI's text completion objects and chunks; /infill answers in the same shape. */
#include "api/openai/openai_objects.h"

#include <math.h>

#define OBJECT "text_completion"

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

/* Those of an echoed prompt came with the prompt's. */
static void put_own_columns(const struct gen_reply *r, struct reply_choice *c, const struct gen_event *e)
{
    if (reply_request(r)->logprobs && !e->echo) {
        put_columns(c->columns, e, e->echo_chars);
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
        reply_gather_delta(c, e);
        put_own_columns(r, c, e);
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
    json_member_uint(w, "index", index);
    json_member_str(w, "text", buf_view(&c->text));
    put_logprobs_field(r, w, c->columns);
    if (reply_request(r)->prompt_logprobs) {
        json_member_raw(w, "prompt_logprobs", buf_view(&c->prompt_logprobs));
    }
    reply_end_choice(r, w, c);
}

static void body(struct gen_reply *r, struct buf *out)
{
    struct json_writer w = reply_begin(r, out, OBJECT);
    for (size_t i = 0; i < r->n_choices; i++) {
        put_choice(r, &w, i);
    }
    reply_end_choices(r, &w);
    json_end_object(&w);
}

/* ---- chunks ---- */

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
    struct json_writer w = reply_begin_chunk(r, OBJECT, out);
    put_own_columns(r, c, e);
    json_begin_object(&w);
    json_member_uint(&w, "index", e->index);
    json_member_str(&w, "text", e->text);
    put_logprobs_field(r, &w, c->columns);
    reply_end_chunk_choice(r, &w, e);
    reply_end_chunk(r, &w, e);
    for (int i = 0; i < N_COLUMNS; i++) {
        buf_clear(&c->columns[i]);
    }
}

static void stream_event(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    switch (e->kind) {
    case GEN_PROGRESS:
        reply_progress_chunk(r, OBJECT, e, out);
        break;
    case GEN_PROMPT_LOGPROBS:
        keep_prompt_columns(r, e);
        break;
    case GEN_DELTA:
    case GEN_FINISH:
        send_text(r, e, out);
        break;
    case GEN_DONE:
        reply_usage_chunk(r, OBJECT, e, out);
        break;
    default:
        break;
    }
}

const struct gen_encoder api__completion_encoder = {.stream_event = stream_event,
                                                    .stream_error = reply_stream_error,
                                                    .stream_end = OPENAI_STREAM_END,
                                                    .keepalive = OPENAI_KEEPALIVE,
                                                    .gather = gather,
                                                    .body = body};
