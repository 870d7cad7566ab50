/* Shared by the files of wire/ only: how a frame is begun and sealed around its payload. */
#ifndef TANDEM_WIRE_INTERNAL_H
#define TANDEM_WIRE_INTERNAL_H

#include "base/limits.h"
#include "wire/codec.h"
#include "wire/frame.h"

/* Appends an empty header; the payload follows it. Returns where the frame begins in out. */
size_t frame__begin(struct buf *out);
/* Fills the header of the frame that begins at `start` and ends with the buffer. On failure (the buffer's, or a payload
 * beyond LIMIT_FRAME) out is as long as it was before frame__begin. */
NODISCARD bool frame__end(struct buf *out, size_t start, uint32_t epoch, enum frame_type type, struct error *err);
NODISCARD bool frame__wants(const struct frame *f, enum frame_type type, struct error *err);
/* An error as it travels: code, field, sentence. */
void frame__put_error(struct buf *out, const struct error *error);
void frame__get_error(struct cursor *c, struct error *error);

#endif
