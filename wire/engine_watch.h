/* What an engine says of itself while it cannot speak: words in memory shared with the gateway, written by the engine,
 * read by the gateway's watchdog (gateway/watchdog.h). A word tells something by changing, or by being zero; no clock
 * is compared across processes.
 *
 * An engine may be anything by the time it is read, so nothing here is believed further than that it is killed for. */
#ifndef TANDEM_WIRE_ENGINE_WATCH_H
#define TANDEM_WIRE_ENGINE_WATCH_H

#include <stdatomic.h>
#include <stdint.h>

#define ENGINE_HEARTBEAT_MS 100

struct engine_watch {
    _Atomic uint64_t heartbeats;  /* +1 every ENGINE_HEARTBEAT_MS, by a thread that does nothing else */
    _Atomic uint64_t turns;       /* +1 per turn of the engine's loop, each at most one step */
    _Atomic uint64_t busy;        /* 1 from the begin of a turn until the loop waits for work; 0 while it loads */
    _Atomic uint64_t expected_ns; /* what the step of this turn is expected to take; 0: nobody knows */
};

#endif
