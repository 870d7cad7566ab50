/* Headers, and the frames with small payloads. Jobs are in frame_job.c, events in frame_events.c. */
#include "wire/wire_internal.h"

#include "base/hash.h"

/* ---- header ---- */

size_t frame__begin(struct buf *out)
{
    static const char header[WIRE_HEADER_SIZE];
    size_t start = out->len;
    buf_append_bytes(out, header, sizeof header);
    return start;
}

/* Low half of XXH3; type and epoch are its seed, so that a flipped bit of theirs is noticed too. */
static uint32_t checksum_of(const char *payload, size_t size, uint16_t type, uint32_t epoch)
{
    return (uint32_t)xxh3(payload, size, (uint64_t)type << 32 | epoch);
}

static void write_le(char *at, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) {
        at[i] = (char)(uint8_t)(v >> (8 * i));
    }
}

bool frame__end(struct buf *out, size_t start, uint32_t epoch, enum frame_type type, struct error *err)
{
    if (!buf_ok(out, "The queue of frames", err)) {
        buf_truncate(out, start);
        return false;
    }
    size_t size = out->len - start - WIRE_HEADER_SIZE;
    if (size > LIMIT_FRAME) {
        buf_truncate(out, start);
        return error_set(err, ERR_TOO_LARGE, "A frame of %zu bytes is larger than the limit of %zu.", size,
                         (size_t)LIMIT_FRAME);
    }
    char *header = out->data + start;
    write_le(header, size, 4);
    write_le(header + 4, (uint64_t)type, 2);
    write_le(header + 6, WIRE_VERSION, 2);
    write_le(header + 8, epoch, 4);
    write_le(header + 12, checksum_of(header + WIRE_HEADER_SIZE, size, (uint16_t)type, epoch), 4);
    return true;
}

int frame_parse(struct str in, struct frame *out, size_t *consumed, struct error *err)
{
    if (in.len < WIRE_HEADER_SIZE) {
        return 0;
    }
    struct cursor c = cursor_of(str_slice(in, 0, WIRE_HEADER_SIZE), NULL);
    uint32_t size = get_u32(&c);
    uint16_t type = get_u16(&c), version = get_u16(&c);
    uint32_t epoch = get_u32(&c), checksum = get_u32(&c);
    if (version != WIRE_VERSION) {
        error_set(err, ERR_PROTOCOL, "A frame of protocol version %u came where version %d is spoken.", version,
                  WIRE_VERSION);
        return -1;
    }
    if (type == 0 || type >= FRAME_TYPE_END) {
        error_set(err, ERR_PROTOCOL, "There is no frame type %u.", type);
        return -1;
    }
    if (size > LIMIT_FRAME) {
        error_set(err, ERR_PROTOCOL, "A frame announces %u bytes, more than the limit of %zu.", size,
                  (size_t)LIMIT_FRAME);
        return -1;
    }
    if (in.len - WIRE_HEADER_SIZE < size) {
        return 0;
    }
    struct str payload = str_slice(in, WIRE_HEADER_SIZE, WIRE_HEADER_SIZE + (size_t)size);
    if (checksum_of(payload.ptr, payload.len, type, epoch) != checksum) {
        error_set(err, ERR_PROTOCOL, "The checksum of a frame of type %u does not match its %u bytes.", type, size);
        return -1;
    }
    *out = (struct frame){.type = (enum frame_type)type, .epoch = epoch, .payload = payload};
    *consumed = WIRE_HEADER_SIZE + (size_t)size;
    return 1;
}

bool frame__wants(const struct frame *f, enum frame_type type, struct error *err)
{
    return f->type == type ||
           error_set(err, ERR_PROTOCOL, "A frame of type %d came where type %d is wanted.", (int)f->type, (int)type);
}

/* ---- hello ---- */

bool frame_put_hello(struct buf *out, uint32_t epoch, const struct engine_info *info, struct error *err)
{
    size_t start = frame__begin(out);
    put_text(out, info->build);
    put_text(out, info->arch);
    put_text(out, info->backend);
    put_text(out, info->fingerprint);
    buf_append_bytes(out, info->model_digest, sizeof info->model_digest);
    put_u32(out, info->n_vocab);
    put_u32(out, info->n_context);
    put_u32(out, info->max_sequences);
    put_u32(out, info->max_batch_tokens);
    put_u32(out, info->page_tokens);
    put_u64(out, info->weights_size);
    put_u64(out, info->kv_size);
    put_u64(out, info->n_params);
    put_u32(out, info->load_ms);
    put_text(out, info->sandbox);
    return frame__end(out, start, epoch, FRAME_HELLO, err);
}

bool frame_get_hello(const struct frame *f, struct engine_info *info, struct error *err)
{
    struct cursor c = cursor_of(f->payload, NULL);
    struct engine_info got = {0};
    if (!frame__wants(f, FRAME_HELLO, err)) {
        return false;
    }
    get_text(&c, got.build, sizeof got.build);
    get_text(&c, got.arch, sizeof got.arch);
    get_text(&c, got.backend, sizeof got.backend);
    get_text(&c, got.fingerprint, sizeof got.fingerprint);
    for (size_t i = 0; i < sizeof got.model_digest; i++) {
        got.model_digest[i] = get_u8(&c);
    }
    got.n_vocab = get_u32(&c);
    got.n_context = get_u32(&c);
    got.max_sequences = get_u32(&c);
    got.max_batch_tokens = get_u32(&c);
    got.page_tokens = get_u32(&c);
    got.weights_size = get_u64(&c);
    got.kv_size = get_u64(&c);
    got.n_params = get_u64(&c);
    got.load_ms = get_u32(&c);
    get_text(&c, got.sandbox, sizeof got.sandbox);
    if (!cursor_finish(&c, "HELLO", err)) {
        return false;
    }
    *info = got;
    return true;
}

/* ---- loading, fatal, cancel, pool limit, adapters, empty ---- */

bool frame_put_loading(struct buf *out, uint32_t epoch, float fraction, struct error *err)
{
    size_t start = frame__begin(out);
    put_float(out, fraction);
    return frame__end(out, start, epoch, FRAME_LOADING, err);
}

bool frame_get_loading(const struct frame *f, float *fraction, struct error *err)
{
    struct cursor c = cursor_of(f->payload, NULL);
    if (!frame__wants(f, FRAME_LOADING, err)) {
        return false;
    }
    float got = get_float(&c);
    c.bad_value |= !(got >= 0 && got <= 1);
    if (!cursor_finish(&c, "LOADING", err)) {
        return false;
    }
    *fraction = got;
    return true;
}

bool frame_put_fatal(struct buf *out, uint32_t epoch, const struct error *fatal, struct error *err)
{
    size_t start = frame__begin(out);
    frame__put_error(out, fatal);
    return frame__end(out, start, epoch, FRAME_FATAL, err);
}

bool frame_get_fatal(const struct frame *f, struct error *fatal, struct error *err)
{
    struct cursor c = cursor_of(f->payload, NULL);
    struct error got = {.code = ERR_NONE};
    if (!frame__wants(f, FRAME_FATAL, err)) {
        return false;
    }
    frame__get_error(&c, &got);
    c.bad_value |= got.code == ERR_NONE;
    if (!cursor_finish(&c, "FATAL", err)) {
        return false;
    }
    *fatal = got;
    return true;
}

bool frame_put_cancel(struct buf *out, uint32_t epoch, uint64_t job, uint32_t choice, struct error *err)
{
    size_t start = frame__begin(out);
    put_u64(out, job);
    put_u32(out, choice);
    return frame__end(out, start, epoch, FRAME_CANCEL, err);
}

bool frame_get_cancel(const struct frame *f, uint64_t *job, uint32_t *choice, struct error *err)
{
    struct cursor c = cursor_of(f->payload, NULL);
    if (!frame__wants(f, FRAME_CANCEL, err)) {
        return false;
    }
    uint64_t got_job = get_u64(&c);
    uint32_t got_choice = get_u32(&c);
    if (!cursor_finish(&c, "CANCEL", err)) {
        return false;
    }
    *job = got_job;
    *choice = got_choice;
    return true;
}

bool frame_put_pool_limit(struct buf *out, uint32_t epoch, const struct pool_limit *limit, struct error *err)
{
    size_t start = frame__begin(out);
    put_u64(out, limit->size);
    put_u8(out, limit->urgent);
    return frame__end(out, start, epoch, FRAME_POOL_LIMIT, err);
}

bool frame_get_pool_limit(const struct frame *f, struct pool_limit *limit, struct error *err)
{
    struct cursor c = cursor_of(f->payload, NULL);
    if (!frame__wants(f, FRAME_POOL_LIMIT, err)) {
        return false;
    }
    struct pool_limit got = {.size = get_u64(&c)};
    got.urgent = get_bool(&c);
    if (!cursor_finish(&c, "POOL_LIMIT", err)) {
        return false;
    }
    *limit = got;
    return true;
}

bool frame_put_adapter(struct buf *out, uint32_t epoch, const struct adapter_order *order, struct error *err)
{
    size_t start = frame__begin(out);
    put_u32(out, order->number);
    put_text(out, order->path);
    buf_append_bytes(out, order->digest.bytes, sizeof order->digest.bytes);
    return frame__end(out, start, epoch, FRAME_ADAPTER, err);
}

static uint32_t get_adapter_number(struct cursor *c)
{
    uint32_t number = get_u32(c);
    c->bad_value |= number == 0 || number > WIRE_MAX_ADAPTERS;
    return number;
}

bool frame_get_adapter(const struct frame *f, struct adapter_order *order, struct error *err)
{
    struct cursor c = cursor_of(f->payload, NULL);
    if (!frame__wants(f, FRAME_ADAPTER, err)) {
        return false;
    }
    *order = (struct adapter_order){.number = get_adapter_number(&c)};
    get_text(&c, order->path, sizeof order->path);
    get_digest(&c, &order->digest);
    return cursor_finish(&c, "ADAPTER", err);
}

bool frame_put_adapter_done(struct buf *out, uint32_t epoch, const struct adapter_done *done, struct error *err)
{
    size_t start = frame__begin(out);
    put_u32(out, done->number);
    frame__put_error(out, &done->error);
    return frame__end(out, start, epoch, FRAME_ADAPTER_DONE, err);
}

bool frame_get_adapter_done(const struct frame *f, struct adapter_done *done, struct error *err)
{
    struct cursor c = cursor_of(f->payload, NULL);
    struct adapter_done got = {0};
    if (!frame__wants(f, FRAME_ADAPTER_DONE, err)) {
        return false;
    }
    got.number = get_adapter_number(&c);
    frame__get_error(&c, &got.error);
    if (!cursor_finish(&c, "ADAPTER_DONE", err)) {
        return false;
    }
    *done = got;
    return true;
}

bool frame_put_empty(struct buf *out, uint32_t epoch, enum frame_type type, struct error *err)
{
    return frame__end(out, frame__begin(out), epoch, type, err);
}
