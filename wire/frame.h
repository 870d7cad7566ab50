/* Frames between gateway and engine: length-prefixed, versioned, bounded (LIMIT_FRAME), little-endian. Declared here
 * only; encoded and decoded here only; fuzzed from both sides. No sockets in this folder.
 *
 *     header: u32 payload size | u16 type | u16 WIRE_VERSION | u32 epoch | u32 low half of XXH3 of the payload,
 *             seeded with type << 32 | epoch
 *
 * Every frame carries the engine's epoch (which incarnation of the engine it belongs to): the receiver drops frames of
 * other epochs. A job larger than one frame travels as SUBMIT_PART frames followed by SUBMIT. */
#ifndef TANDEM_WIRE_FRAME_H
#define TANDEM_WIRE_FRAME_H

#include "base/arena.h"
#include "base/buf.h"
#include "wire/job.h"

#define WIRE_VERSION     4
#define WIRE_HEADER_SIZE 16

enum frame_type {
    FRAME_HELLO = 1,    /* engine -> gateway: struct engine_info; the first frame, once the model is loaded */
    FRAME_LOADING,      /* engine -> gateway: f32 fraction of the load */
    FRAME_FATAL,        /* engine -> gateway: struct error: could not start or, behind HELLO, cannot go on; it exits */
    FRAME_SUBMIT_PART,  /* gateway -> engine: u64 job id, bytes of a SUBMIT payload to come */
    FRAME_SUBMIT,       /* gateway -> engine: struct job */
    FRAME_CANCEL,       /* gateway -> engine: u64 job, u32 choice or WIRE_ALL_CHOICES */
    FRAME_EVENTS,       /* engine -> gateway: the events of one step (all kinds but LOST) */
    FRAME_DRAIN,        /* gateway -> engine: finish what runs, then exit */
    FRAME_CLEAR_CACHE,  /* gateway -> engine: drop unreferenced cached pages */
    FRAME_POOL_LIMIT,   /* gateway -> engine: struct pool_limit */
    FRAME_ADAPTER,      /* gateway -> engine: struct adapter_order; answered by one ADAPTER_DONE, in turn */
    FRAME_ADAPTER_DONE, /* engine -> gateway: struct adapter_done */
    FRAME_TYPE_END
};
#define WIRE_ALL_CHOICES UINT32_MAX

/* How much of the KV pool an engine may use from now on: less than all of it under memory pressure. */
struct pool_limit {
    uint64_t size; /* bytes; the whole pool or more: no limit */
    bool urgent;   /* what runs is preempted for it, down to one sequence; else only the cache gives way */
};

#define WIRE_ADAPTER_PATH 4096 /* bytes, NUL included */

/* Adapters of the engine's model. One is under way at a time: the next order follows the answer to the last. */
struct adapter_order {
    uint32_t number;              /* 1 to WIRE_MAX_ADAPTERS */
    char path[WIRE_ADAPTER_PATH]; /* the adapter that is to be loaded, which the engine may read; "": it is dropped */
    struct sha256 digest;         /* of what it must be */
};
struct adapter_done {
    uint32_t number;
    struct error error; /* NONE: it is loaded, or dropped */
};

struct frame {
    enum frame_type type;
    uint32_t epoch;
    struct str payload; /* view into the receive buffer */
};

/* Takes the next whole frame off the front of `in`. Returns 1 and its size in *consumed; 0 when more bytes are needed;
 * -1 with PROTOCOL for a bad version, type, size or checksum. */
NODISCARD int frame_parse(struct str in, struct frame *out, size_t *consumed, struct error *err);

/* Encoders append whole frames to out (out->max bounds the queue). Decoders check every count against the bytes left;
 * what they return lives in the arena or in the payload. */
NODISCARD bool frame_put_hello(struct buf *out, uint32_t epoch, const struct engine_info *info, struct error *err);
NODISCARD bool frame_get_hello(const struct frame *f, struct engine_info *info, struct error *err);
NODISCARD bool frame_put_loading(struct buf *out, uint32_t epoch, float fraction, struct error *err);
NODISCARD bool frame_get_loading(const struct frame *f, float *fraction, struct error *err);
NODISCARD bool frame_put_fatal(struct buf *out, uint32_t epoch, const struct error *fatal, struct error *err);
NODISCARD bool frame_get_fatal(const struct frame *f, struct error *fatal, struct error *err);
NODISCARD bool frame_put_job(struct buf *out, uint32_t epoch, const struct job *job,
                             struct error *err); /* in as many frames as it takes */
/* Assembles SUBMIT_PART and SUBMIT frames. Returns 1 when *job is complete (in the arena), 0 for a part, -1 on error.
 */
struct job_assembly; /* parts received so far; bounded by max_size */
struct job_assembly *job_assembly_create(size_t max_size);
void job_assembly_free(struct job_assembly *a);
NODISCARD int frame_get_job(const struct frame *f, struct job_assembly *parts, struct arena *arena, struct job *job,
                            struct error *err);
NODISCARD bool frame_put_cancel(struct buf *out, uint32_t epoch, uint64_t job, uint32_t choice, struct error *err);
NODISCARD bool frame_get_cancel(const struct frame *f, uint64_t *job, uint32_t *choice, struct error *err);
NODISCARD bool frame_put_pool_limit(struct buf *out, uint32_t epoch, const struct pool_limit *limit, struct error *err);
NODISCARD bool frame_get_pool_limit(const struct frame *f, struct pool_limit *limit, struct error *err);
NODISCARD bool frame_put_adapter(struct buf *out, uint32_t epoch, const struct adapter_order *order, struct error *err);
NODISCARD bool frame_get_adapter(const struct frame *f, struct adapter_order *order, struct error *err);
NODISCARD bool frame_put_adapter_done(struct buf *out, uint32_t epoch, const struct adapter_done *done,
                                      struct error *err);
NODISCARD bool frame_get_adapter_done(const struct frame *f, struct adapter_done *done, struct error *err);
NODISCARD bool frame_put_empty(struct buf *out, uint32_t epoch, enum frame_type type,
                               struct error *err); /* DRAIN, CLEAR_CACHE */

/* EVENTS: one frame per step (split where it would exceed LIMIT_FRAME). */
NODISCARD bool frame_put_events(struct buf *out, uint32_t epoch, const struct engine_event *events, size_t n,
                                struct error *err);
/* Calls each(arg, event) for every event of the frame; the event's pointers live in the arena until the caller clears
 * it. */
NODISCARD bool frame_get_events(const struct frame *f, struct arena *arena,
                                void (*each)(void *arg, const struct engine_event *e), void *arg, struct error *err);

#endif
