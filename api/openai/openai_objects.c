/* The parts that OpenAI's chat and text completion objects share. */
#include "api/openai/openai_objects.h"

#include "base/clock.h"
#include "http/sse.h"

#include <math.h>
#include <stdio.h>

#define OUT_OF_TURNS "mcp_max_turns" /* the request may have no more turns */

const char *reply_model(const struct gen_reply *r)
{
    const struct gen_request *request = reply_request(r);
    bool named = request->model.len && !str_eq(request->model, STR("default"));
    return named ? request->model.ptr : api__call_served_name(r->call);
}

const char *reply_fingerprint(const struct gen_reply *r)
{
    const char *other = r->generation ? generation_fingerprint(r->generation) : NULL;
    if (r->origin->fingerprint[0]) {
        return r->origin->fingerprint;
    }
    return other ? other : api__call_fingerprint(r->origin->model ? r->origin : r->call, r->call->adapter_fingerprint);
}

static void put_head(const struct gen_reply *r, struct json_writer *w, const char *object)
{
    char fingerprint[32];
    snprintf(fingerprint, sizeof fingerprint, "fp_%s", reply_fingerprint(r));
    json_member_cstr(w, "id", reply_request(r)->id);
    json_member_cstr(w, "object", object);
    json_member_int(w, "created", reply_request(r)->created_s);
    json_member_cstr(w, "model", reply_model(r));
    json_member_cstr(w, "system_fingerprint", fingerprint);
    if (r->origin->resumed_from[0]) {
        snprintf(fingerprint, sizeof fingerprint, "fp_%s", r->origin->resumed_from);
        json_member_cstr(w, "resumed_from_fingerprint", fingerprint);
    }
}

static void put_usage(const struct gen_reply *r, struct json_writer *w, const struct gen_usage *usage)
{
    const struct gen_request *request = reply_request(r);
    int64_t n_truncated = 0;
    for (size_t i = 0; i < request->n_jobs; i++) {
        n_truncated += request->n_truncated[i];
    }
    json_begin_object(w);
    json_member_uint(w, "prompt_tokens", usage->prompt_tokens);
    json_member_uint(w, "completion_tokens", usage->completion_tokens);
    json_member_uint(w, "total_tokens", usage->prompt_tokens + usage->completion_tokens);
    json_key(w, "prompt_tokens_details");
    json_begin_object(w);
    json_member_uint(w, "cached_tokens", usage->cached_tokens);
    if (request->truncate_prompt_tokens) {
        json_member_int(w, "truncated_tokens", n_truncated);
    }
    json_end_object(w);
    json_key(w, "completion_tokens_details");
    json_begin_object(w);
    json_member_uint(w, "reasoning_tokens", usage->n_reasoning);
    json_member_uint(w, "accepted_prediction_tokens", usage->n_accepted_prediction);
    json_member_uint(w, "rejected_prediction_tokens", usage->n_rejected_prediction);
    if (usage->n_replayed) {
        json_member_uint(w, "replayed_tokens", usage->n_replayed);
    }
    json_end_object(w);
    json_end_object(w);
}

/* ---- timings ---- */

/* n tokens in so long; null where nothing can be said. */
static void put_speed(struct json_writer *w, const char *per_token, const char *per_second, uint64_t n, int64_t us)
{
    bool known = n > 0 && us > 0;
    json_member_double(w, per_token, known ? (double)us / 1000 / (double)n : NAN);
    json_member_double(w, per_second, known ? (double)n * 1e6 / (double)us : NAN);
}

/* llama.cpp's names. Its speed of decoding counts the first token, which no time of decoding has gone into; ours does
 * not. */
static void put_timings(const struct gen_reply *r, struct json_writer *w)
{
    struct gen_timings t;
    struct gen_usage u;
    generation_timings(r->generation, clock_us(), &t, &u);
    json_key(w, "timings");
    json_begin_object(w);
    json_member_uint(w, "cache_n", u.cached_tokens);
    json_member_uint(w, "prompt_n", u.prompt_tokens - u.cached_tokens);
    api__put_ms(w, "prompt_ms", t.prefill_us);
    put_speed(w, "prompt_per_token_ms", "prompt_per_second", u.prompt_tokens - u.cached_tokens, t.prefill_us);
    json_member_uint(w, "predicted_n", u.completion_tokens);
    api__put_ms(w, "predicted_ms", t.decode_us);
    put_speed(w, "predicted_per_token_ms", "predicted_per_second", u.completion_tokens - u.n_begun, t.decode_us);
    if (u.n_drafted) {
        json_member_uint(w, "draft_n", u.n_drafted);
        json_member_uint(w, "draft_n_accepted", u.n_held);
    }
    api__put_ms(w, "prepare_ms", t.prepare_us);
    api__put_ms(w, "queue_ms", t.queue_us);
    api__put_ms(w, "ttft_ms", t.ttft_us);
    api__put_ms(w, "total_ms", t.total_us);
    json_end_object(w);
}

/* The last chunk before [DONE] has them: the usage's, or that of the last choice to end; each, where asked for. */
static bool wants_timings(const struct gen_reply *r, const struct gen_event *e)
{
    const struct gen_request *request = reply_request(r);
    return request->timings &&
           (request->timings_per_token || e->kind == GEN_DONE || (e->last && !request->include_usage));
}

/* An answer that ended by itself and has calls ended for them, unless a stop string cut the last one. */
static const char *finish_name(const struct gen_reply *r, enum finish_reason finish, uint32_t n_calls, bool cut)
{
    if (finish == FINISH_STOP && n_calls > 0 && !cut) {
        return reply_request(r)->legacy_functions ? "function_call" : "tool_calls";
    }
    return finish == FINISH_NONE ? NULL : finish_reason_name(finish);
}

/* stop: what stop_reason says of it; empty: stop_id, where that is one. */
static void put_finish(struct json_writer *w, const char *name, enum finish_reason finish, struct str stop,
                       int32_t stop_id)
{
    json_member_cstr(w, "finish_reason", name);
    if (finish == FINISH_NONE) {
        return;
    }
    json_key(w, "stop_reason");
    if (stop.len) {
        json_put_str(w, stop);
    } else if (finish == FINISH_STOP && stop_id >= 0) {
        json_put_int(w, stop_id);
    } else {
        json_put_null(w);
    }
}

static void put_progress(struct json_writer *w, const struct gen_event *e)
{
    json_key(w, "prompt_progress");
    json_begin_object(w);
    json_member_uint(w, "total", e->n_total);
    json_member_uint(w, "cache", e->n_cached);
    json_member_uint(w, "processed", e->n_done);
    json_end_object(w);
}

static void put_prompt_entry(struct json_writer *w, int32_t id, float logprob, int32_t rank, struct str bytes)
{
    char key[16];
    snprintf(key, sizeof key, "%d", id);
    json_key(w, key);
    json_begin_object(w);
    json_member_double(w, "logprob", (double)logprob);
    json_member_int(w, "rank", rank);
    json_member_str(w, "decoded_token", bytes);
    json_end_object(w);
}

void reply_prompt_logprobs(struct buf *out, const struct gen_event *e)
{
    struct json_writer w = json_writer(out);
    json_begin_array(&w);
    for (size_t i = 0; i < e->n_tokens; i++) {
        const struct gen_token *t = &e->tokens[i];
        if (isnan(t->logprob)) {
            json_put_null(&w);
            continue;
        }
        json_begin_object(&w);
        put_prompt_entry(&w, t->id, t->logprob, t->rank, t->bytes);
        for (uint32_t k = 0; k < t->n_top; k++) {
            if (t->top[k].id != t->id) {
                put_prompt_entry(&w, t->top[k].id, t->top[k].logprob, (int32_t)k + 1, t->top[k].bytes);
            }
        }
        json_end_object(&w);
    }
    json_end_array(&w);
}

static void put_token_ids(struct buf *out, const struct gen_token *tokens, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        buf_printf(out, "%s%d", out->len ? "," : "", tokens[i].id);
    }
}

/* ---- choices ---- */

static void put_digests(struct buf *out, const struct gen_token *tokens, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        buf_printf(out, "%s\"%016llx\"", out->len ? "," : "", (unsigned long long)tokens[i].digest);
    }
}

void reply_gather_delta(struct reply_choice *c, const struct gen_event *e)
{
    buf_append(&c->text, e->text);
    reply_gather_tokens(c, e);
}

void reply_gather_tokens(struct reply_choice *c, const struct gen_event *e)
{
    if (!e->echo) {
        put_token_ids(&c->ids, e->tokens, e->n_tokens);
        put_digests(&c->digests, e->tokens, e->n_tokens);
    }
}

void reply_gather_finish(struct reply_choice *c, const struct gen_event *e)
{
    c->finish = e->finish;
    c->stop = e->stop;
    c->stop_id = e->stop_id;
    c->n_calls = e->n_calls;
    c->call_failed = !e->call.valid;
    c->out_of_turns = e->out_of_turns;
}

void reply_array(struct json_writer *w, const char *key, const struct buf *items)
{
    json_key(w, key);
    json_begin_array(w);
    buf_append(w->out, buf_view(items));
    json_end_array(w);
}

void reply_end_choice(const struct gen_reply *r, struct json_writer *w, const struct reply_choice *c)
{
    put_finish(w, finish_name(r, c->finish, c->n_calls, c->stop.len && c->call_failed), c->finish,
               c->out_of_turns ? STR(OUT_OF_TURNS) : c->stop, c->stop_id);
    if (reply_request(r)->return_token_ids) {
        reply_array(w, "token_ids", &c->ids);
    }
    if (reply_request(r)->digest) {
        reply_array(w, "tandem_digests", &c->digests);
    }
    json_end_object(w);
}

void reply_end_chunk_choice(struct gen_reply *r, struct json_writer *w, const struct gen_event *e)
{
    enum finish_reason finish = e->kind == GEN_FINISH ? e->finish : FINISH_NONE;
    put_finish(w, finish_name(r, finish, e->n_calls, e->stop.len && !e->call.valid), finish,
               e->out_of_turns ? STR(OUT_OF_TURNS) : e->stop, e->stop_id);
    struct reply_choice *c = &r->choices[e->index];
    if (reply_request(r)->return_token_ids && e->n_tokens) {
        buf_clear(&c->ids);
        put_token_ids(&c->ids, e->tokens, e->n_tokens);
        reply_array(w, "token_ids", &c->ids);
    }
    if (reply_request(r)->digest && e->n_tokens) {
        buf_clear(&c->digests);
        put_digests(&c->digests, e->tokens, e->n_tokens);
        reply_array(w, "tandem_digests", &c->digests);
    }
    json_end_object(w);
}

/* ---- bodies and chunks ---- */

struct json_writer reply_begin(const struct gen_reply *r, struct buf *out, const char *object)
{
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    put_head(r, &w, object);
    json_key(&w, "choices");
    json_begin_array(&w);
    return w;
}

void reply_end_choices(const struct gen_reply *r, struct json_writer *w)
{
    json_end_array(w);
    json_key(w, "usage");
    put_usage(r, w, &r->usage);
    if (reply_request(r)->timings) {
        put_timings(r, w);
    }
}

/* What all chunks of an answer begin with is made once, and again when another engine goes on with it. */
struct json_writer reply_begin_chunk(struct gen_reply *r, const char *object, struct buf *out)
{
    bool elsewhere = generation_fingerprint(r->generation) != NULL;
    if (r->head.len == 0 || r->head_elsewhere != elsewhere) {
        buf_clear(&r->head);
        r->head_elsewhere = elsewhere;
        (void)reply_begin(r, &r->head, object);
    }
    sse_begin(out);
    buf_append(out, buf_view(&r->head));
    return json_writer(out);
}

static void end_chunk(struct gen_reply *r, struct json_writer *w, const struct gen_usage *usage, bool timings)
{
    json_end_array(w);
    if (usage || reply_request(r)->include_usage) {
        json_key(w, "usage");
        if (usage) {
            put_usage(r, w, usage);
        } else {
            json_put_null(w);
        }
    }
    if (timings) {
        put_timings(r, w);
    }
    json_end_object(w);
    sse_end(w->out);
}

void reply_end_chunk(struct gen_reply *r, struct json_writer *w, const struct gen_event *e)
{
    end_chunk(r, w, reply_request(r)->continuous_usage ? &e->usage : NULL, wants_timings(r, e));
}

void reply_end_role_chunk(struct gen_reply *r, struct json_writer *w, const struct gen_event *e)
{
    end_chunk(r, w, reply_request(r)->continuous_usage ? &e->usage : NULL, false);
}

void reply_usage_chunk(struct gen_reply *r, const char *object, const struct gen_event *e, struct buf *out)
{
    if (reply_request(r)->include_usage) {
        struct json_writer w = reply_begin_chunk(r, object, out);
        end_chunk(r, &w, &e->usage, wants_timings(r, e));
    }
}

void reply_progress_chunk(struct gen_reply *r, const char *object, const struct gen_event *e, struct buf *out)
{
    struct json_writer w = reply_begin_chunk(r, object, out);
    json_end_array(&w);
    put_progress(&w, e);
    json_end_object(&w);
    sse_end(out);
}

void reply_stream_error(struct gen_reply *r, const struct error *err, struct buf *out)
{
    struct buf json;
    (void)r;
    buf_init(&json, KIB(16));
    api__write_error(&json, err);
    sse_data(out, buf_view(&json));
    buf_release(&json);
}
