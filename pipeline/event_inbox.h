/* Events of an engine as they come in frames, given out one by one. Both ports use it: the one over a socket and the
 * one in the same process. Events of another epoch are dropped. Owned by one thread. */
#ifndef TANDEM_PIPELINE_EVENT_INBOX_H
#define TANDEM_PIPELINE_EVENT_INBOX_H

#include "base/arena.h"
#include "base/limits.h"
#include "wire/frame.h"

struct event_inbox {
    struct arena *arena;         /* what the events of the present frame point into */
    struct engine_event *events; /* [n_events] */
    size_t n_events, cap, next;
};

NODISCARD bool event_inbox_init(struct event_inbox *inbox, struct error *err);
void event_inbox_release(struct event_inbox *inbox);

/* Decodes a FRAME_EVENTS. Only when empty (event_inbox_next gave NULL). The payload must live until the next call. */
NODISCARD bool event_inbox_load(struct event_inbox *inbox, const struct frame *frame, struct error *err);

/* Next event of the frame, or NULL; valid until the next event_inbox_load. */
const struct engine_event *event_inbox_next(struct event_inbox *inbox);

#endif
