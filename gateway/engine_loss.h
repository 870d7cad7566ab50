/* How an engine can be lost, and what follows: one table. Errors of single requests are in base/error.h's; what is here
 * ends the process, and with it every request in flight, which then goes on in the next one (pipeline/recovery.h). */
#ifndef TANDEM_GATEWAY_ENGINE_LOSS_H
#define TANDEM_GATEWAY_ENGINE_LOSS_H

#include <stdbool.h>

/* X(id, name in metrics and logs, 1: another engine is started for what was in flight; 0: it could not run either,
 *   1: the next engine gets less memory) */
#define ENGINE_LOSS_TABLE(X)                                                           \
    X(EXIT, "exit", 1, 0)         /* its process ended by itself */                    \
    X(SIGNAL, "signal", 1, 0)     /* a signal ended it */                              \
    X(MEMORY, "memory", 1, 1)     /* the system ended it for want of memory */         \
    X(STOPPED, "stopped", 1, 0)   /* it did not run any more */                        \
    X(HUNG, "hung", 1, 0)         /* a step did not come to its end */                 \
    X(PROTOCOL, "protocol", 1, 0) /* it sent what makes no sense */                    \
    X(DEVICE, "device", 1, 0)     /* its backend reported what it cannot go on with */ \
    X(START, "start", 0, 0)       /* it could not be started */

enum engine_loss {
#define X(id, name, resumed, shrinks) LOSS_##id,
    ENGINE_LOSS_TABLE(X)
#undef X
        LOSS_COUNT
};

struct engine_loss_info {
    const char *name;
    bool resumed, shrinks;
};
const struct engine_loss_info *engine_loss_info(enum engine_loss loss);

/* What is known when an engine is gone. */
struct engine_end {
    bool was_ready;            /* it had loaded its model */
    bool said_fatal;           /* it sent a FATAL frame before it went */
    bool out_of_memory;        /* the system counts one more process ended for memory */
    int signal;                /* that ended it; 0: it exited */
    enum engine_loss given_up; /* why the gateway ended it; LOSS_COUNT: it did not */
};
enum engine_loss engine_loss_of(const struct engine_end *end);

#endif
