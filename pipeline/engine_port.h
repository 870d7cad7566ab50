/* Where jobs go and events come from, whichever process the engine lives in: gateway/ has one over frames, lib/ one in
 * the same process. None of the calls blocks. One thread (the loop's) calls everything here. */
#ifndef TANDEM_PIPELINE_ENGINE_PORT_H
#define TANDEM_PIPELINE_ENGINE_PORT_H

#include "wire/job.h"

struct engine_port;

struct engine_port_ops {
    /* Takes a copy. Fails with OVERLOADED, UNAVAILABLE (the engine loads or is down) or what engine_submit says, at
     * once or later as a FAILED event. */
    bool (*submit)(struct engine_port *p, const struct job *job, struct error *err);
    void (*cancel)(struct engine_port *p, uint64_t job, uint32_t choice); /* WIRE_ALL_CHOICES: all */
    const struct engine_event *(*next)(struct engine_port *p);            /* NULL: none; valid until the next call */
    const struct engine_info *(*info)(const struct engine_port *p);       /* NULL until the model is loaded */
    /* The engine's events make no sense: it is ended, and ENGINE_LOST follows. NULL: it cannot be replaced. */
    void (*distrust)(struct engine_port *p, const struct error *why);
};

struct engine_port { /* first member of every implementation */
    const struct engine_port_ops *ops;
    void (*wake)(void *arg); /* called on the loop's thread when next has something; set by the pipeline */
    void *wake_arg;
};

#endif
