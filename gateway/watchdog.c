#include "gateway/watchdog.h"

#define NS_PER_MS 1000000

void watchdog_start(struct watchdog *w, bool hung, int64_t now_ms)
{
    int doublings = hung ? w->doublings + (w->doublings < WATCHDOG_DOUBLINGS) : 0;
    *w = (struct watchdog){.looked_ms = now_ms, .beat_ms = now_ms, .turned_ms = now_ms, .doublings = doublings};
}

static int64_t patience_ms(const struct watchdog *w, const struct engine_watch *words, int64_t hang_ms)
{
    uint64_t expected_ms = atomic_load(&words->expected_ns) / NS_PER_MS;
    /* An engine that is out of its mind may not have all the time in the world. */
    uint64_t most = (uint64_t)hang_ms * WATCHDOG_PATIENCE;
    expected_ms = expected_ms > most ? most : expected_ms;
    int64_t patience = (int64_t)expected_ms * WATCHDOG_PATIENCE;
    return (patience > hang_ms ? patience : hang_ms) << w->doublings;
}

enum watchdog_verdict watchdog_look(struct watchdog *w, const struct engine_watch *words,
                                    const struct watchdog_limits *limits, int64_t now_ms)
{
    uint64_t heartbeats = atomic_load(&words->heartbeats), turns = atomic_load(&words->turns);
    bool paused = now_ms - w->looked_ms > WATCHDOG_PAUSED_MS;
    if (paused || heartbeats != w->heartbeats) {
        w->beat_ms = now_ms;
    }
    if (paused || turns != w->turns || !atomic_load(&words->busy)) {
        w->turned_ms = now_ms;
    }
    w->heartbeats = heartbeats;
    w->turns = turns;
    w->looked_ms = now_ms;
    if (now_ms - w->beat_ms > limits->stopped_ms) {
        return WATCHDOG_STOPPED;
    }
    return now_ms - w->turned_ms > patience_ms(w, words, limits->hang_ms) ? WATCHDOG_HUNG : WATCHDOG_ALIVE;
}

int64_t watchdog_silence_ms(const struct watchdog *w, enum watchdog_verdict verdict)
{
    return w->looked_ms - (verdict == WATCHDOG_HUNG ? w->turned_ms : w->beat_ms);
}
