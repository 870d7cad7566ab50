/* How much of a client's prediction an answer took over, for its usage: the length of the longest common subsequence of
 * their tokens, kept up to date token by token. So a prediction that was right but for an edit counts but for the edit,
 * and the figure depends on what the answer is, not on how it was computed. A token costs time linear in the
 * prediction: one comparison per token of it. */
#ifndef TANDEM_PIPELINE_PREDICTION_H
#define TANDEM_PIPELINE_PREDICTION_H

#include "base/error.h"

#include <stdint.h>

struct prediction {
    const int32_t *ids; /* [n] the caller's */
    uint32_t n;
    uint64_t *row; /* [ceil(n / 64)] see prediction.c */
    uint32_t n_accepted;
};

/* False: no memory. n 0 takes none. */
NODISCARD bool prediction_init(struct prediction *p, const int32_t *ids, uint32_t n);
void prediction_release(struct prediction *p);
void prediction_add(struct prediction *p, int32_t id); /* the answer's next token */

#endif
