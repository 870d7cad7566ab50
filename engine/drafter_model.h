/* A drafter that asks a smaller model: it computes the tokens that were accepted since, then guesses one token after
 * another for all its sequences at once, with each request's parameters and the very random numbers that the real
 * sample will be drawn with, so that two models that agree on a distribution mostly agree on the draw.
 *
 *     tokens          | prompt ... output ... last | guess | guess | guess |
 *     computed by it  |=======================|                              before
 *                     |====================================|                 after: the last guess is not fed
 *
 * Its K and V lie in a pool of its own, which is all the memory that grows with sequences; a sequence for which it has
 * no pages gets no guesses. A long text is caught up with a piece per step. What a sequence's guesses were worth is
 * followed, and where they do not pay it rests, for longer each time. */
#ifndef TANDEM_ENGINE_DRAFTER_MODEL_H
#define TANDEM_ENGINE_DRAFTER_MODEL_H

#include "engine/drafter.h"
#include "engine/executor.h"

struct model_drafter_options {
    struct executor *executor;   /* taken, also when creation fails */
    struct kv_geometry geometry; /* of its pool */
    uint32_t page_tokens, n_context, n_vocab;
    uint32_t max_sequences, max_rows; /* of a step */
    uint32_t n_target_vocab;          /* of the model that it guesses for */
    void (*release)(void *resources); /* what the executor stands on, after it is freed; may be NULL */
    void *resources;
};
NODISCARD struct drafter *model_drafter_create(const struct model_drafter_options *options, struct error *err);

/* Recounts its pages (tests). */
NODISCARD bool model_drafter_check(const struct drafter *d, struct error *err);

#endif
