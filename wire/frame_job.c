/* SUBMIT: a job's fields in the order of the struct, arrays with their counts. One that does not fit into a frame is
 * cut:
 *
 *     SUBMIT_PART  u64 job id | bytes          (as many as it takes)
 *     SUBMIT       u64 job id | last bytes     the payload is the concatenation of all the bytes
 */
#include "wire/wire_internal.h"

#include <stdlib.h>

#define PART_PREFIX 8 /* the job id */
#define PART_BYTES  (LIMIT_FRAME - PART_PREFIX)

/* ---- encode ---- */

static void put_job(struct buf *out, const struct job *job)
{
    put_u64(out, job->id);
    put_u8(out, (uint8_t)job->kind);
    put_u32(out, job->flags);
    put_u32(out, job->prompt_index);
    put_u32(out, job->n_choices);
    put_int32_t(out, job->priority);
    put_u32(out, job->timeout_ms);
    put_u64(out, job->waited_us);
    put_u64(out, job->seed);
    put_u64(out, job->cache_salt);
    put_u32(out, job->adapter);
    if (job->adapter) {
        buf_append_bytes(out, job->adapter_digest.bytes, sizeof job->adapter_digest.bytes);
    }
    put_ids(out, job->prompt, job->n_prompt);
    put_u32(out, job->max_tokens);
    put_u32(out, job->min_tokens);
    put_u32(out, job->n_top);
    put_u32(out, job->n_prompt_top);
#define X(name, type, fallback, min, max, help) put_##type(out, job->sampling.name);
    SAMPLING_TABLE(X)
#undef X
    put_u32(out, job->n_bias);
    for (uint32_t i = 0; i < job->n_bias; i++) {
        put_int32_t(out, job->bias[i].id);
        put_float(out, job->bias[i].bias);
    }
    put_ids(out, job->stop_ids, job->n_stop_ids);
    put_ids(out, job->dry_breakers, job->n_dry_breakers);
    put_u8(out, job->accepted != NULL);
    for (uint32_t i = 0; job->accepted && i < job->n_choices; i++) {
        put_ids(out, job->accepted[i].ids, job->accepted[i].n);
        put_u8(out, job->accepted[i].done);
    }
    put_ids(out, job->prediction, job->n_prediction);
    put_u8(out, (uint8_t)job->speculation);
    put_bytes(out, job->constraint, job->constraint_size);
}

static bool put_part(struct buf *out, uint32_t epoch, enum frame_type type, uint64_t id, struct str bytes,
                     struct error *err)
{
    size_t start = frame__begin(out);
    put_u64(out, id);
    buf_append(out, bytes);
    return frame__end(out, start, epoch, type, err);
}

static bool put_parts(struct buf *out, uint32_t epoch, uint64_t id, struct str payload, struct error *err)
{
    size_t at = 0;
    for (; payload.len - at > PART_BYTES; at += PART_BYTES) {
        if (!put_part(out, epoch, FRAME_SUBMIT_PART, id, str_slice(payload, at, at + PART_BYTES), err)) {
            return false;
        }
    }
    return put_part(out, epoch, FRAME_SUBMIT, id, str_slice(payload, at, payload.len), err);
}

bool frame_put_job(struct buf *out, uint32_t epoch, const struct job *job, struct error *err)
{
    struct buf payload;
    size_t start = out->len;
    if (!job_check(job, err)) {
        return false;
    }
    buf_init(&payload, out->max);
    put_job(&payload, job);
    bool ok = buf_ok(&payload, "The job", err) && put_parts(out, epoch, job->id, buf_view(&payload), err);
    if (!ok) {
        buf_truncate(out, start);
    }
    buf_release(&payload);
    return ok;
}

/* ---- decode ---- */

static void get_bias(struct cursor *c, struct job *job)
{
    uint32_t n = get_count(c, 8);
    struct job_bias *bias = cursor_array(c, n, sizeof *bias);
    for (uint32_t i = 0; bias && i < n; i++) {
        bias[i].id = get_int32_t(c);
        bias[i].bias = get_float(c);
    }
    job->n_bias = bias ? n : 0;
    job->bias = bias;
}

static void get_accepted(struct cursor *c, struct job *job)
{
    if (!get_bool(c)) {
        return;
    }
    if (job->n_choices == 0 || job->n_choices > LIMIT_CHOICES) {
        c->bad_value = true;
        return;
    }
    struct job_accepted *accepted = cursor_array(c, job->n_choices, sizeof *accepted);
    for (uint32_t i = 0; accepted && i < job->n_choices; i++) {
        accepted[i].ids = get_ids(c, &accepted[i].n);
        accepted[i].done = get_bool(c);
    }
    job->accepted = accepted;
}

static void get_constraint(struct cursor *c, struct job *job)
{
    const void *bytes = get_bytes(c, &job->constraint_size);
    void *copy = cursor_array(c, job->constraint_size, 1);
    if (copy) {
        memcpy(copy, bytes, job->constraint_size);
    }
    job->constraint = copy;
}

static void get_job(struct cursor *c, struct job *job)
{
    job->id = get_u64(c);
    job->kind = (enum job_kind)get_enum(c, JOB_KIND_COUNT);
    job->flags = get_u32(c);
    job->prompt_index = get_u32(c);
    job->n_choices = get_u32(c);
    job->priority = get_int32_t(c);
    job->timeout_ms = get_u32(c);
    job->waited_us = get_u64(c);
    job->seed = get_u64(c);
    job->cache_salt = get_u64(c);
    job->adapter = get_u32(c);
    if (job->adapter) {
        get_digest(c, &job->adapter_digest);
    }
    job->prompt = get_ids(c, &job->n_prompt);
    job->max_tokens = get_u32(c);
    job->min_tokens = get_u32(c);
    job->n_top = get_u32(c);
    job->n_prompt_top = get_u32(c);
#define X(name, type, fallback, min, max, help) job->sampling.name = get_##type(c);
    SAMPLING_TABLE(X)
#undef X
    get_bias(c, job);
    job->stop_ids = get_ids(c, &job->n_stop_ids);
    job->dry_breakers = get_ids(c, &job->n_dry_breakers);
    get_accepted(c, job);
    job->prediction = get_ids(c, &job->n_prediction);
    job->speculation = (enum speculation)get_enum(c, SPECULATION_COUNT);
    get_constraint(c, job);
}

/* ---- assembly ---- */

struct job_assembly {
    struct buf bytes; /* of the job that is being received */
    uint64_t id;
    bool active;
};

struct job_assembly *job_assembly_create(size_t max_size)
{
    struct job_assembly *a = calloc(1, sizeof *a);
    if (a) {
        buf_init(&a->bytes, max_size);
    }
    return a;
}

void job_assembly_free(struct job_assembly *a)
{
    if (a) {
        buf_release(&a->bytes);
        free(a);
    }
}

/* Starts anew; a large buffer goes back. */
static void reset(struct job_assembly *a)
{
    a->active = false;
    buf_release(&a->bytes);
}

static bool take_part(struct job_assembly *a, uint64_t id, struct str bytes, struct error *err)
{
    if (a->active && a->id != id) {
        return error_set(err, ERR_PROTOCOL, "A part of job %llu came in the middle of job %llu.",
                         (unsigned long long)id, (unsigned long long)a->id);
    }
    a->active = true;
    a->id = id;
    buf_append(&a->bytes, bytes);
    return buf_ok(&a->bytes, "A job that comes in parts", err);
}

static int decode(struct str payload, uint64_t id, struct arena *arena, struct job *job, struct error *err)
{
    struct cursor c = cursor_of(payload, arena);
    *job = (struct job){0};
    get_job(&c, job);
    if (cursor_ok(&c) && job->id != id) {
        error_set(err, ERR_PROTOCOL, "A SUBMIT frame for job %llu holds job %llu.", (unsigned long long)id,
                  (unsigned long long)job->id);
        return -1;
    }
    return cursor_finish(&c, "SUBMIT", err) && job_check(job, err) ? 1 : -1;
}

int frame_get_job(const struct frame *f, struct job_assembly *parts, struct arena *arena, struct job *job,
                  struct error *err)
{
    if (f->type != FRAME_SUBMIT_PART && !frame__wants(f, FRAME_SUBMIT, err)) {
        return -1;
    }
    struct cursor c = cursor_of(f->payload, NULL);
    uint64_t id = get_u64(&c);
    if (!cursor_ok(&c)) {
        error_set(err, ERR_PROTOCOL, "A SUBMIT frame is too short for its job's id.");
        return -1;
    }
    struct str bytes = str_slice(f->payload, PART_PREFIX, f->payload.len);
    if (f->type == FRAME_SUBMIT && !parts->active) {
        return decode(bytes, id, arena, job, err);
    }
    int rc = -1;
    if (take_part(parts, id, bytes, err)) {
        if (f->type == FRAME_SUBMIT_PART) {
            return 0;
        }
        rc = decode(buf_view(&parts->bytes), id, arena, job, err);
    }
    reset(parts);
    return rc;
}
