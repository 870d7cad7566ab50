#include "wire/codec.h"

static void put_le(struct buf *out, uint64_t v, int n)
{
    uint8_t bytes[8];
    for (int i = 0; i < n; i++) {
        bytes[i] = (uint8_t)(v >> (8 * i));
    }
    buf_append_bytes(out, bytes, (size_t)n);
}

void put_u8(struct buf *out, uint8_t v)
{
    put_le(out, v, 1);
}

void put_u16(struct buf *out, uint16_t v)
{
    put_le(out, v, 2);
}

void put_u32(struct buf *out, uint32_t v)
{
    put_le(out, v, 4);
}

void put_u64(struct buf *out, uint64_t v)
{
    put_le(out, v, 8);
}

void put_int32_t(struct buf *out, int32_t v)
{
    put_le(out, (uint32_t)v, 4);
}

void put_float(struct buf *out, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_le(out, bits, 4);
}

void put_bytes(struct buf *out, const void *bytes, uint32_t n)
{
    put_u32(out, n);
    buf_append_bytes(out, bytes, n);
}

void put_text(struct buf *out, const char *text)
{
    put_bytes(out, text, (uint32_t)strlen(text));
}

void put_ids(struct buf *out, const int32_t *ids, uint32_t n)
{
    put_u32(out, n);
    uint8_t *at = (uint8_t *)buf_extend(out, (size_t)n * 4);
    for (uint32_t i = 0; at && i < n; i++) {
        uint32_t id = (uint32_t)ids[i];
        at[4 * i] = (uint8_t)id;
        at[4 * i + 1] = (uint8_t)(id >> 8);
        at[4 * i + 2] = (uint8_t)(id >> 16);
        at[4 * i + 3] = (uint8_t)(id >> 24);
    }
}

struct cursor cursor_of(struct str payload, struct arena *arena)
{
    const uint8_t *at = (const uint8_t *)payload.ptr;
    return (struct cursor){.at = at, .end = at ? at + payload.len : at, .arena = arena};
}

static size_t left(const struct cursor *c)
{
    return (size_t)(c->end - c->at);
}

static uint64_t get_le(struct cursor *c, unsigned n)
{
    uint64_t v = 0;
    if (left(c) < n) {
        c->short_payload = true;
        c->at = c->end;
        return 0;
    }
    for (unsigned i = 0; i < n; i++) {
        v |= (uint64_t)c->at[i] << (8 * i);
    }
    c->at += n;
    return v;
}

uint8_t get_u8(struct cursor *c)
{
    return (uint8_t)get_le(c, 1);
}

uint16_t get_u16(struct cursor *c)
{
    return (uint16_t)get_le(c, 2);
}

uint32_t get_u32(struct cursor *c)
{
    return (uint32_t)get_le(c, 4);
}

uint64_t get_u64(struct cursor *c)
{
    return get_le(c, 8);
}

int32_t get_int32_t(struct cursor *c)
{
    return (int32_t)get_u32(c);
}

float get_float(struct cursor *c)
{
    uint32_t bits = get_u32(c);
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

bool get_bool(struct cursor *c)
{
    return get_enum(c, 2) == 1;
}

void get_digest(struct cursor *c, struct sha256 *digest)
{
    for (size_t i = 0; i < sizeof digest->bytes; i++) {
        digest->bytes[i] = get_u8(c);
    }
}

uint32_t get_enum(struct cursor *c, uint32_t end)
{
    uint32_t v = get_u8(c);
    if (v >= end) {
        c->bad_value = true;
        return 0;
    }
    return v;
}

const void *get_bytes(struct cursor *c, uint32_t *n)
{
    *n = get_count(c, 1);
    const void *bytes = *n ? c->at : NULL;
    c->at += *n;
    return bytes;
}

void get_text(struct cursor *c, char *text, size_t size)
{
    uint32_t n;
    const void *bytes = get_bytes(c, &n);
    if (n >= size || (n && memchr(bytes, 0, n))) {
        c->bad_value = true;
        n = 0;
    }
    if (n) {
        memcpy(text, bytes, n);
    }
    text[n] = '\0';
}

uint32_t get_count(struct cursor *c, size_t item_size)
{
    uint32_t n = get_u32(c);
    if (n > left(c) / item_size) {
        c->short_payload = true;
        c->at = c->end;
        return 0;
    }
    return n;
}

void *cursor_array(struct cursor *c, uint32_t n, size_t size)
{
    if (n == 0) {
        return NULL;
    }
    void *items = arena_alloc_array(c->arena, n, size);
    c->no_memory |= !items;
    return items;
}

const int32_t *get_ids(struct cursor *c, uint32_t *n)
{
    uint32_t count = get_count(c, 4);
    int32_t *ids = cursor_array(c, count, sizeof *ids);
    for (uint32_t i = 0; i < count; i++) {
        int32_t id = get_int32_t(c);
        if (ids) {
            ids[i] = id;
        }
    }
    *n = ids ? count : 0;
    return ids;
}

bool cursor_ok(const struct cursor *c)
{
    return !c->short_payload && !c->bad_value && !c->no_memory;
}

bool cursor_finish(const struct cursor *c, const char *what, struct error *err)
{
    if (c->short_payload) {
        return error_set(err, ERR_PROTOCOL, "The payload of a %s frame ends before its fields do.", what);
    }
    if (c->bad_value) {
        return error_set(err, ERR_PROTOCOL, "A field of a %s frame has a value outside its range.", what);
    }
    if (c->no_memory) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory left for the arrays of a %s frame.", what);
    }
    if (c->at != c->end) {
        return error_set(err, ERR_PROTOCOL, "A %s frame has %zu bytes after its last field.", what, left(c));
    }
    return true;
}
