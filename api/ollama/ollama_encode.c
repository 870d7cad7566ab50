/* Events to Ollama's objects. A stream is one of them per line. */
#include "api/ollama/ollama.h"

#include "api/logprobs.h"
#include "base/array.h"
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

struct ollama_state {
    bool ready;
    struct buf content, thinking, logprobs; /* gathered; of a stream: nothing */
    struct buf calls;                       /* JSON items of tool_calls */
    struct buf arguments;                   /* of the call at hand */
    uint32_t n_calls;
    enum finish_reason finish;
};

static void release(void *state)
{
    struct ollama_state *s = state;
    struct buf *all[] = {&s->content, &s->thinking, &s->logprobs, &s->calls, &s->arguments};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        buf_release(all[i]);
    }
}

static struct ollama_state *state_of(struct gen_reply *r)
{
    struct ollama_state *s = r->state;
    struct buf *all[] = {&s->content, &s->thinking, &s->logprobs, &s->calls, &s->arguments};
    for (size_t i = 0; !s->ready && i < ARRAY_LEN(all); i++) {
        buf_init(all[i], LIMIT_HTTP_REPLY);
    }
    s->ready = true;
    return s;
}

void ollama_put_time(struct json_writer *w, const char *key, int64_t wall_ns)
{
    char text[64];
    time_t seconds = (time_t)(wall_ns / 1000000000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, sizeof text - n, ".%09lldZ", (long long)(wall_ns % 1000000000));
    json_member_cstr(w, key, text);
}

static const char *model_of(const struct call *c)
{
    return c->request.model.len ? c->request.model.ptr : api__call_served_name(c);
}

/* An object opened up to what it says. */
static struct json_writer begin(const struct call *c, struct buf *out)
{
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_member_cstr(&w, "model", model_of(c));
    ollama_put_time(&w, "created_at", clock_wall_ns());
    return w;
}

static bool is_chat(const struct gen_reply *r)
{
    return r->encoder == &api__ollama_chat_encoder;
}

static void put_items(struct json_writer *w, const char *key, struct str items)
{
    if (items.len) {
        json_key(w, key);
        json_begin_array(w);
        buf_append(w->out, items);
        json_end_array(w);
    }
}

/* What was said: `message` of a chat, `response` of the other. */
static void put_words(const struct gen_reply *r, struct json_writer *w, struct str content, struct str thinking,
                      struct str calls)
{
    if (is_chat(r)) {
        json_key(w, "message");
        json_begin_object(w);
        json_member_cstr(w, "role", "assistant");
    }
    json_member_str(w, is_chat(r) ? "content" : "response", content);
    if (thinking.len) {
        json_member_str(w, "thinking", thinking);
    }
    put_items(w, "tool_calls", calls);
    if (is_chat(r)) {
        json_end_object(w);
    }
}

static void put_ns(struct json_writer *w, const char *key, int64_t us)
{
    json_member_int(w, key, us > 0 ? us * 1000 : 0);
}

/* The model was loaded long before. */
static void put_end(const struct gen_reply *r, struct json_writer *w, const struct gen_usage *usage)
{
    const struct ollama_state *s = r->state;
    struct gen_timings t;
    struct gen_usage ignored;
    generation_timings(r->generation, clock_us(), &t, &ignored);
    json_member_bool(w, "done", true);
    json_member_cstr(w, "done_reason", finish_reason_name(s->finish));
    put_ns(w, "total_duration", t.total_us);
    put_ns(w, "load_duration", 0);
    json_member_uint(w, "prompt_eval_count", usage->prompt_tokens);
    put_ns(w, "prompt_eval_duration", t.prefill_us);
    json_member_uint(w, "eval_count", usage->completion_tokens);
    put_ns(w, "eval_duration", t.decode_us);
}

void ollama_put_loaded(struct buf *out, const struct call *c)
{
    struct json_writer w = begin(c, out);
    if (c->route->encoder == &api__ollama_chat_encoder) {
        json_member_raw(&w, "message", STR("{\"role\":\"assistant\",\"content\":\"\"}"));
    } else {
        json_member_cstr(&w, "response", "");
    }
    json_member_bool(&w, "done", true);
    json_member_cstr(&w, "done_reason", c->has_keep_alive && c->keep_alive_ms == 0 ? "unload" : "load");
    json_end_object(&w);
}

/* ---- calls ---- */

static bool is_object(struct str text)
{
    struct error ignored = {0};
    struct json *root = json_parse(text, LIMIT_JSON_DEPTH, &ignored);
    bool is = json_type(root) == JSON_OBJECT;
    json_free(root);
    return is;
}

/* Arguments are an object here. What is none, because the model did not write one or was cut off, is its text. */
static void take_call_end(struct ollama_state *s, const struct gen_event *e, struct buf *calls, struct buf *content)
{
    if (!is_object(buf_view(&s->arguments))) {
        buf_append(content, e->call.name);
        buf_append(content, buf_view(&s->arguments));
        return;
    }
    struct json_writer w = {.out = calls, .need_comma = calls->len > 0};
    json_begin_object(&w);
    json_member_str(&w, "id", e->call.id);
    json_key(&w, "function");
    json_begin_object(&w);
    json_member_uint(&w, "index", s->n_calls++);
    json_member_str(&w, "name", e->call.name);
    json_member_raw(&w, "arguments", buf_view(&s->arguments));
    json_end_object(&w);
    json_end_object(&w);
}

/* An event's part in what is gathered; a stream empties it after each. */
static void take(struct gen_reply *r, const struct gen_event *e)
{
    struct ollama_state *s = state_of(r);
    if (e->n_tokens && reply_request(r)->logprobs && e->kind >= GEN_DELTA) {
        logprobs_put(&s->logprobs, e);
    }
    switch (e->kind) {
    case GEN_DELTA:
        buf_append(&s->content, e->text);
        break;
    case GEN_REASONING:
        buf_append(&s->thinking, e->text);
        break;
    case GEN_CALL:
        buf_clear(&s->arguments);
        break;
    case GEN_ARGUMENTS:
        buf_append(&s->arguments, e->text);
        break;
    case GEN_CALL_END:
        take_call_end(s, e, &s->calls, &s->content);
        break;
    case GEN_FINISH:
        s->finish = e->finish;
        break;
    default:
        break;
    }
}

/* ---- a stream ---- */

static void stream_event(struct gen_reply *r, const struct gen_event *e, struct buf *out)
{
    struct ollama_state *s = state_of(r);
    take(r, e);
    bool last = e->kind == GEN_DONE;
    if (!last && !s->content.len && !s->thinking.len && !s->calls.len && !s->logprobs.len) {
        return;
    }
    struct json_writer w = begin(r->origin, out);
    put_words(r, &w, buf_view(&s->content), buf_view(&s->thinking), buf_view(&s->calls));
    put_items(&w, "logprobs", buf_view(&s->logprobs));
    if (last) {
        put_end(r, &w, &e->usage);
    } else {
        json_member_bool(&w, "done", false);
    }
    json_end_object(&w);
    buf_putc(out, '\n');
    struct buf *all[] = {&s->content, &s->thinking, &s->calls, &s->logprobs};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        buf_clear(all[i]);
    }
}

static void stream_error(struct gen_reply *r, const struct error *err, struct buf *out)
{
    (void)r;
    api__write_ollama_error(out, err);
    buf_putc(out, '\n');
}

/* ---- one body ---- */

static void body(struct gen_reply *r, struct buf *out)
{
    struct ollama_state *s = state_of(r);
    struct json_writer w = begin(r->origin, out);
    put_words(r, &w, buf_view(&s->content), buf_view(&s->thinking), buf_view(&s->calls));
    put_items(&w, "logprobs", buf_view(&s->logprobs));
    put_end(r, &w, &r->usage);
    json_end_object(&w);
}

#define ENCODER                                                                                                 \
    {                                                                                                           \
        .state_size = sizeof(struct ollama_state), .release = release, .stream_event = stream_event,            \
        .stream_error = stream_error, .stream_end = "", .content_type = "application/x-ndjson", .gather = take, \
        .body = body                                                                                            \
    }
const struct gen_encoder api__ollama_chat_encoder = ENCODER;
const struct gen_encoder api__ollama_generate_encoder = ENCODER;
