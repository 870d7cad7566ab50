#include "pipeline/saved_tokens.h"

#define SAVED_VERSION  1
#define SAVED_LOGPROBS 1u

/* ---- writing ---- */

static void put(struct buf *out, uint64_t v, size_t n_bytes)
{
    char bytes[8];
    for (size_t i = 0; i < n_bytes; i++) {
        bytes[i] = (char)(uint8_t)(v >> (8 * i));
    }
    buf_append_bytes(out, bytes, n_bytes);
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

void saved_tokens_pack(struct buf *out, const struct choice_token *tokens, size_t n, bool logprobs)
{
    put(out, SAVED_VERSION, 1);
    put(out, logprobs ? SAVED_LOGPROBS : 0, 1);
    for (size_t i = 0; i < n; i++) {
        const struct choice_token *t = &tokens[i];
        put(out, (uint32_t)t->id, 4);
        if (!logprobs) {
            continue;
        }
        put(out, bits_of(t->logprob), 4);
        put(out, (uint32_t)t->rank, 4);
        put(out, t->digest, 8);
        put(out, t->n_top, 1);
        for (uint32_t k = 0; k < t->n_top; k++) {
            put(out, (uint32_t)t->top[k].id, 4);
            put(out, bits_of(t->top[k].logprob), 4);
        }
    }
}

/* ---- reading ---- */

struct reading {
    struct str rest;
    struct arena *arena;
    bool short_data, no_memory;
};

static uint64_t get(struct reading *r, size_t n_bytes)
{
    uint64_t v = 0;
    if (r->rest.len < n_bytes) {
        r->short_data = true;
        return 0;
    }
    for (size_t i = 0; i < n_bytes; i++) {
        v |= (uint64_t)(uint8_t)r->rest.ptr[i] << (8 * i);
    }
    r->rest = str_slice(r->rest, n_bytes, r->rest.len);
    return v;
}

static float get_float(struct reading *r)
{
    uint32_t bits = (uint32_t)get(r, 4);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void get_logprob(struct reading *r, int32_t id, struct token_logprob *out)
{
    *out = (struct token_logprob){.id = id};
    out->logprob = get_float(r);
    out->rank = (int32_t)get(r, 4);
    out->digest = get(r, 8);
    uint32_t n_top = (uint32_t)get(r, 1);
    if (n_top > JOB_MAX_TOP) {
        r->short_data = true;
        return;
    }
    struct token_top *top = n_top ? arena_alloc_array(r->arena, n_top, sizeof *top) : NULL;
    r->no_memory |= n_top && !top;
    for (uint32_t k = 0; top && k < n_top; k++) {
        top[k].id = (int32_t)get(r, 4);
        top[k].logprob = get_float(r);
    }
    out->top = top;
    out->n_top = top ? n_top : 0;
}

bool saved_tokens_unpack(struct str data, size_t n, struct arena *arena, int32_t **ids, struct token_logprob **logprobs,
                         struct error *err)
{
    struct reading r = {.rest = data, .arena = arena};
    uint64_t version = get(&r, 1), flags = get(&r, 1);
    if (version != SAVED_VERSION || n > r.rest.len / sizeof **ids) {
        return error_set(err, ERR_PROTOCOL, "saved tokens have version %llu and %zu bytes for %zu tokens.",
                         (unsigned long long)version, r.rest.len, n);
    }
    bool with_logprobs = flags & SAVED_LOGPROBS;
    *ids = arena_alloc_array(arena, n + 1, sizeof **ids);
    *logprobs = with_logprobs ? arena_alloc_array(arena, n + 1, sizeof **logprobs) : NULL;
    if (!*ids || (with_logprobs && !*logprobs)) {
        return arena_full(arena, "saved tokens", err);
    }
    for (size_t i = 0; i < n && !r.short_data && !r.no_memory; i++) {
        (*ids)[i] = (int32_t)get(&r, 4);
        if (with_logprobs) {
            get_logprob(&r, (*ids)[i], &(*logprobs)[i]);
        }
    }
    if (r.no_memory) {
        return arena_full(arena, "saved tokens", err);
    }
    return (!r.short_data && r.rest.len == 0) ||
           error_set(err, ERR_PROTOCOL, "saved tokens are %s than %zu tokens.", r.short_data ? "shorter" : "longer", n);
}
