/* What `tandem engine` is told about its model: its command line, made of a model's options by one table. What every
 * engine inherits is engine_launch.h's. */
#ifndef TANDEM_GATEWAY_ENGINE_ARGUMENTS_H
#define TANDEM_GATEWAY_ENGINE_ARGUMENTS_H

#include "gateway/engine_launch.h"
#include "gateway/gateway.h"

struct engine_arguments {
    const char *items[LAUNCH_MAX_ARGUMENTS]; /* [n] of the options, which outlive this, and of the numbers below */
    int n;
    char numbers[16][24]; /* private, like what follows */
    int n_numbers;
    bool full;
};

/* Fills *a, which is not to be moved; max_waiting: jobs that the engine queues. INVALID: too many. */
NODISCARD bool engine_arguments_fill(struct engine_arguments *a, const struct served_model_options *options,
                                     uint32_t max_waiting, struct error *err);

#endif
