/* Little-endian fields inside a frame's payload. Writing goes through base/buf, whose failure shows at the end
 * (buf_ok); reading goes through a cursor that stops at the payload's end and remembers that it failed, so that a
 * decoder reads a whole struct and asks once. Used by this folder only. */
#ifndef TANDEM_WIRE_CODEC_H
#define TANDEM_WIRE_CODEC_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/hash.h"

/* ---- writing ---- */
void put_u8(struct buf *out, uint8_t v);
void put_u16(struct buf *out, uint16_t v);
void put_u32(struct buf *out, uint32_t v);
void put_u64(struct buf *out, uint64_t v);
void put_int32_t(struct buf *out, int32_t v); /* named after the types of SAMPLING_TABLE */
void put_float(struct buf *out, float v);
void put_bytes(struct buf *out, const void *bytes, uint32_t n); /* u32 n, then the bytes */
void put_text(struct buf *out, const char *text);               /* likewise, of a C string */
void put_ids(struct buf *out, const int32_t *ids, uint32_t n);  /* u32 n, then the ids */

/* ---- reading ---- */
struct cursor {
    const uint8_t *at, *end;
    struct arena *arena; /* where arrays go; may be NULL when none is read */
    bool short_payload;  /* a read went past the end: all later ones give zeros */
    bool bad_value;      /* a value was outside its enum, count or size */
    bool no_memory;      /* the arena is full */
};

struct cursor cursor_of(struct str payload, struct arena *arena);
uint8_t get_u8(struct cursor *c);
uint16_t get_u16(struct cursor *c);
uint32_t get_u32(struct cursor *c);
uint64_t get_u64(struct cursor *c);
int32_t get_int32_t(struct cursor *c);
float get_float(struct cursor *c);
bool get_bool(struct cursor *c); /* 0 or 1 */
void get_digest(struct cursor *c, struct sha256 *digest);
uint32_t get_enum(struct cursor *c, uint32_t end);        /* a u8 below end */
void get_text(struct cursor *c, char *text, size_t size); /* of at most size - 1 bytes, no NUL inside */

/* A u32 count of items that take at least item_size bytes each: never more than the bytes left can hold. */
uint32_t get_count(struct cursor *c, size_t item_size);
void *cursor_array(struct cursor *c, uint32_t n,
                   size_t size);                       /* zeroed, in the arena; NULL when n is 0 or on failure */
const int32_t *get_ids(struct cursor *c, uint32_t *n); /* a copy in the arena, NULL when *n is 0 */
const void *get_bytes(struct cursor *c, uint32_t *n);  /* a view into the payload, NULL when *n is 0 */

bool cursor_ok(const struct cursor *c); /* nothing failed so far */
/* Nothing failed and nothing is left; else PROTOCOL, or NO_MEMORY, naming `what`. */
NODISCARD bool cursor_finish(const struct cursor *c, const char *what, struct error *err);

#endif
