/* How much there is to do for a model, as its pipeline knows it: without asking the engine. */
#ifndef TANDEM_PIPELINE_LOAD_H
#define TANDEM_PIPELINE_LOAD_H

#include "pipeline/pipeline.h"

struct pipeline_load {
    uint64_t jobs_waiting;      /* prompts that no engine has begun with */
    uint64_t jobs_before;       /* of them: not less urgent than `priority` */
    double tokens_before;       /* theirs: of the prompts, and expected of the answers */
    uint64_t sequences_running; /* choices of the other prompts that have not ended */
};

/* What nobody waits for (warm prompts, rows of batches, which give way in the engine) is left out. expected_output:
 * tokens of the answers to one prompt. */
struct pipeline_load pipeline_load(struct pipeline *p, int32_t priority, double expected_output);

#endif
