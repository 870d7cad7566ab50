/* EVENTS: u32 number of events, then each as u8 kind, u64 job, and what its kind needs. The count is written last. */
#include "wire/wire_internal.h"

#define LOGPROB_SIZE 21 /* id, logprob, rank, number of tops, digest: the least bytes of one entry */

/* ---- encode ---- */

static void put_logprobs(struct buf *out, const struct token_logprob *logprobs, uint32_t n)
{
    put_u8(out, logprobs != NULL);
    for (uint32_t i = 0; logprobs && i < n; i++) {
        const struct token_logprob *l = &logprobs[i];
        put_int32_t(out, l->id);
        put_float(out, l->logprob);
        put_int32_t(out, l->rank);
        put_u8(out, (uint8_t)l->n_top);
        for (uint32_t k = 0; k < l->n_top; k++) {
            put_int32_t(out, l->top[k].id);
            put_float(out, l->top[k].logprob);
        }
        put_u64(out, l->digest);
    }
}

static void put_stats(struct buf *out, const struct engine_stats *stats)
{
#define X(name, help) put_u64(out, stats->name);
    ENGINE_STATS_TABLE(X)
#undef X
    for (int i = 0; i < ENGINE_ROWS_BUCKETS; i++) {
        put_u64(out, stats->rows_per_step[i]);
        put_u64(out, stats->seqs_per_step[i]);
    }
}

void frame__put_error(struct buf *out, const struct error *error)
{
    put_u16(out, (uint16_t)error->code);
    put_text(out, error->param);
    put_text(out, error->msg);
}

static void put_event(struct buf *out, const struct engine_event *e)
{
    put_u8(out, (uint8_t)e->kind);
    put_u64(out, e->job);
    switch (e->kind) {
    case ENGINE_STARTED:
        put_u32(out, e->n_cached);
        put_u64(out, e->queue_us);
        break;
    case ENGINE_PROGRESS:
        put_u32(out, e->n_done);
        break;
    case ENGINE_PROMPT:
        put_u32(out, e->index);
        put_u32(out, e->n);
        put_logprobs(out, e->logprobs, e->n);
        break;
    case ENGINE_TOKENS:
        put_u32(out, e->choice);
        put_u32(out, e->index);
        put_u8(out, (uint8_t)e->finish);
        put_int32_t(out, e->stop_id);
        put_u32(out, e->n_drafted);
        put_u32(out, e->n_held);
        put_ids(out, e->ids, e->n);
        put_logprobs(out, e->logprobs, e->n);
        break;
    case ENGINE_PREEMPTED:
        put_u32(out, e->choice);
        break;
    case ENGINE_FAILED:
    case ENGINE_LOST:
        frame__put_error(out, &e->error);
        break;
    case ENGINE_REPLAYED:
        put_text(out, e->fingerprint);
        break;
    case ENGINE_STATS:
        put_stats(out, e->stats);
        break;
    }
}

static size_t begin_events(struct buf *out)
{
    size_t start = frame__begin(out);
    put_u32(out, 0);
    return start;
}

static bool end_events(struct buf *out, size_t start, uint32_t epoch, uint32_t n, struct error *err)
{
    if (!out->failed) {
        for (int i = 0; i < 4; i++) {
            out->data[start + WIRE_HEADER_SIZE + (size_t)i] = (char)(uint8_t)(n >> (8 * i));
        }
    }
    return frame__end(out, start, epoch, FRAME_EVENTS, err);
}

static bool put_all(struct buf *out, uint32_t epoch, const struct engine_event *events, size_t n, struct error *err)
{
    size_t start = begin_events(out);
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++) {
        size_t before = out->len;
        put_event(out, &events[i]);
        if (!out->failed && out->len - start - WIRE_HEADER_SIZE > LIMIT_FRAME && count > 0) {
            buf_truncate(out, before); /* this event begins the next frame */
            if (!end_events(out, start, epoch, count, err)) {
                return false;
            }
            start = begin_events(out);
            put_event(out, &events[i]);
            count = 0;
        }
        count++;
    }
    return end_events(out, start, epoch, count, err);
}

bool frame_put_events(struct buf *out, uint32_t epoch, const struct engine_event *events, size_t n, struct error *err)
{
    size_t start = out->len;
    if (put_all(out, epoch, events, n, err)) {
        return true;
    }
    buf_truncate(out, start);
    return false;
}

/* ---- decode ---- */

static void get_tops(struct cursor *c, struct token_logprob *l)
{
    l->n_top = get_enum(c, JOB_MAX_TOP + 1);
    struct token_top *top = cursor_array(c, l->n_top, sizeof *top);
    for (uint32_t i = 0; top && i < l->n_top; i++) {
        top[i].id = get_int32_t(c);
        top[i].logprob = get_float(c);
    }
    l->top = top;
    l->n_top = top ? l->n_top : 0;
}

static const struct token_logprob *get_logprobs(struct cursor *c, uint32_t n)
{
    if (!get_bool(c)) {
        return NULL;
    }
    if (n > (size_t)(c->end - c->at) / LOGPROB_SIZE) {
        c->short_payload = true;
        return NULL;
    }
    struct token_logprob *logprobs = cursor_array(c, n, sizeof *logprobs);
    for (uint32_t i = 0; logprobs && i < n && cursor_ok(c); i++) {
        struct token_logprob *l = &logprobs[i];
        l->id = get_int32_t(c);
        l->logprob = get_float(c);
        l->rank = get_int32_t(c);
        get_tops(c, l);
        l->digest = get_u64(c);
    }
    return logprobs;
}

static void get_stats(struct cursor *c, struct engine_event *e)
{
    struct engine_stats *stats = cursor_array(c, 1, sizeof *stats);
    if (!stats) {
        return;
    }
#define X(name, help) stats->name = get_u64(c);
    ENGINE_STATS_TABLE(X)
#undef X
    for (int i = 0; i < ENGINE_ROWS_BUCKETS; i++) {
        stats->rows_per_step[i] = get_u64(c);
        stats->seqs_per_step[i] = get_u64(c);
    }
    e->stats = stats;
}

void frame__get_error(struct cursor *c, struct error *error)
{
    uint16_t code = get_u16(c);
    c->bad_value |= code >= ERR_COUNT;
    error->code = code < ERR_COUNT ? (enum error_code)code : ERR_INTERNAL;
    get_text(c, error->param, sizeof error->param);
    get_text(c, error->msg, sizeof error->msg);
}

static void get_event(struct cursor *c, struct engine_event *e)
{
    e->kind = (enum engine_event_kind)get_enum(c, ENGINE_EVENT_KINDS);
    e->job = get_u64(c);
    e->stop_id = -1;
    switch (e->kind) {
    case ENGINE_STARTED:
        e->n_cached = get_u32(c);
        e->queue_us = get_u64(c);
        break;
    case ENGINE_PROGRESS:
        e->n_done = get_u32(c);
        break;
    case ENGINE_PROMPT:
        e->index = get_u32(c);
        e->n = get_u32(c);
        e->logprobs = get_logprobs(c, e->n);
        c->bad_value |= !e->logprobs && e->n > 0;
        break;
    case ENGINE_TOKENS:
        e->choice = get_u32(c);
        e->index = get_u32(c);
        e->finish = (enum finish_reason)get_enum(c, FINISH_ERROR + 1);
        e->stop_id = get_int32_t(c);
        e->n_drafted = get_u32(c);
        e->n_held = get_u32(c);
        e->ids = get_ids(c, &e->n);
        e->logprobs = get_logprobs(c, e->n);
        break;
    case ENGINE_PREEMPTED:
        e->choice = get_u32(c);
        break;
    case ENGINE_FAILED:
    case ENGINE_LOST:
        frame__get_error(c, &e->error);
        break;
    case ENGINE_REPLAYED:
        get_text(c, e->fingerprint, sizeof e->fingerprint);
        break;
    case ENGINE_STATS:
        get_stats(c, e);
        break;
    }
}

bool frame_get_events(const struct frame *f, struct arena *arena, void (*each)(void *arg, const struct engine_event *e),
                      void *arg, struct error *err)
{
    struct cursor c = cursor_of(f->payload, arena);
    if (!frame__wants(f, FRAME_EVENTS, err)) {
        return false;
    }
    uint32_t n = get_count(&c, 9);
    for (uint32_t i = 0; i < n && cursor_ok(&c); i++) {
        struct engine_event e = {0};
        get_event(&c, &e);
        if (cursor_ok(&c)) {
            each(arg, &e);
        }
    }
    return cursor_finish(&c, "EVENTS", err);
}
