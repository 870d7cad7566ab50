/* One line for every HTTP request that has ended. What clients write freely (prompts, answers, paths, headers, the
 * sentences of errors, which quote them) is not in it, but for the request id and the name of the model, which are
 * bounded; log_fields escapes whatever comes. */
#include "api/generate.h"
#include "api/request_record.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"

#define MAX_FIELDS     32
#define TEXT_HEAD      1000 /* of a long text, so much of its beginning and of its end */
#define TEXT_TAIL      2000
#define LOG_TEXT_BYTES (TEXT_HEAD + TEXT_TAIL + 64)

struct fields {
    struct log_field items[MAX_FIELDS];
    size_t n;
};

static void put(struct fields *f, struct log_field field)
{
    if (f->n < MAX_FIELDS) {
        f->items[f->n++] = field;
    }
}

static void put_str(struct fields *f, const char *key, const char *value) /* nothing when it is empty */
{
    if (value[0]) {
        put(f, log_str(key, str_of(value)));
    }
}

static void put_ms(struct fields *f, const char *key, int64_t us) /* nothing when it is not known */
{
    if (us >= 0) {
        put(f, log_real(key, (double)us / 1000));
    }
}

/* ---- the line ---- */

static void put_generation(struct fields *f, const struct request_record *r)
{
    const struct gen_timings *t = &r->timings;
    uint64_t n_decoded = r->usage.completion_tokens - r->usage.n_begun;
    put(f, log_int("prompt_tokens", (int64_t)r->usage.prompt_tokens));
    put(f, log_int("cached_tokens", (int64_t)r->usage.cached_tokens));
    put(f, log_int("generated_tokens", (int64_t)r->usage.completion_tokens));
    put_ms(f, "queue_ms", t->queue_us);
    put_ms(f, "ttft_ms", t->ttft_us);
    if (n_decoded > 0 && t->decode_us > 0) {
        put(f, log_real("tokens_per_second", (double)n_decoded * 1e6 / (double)t->decode_us));
    }
    if (r->finish != FINISH_NONE) {
        put_str(f, "finish", finish_reason_name(r->finish));
    }
    put(f, log_int("engine_losses", (int64_t)r->n_engine_losses));
}

static enum log_level level_of(const struct request_record *r)
{
    return r->route && api__route_is_quiet(r->route) ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
}

void api__log_request(const struct request_record *r, const struct http_end *end, const char *client)
{
    struct fields f = {.n = 0};
    char trace_id[2 * TRACE_ID_SIZE + 1];
    enum log_level level = level_of(r);
    if (!log_enabled(level)) {
        return;
    }
    put_str(&f, "request_id", r->id);
    put_str(&f, "method", r->method);
    put_str(&f, "route", r->route ? r->route->path : "none");
    put(&f, log_int("status", end->status));
    put_str(&f, "outcome", request_outcome_name(api__outcome(r, end)));
    put_str(&f, "error", r->error ? error_info(r->error)->name : "");
    put_str(&f, "key", r->key_name);
    put_str(&f, "client", client);
    put_str(&f, "model", r->model);
    if (r->is_generation) {
        put_str(&f, "id", r->object_id);
        put(&f, log_bool("stream", r->stream));
    }
    if (r->has_generation) {
        put_generation(&f, r);
    }
    put_ms(&f, "total_ms", clock_us() - r->begun_us);
    if (r->has_parent || r->app->options.otlp) {
        hex_write(r->trace.trace_id, TRACE_ID_SIZE, trace_id);
        put_str(&f, "trace_id", trace_id);
    }
    log_fields(level, "request", f.items, f.n);
}

/* ---- texts, with --log-content ---- */

static void log_text(const struct request_record *r, const char *event, struct str text)
{
    struct buf shown;
    buf_init(&shown, LOG_TEXT_BYTES);
    if (text.len <= TEXT_HEAD + TEXT_TAIL) {
        buf_append(&shown, text);
    } else {
        size_t head = utf8_cut(text, TEXT_HEAD), tail = text.len - TEXT_TAIL;
        while (tail < text.len && ((unsigned char)text.ptr[tail] & 0xc0) == 0x80) {
            tail++; /* not inside a character */
        }
        buf_append(&shown, str_slice(text, 0, head));
        buf_printf(&shown, " [... %zu bytes ...] ", tail - head);
        buf_append(&shown, str_slice(text, tail, text.len));
    }
    struct log_field fields[] = {log_str("request_id", str_of(r->id)), log_int("bytes", (int64_t)text.len),
                                 log_str("text", buf_view(&shown))};
    fields[2].most = LOG_TEXT_BYTES;
    log_fields(LOG_LEVEL_INFO, event, fields, 3);
    buf_release(&shown);
}

static struct str prompt_of(const struct gen_request *request)
{
    switch (request->input) {
    case GEN_CHAT:
        return request->rendered;
    case GEN_PROMPTS:
        return request->n_prompts ? request->prompts[0].text : (struct str){0};
    case GEN_INFILL:
        return request->infill_prefix;
    }
    return (struct str){0};
}

void api__log_texts(const struct request_record *r, const struct gen_request *request, struct str answer)
{
    log_text(r, "prompt", prompt_of(request));
    log_text(r, "answer", answer);
}
