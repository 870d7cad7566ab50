#include "pipeline/event_inbox.h"

#include "base/array.h"

#include <stdlib.h>

/* A frame is at most LIMIT_FRAME, and decoding widens it by less than this factor. */
#define INBOX_ARENA_SIZE (8 * LIMIT_FRAME)
#define INBOX_MAX_EVENTS (LIMIT_FRAME / 8)

bool event_inbox_init(struct event_inbox *inbox, struct error *err)
{
    *inbox = (struct event_inbox){.arena = arena_create(INBOX_ARENA_SIZE)};
    return inbox->arena || error_set(err, ERR_NO_MEMORY, "no memory for the events of an engine.");
}

void event_inbox_release(struct event_inbox *inbox)
{
    arena_free(inbox->arena);
    free(inbox->events);
    *inbox = (struct event_inbox){0};
}

struct load {
    struct event_inbox *inbox;
    struct error *err;
    bool ok;
};

static void append(void *arg, const struct engine_event *event)
{
    struct load *load = arg;
    struct event_inbox *inbox = load->inbox;
    load->ok = load->ok && array_reserve(&inbox->events, &inbox->cap, inbox->n_events + 1, INBOX_MAX_EVENTS,
                                         "events of a frame", load->err);
    if (load->ok) {
        inbox->events[inbox->n_events++] = *event;
    }
}

bool event_inbox_load(struct event_inbox *inbox, const struct frame *frame, struct error *err)
{
    arena_clear(inbox->arena);
    inbox->n_events = inbox->next = 0;
    struct load load = {.inbox = inbox, .err = err, .ok = true};
    return frame_get_events(frame, inbox->arena, append, &load, err) && load.ok;
}

const struct engine_event *event_inbox_next(struct event_inbox *inbox)
{
    return inbox->next < inbox->n_events ? &inbox->events[inbox->next++] : NULL;
}
