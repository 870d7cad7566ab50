/* Whether an engine still lives, from the words it writes in shared memory (wire/engine_watch.h). Two signals:
 *
 *   stopped   its heartbeat has not changed for stopped_ms: the process does not run at all (SIGSTOP, debugger)
 *   hung      it is busy, and its loop has made no turn for hang_ms, or for WATCHDOG_PATIENCE times what it
 *             expected of the step, whichever is longer: a kernel or a driver does not come back. Each engine in a
 *             row that hung before it had given a token may have been slow only: the next one gets twice the time
 *
 * What counts is when a word was last seen to change, by the gateway's clock. When the gateway itself did not run
 * (a laptop slept, it was stopped), no engine could have been seen to live: all is forgiven and counted anew.
 * A plain value, pure: time comes from the caller. */
#ifndef TANDEM_GATEWAY_WATCHDOG_H
#define TANDEM_GATEWAY_WATCHDOG_H

#include "wire/engine_watch.h"

#include <stdbool.h>

#define WATCHDOG_POLL_MS    100  /* how often to look */
#define WATCHDOG_STOPPED_MS 1000 /* defaults: ten beats, */
#define WATCHDOG_HUNG_MS    10000
#define WATCHDOG_PATIENCE   20
#define WATCHDOG_DOUBLINGS  4   /* of the time, at most */
#define WATCHDOG_PAUSED_MS  500 /* since the last look: the gateway itself was paused */

struct watchdog_limits {
    int64_t stopped_ms, hang_ms;
};

enum watchdog_verdict { WATCHDOG_ALIVE, WATCHDOG_STOPPED, WATCHDOG_HUNG };

struct watchdog {
    int64_t looked_ms, beat_ms, turned_ms; /* when it was last looked at; when the words were seen to change */
    uint64_t heartbeats, turns;
    int doublings;
};

/* Of a new engine. hung: the one before it hung, and had not given a token. */
void watchdog_start(struct watchdog *w, bool hung, int64_t now_ms);
enum watchdog_verdict watchdog_look(struct watchdog *w, const struct engine_watch *words,
                                    const struct watchdog_limits *limits, int64_t now_ms);
/* How long the word that the verdict is about has not changed. */
int64_t watchdog_silence_ms(const struct watchdog *w, enum watchdog_verdict verdict);

#endif
