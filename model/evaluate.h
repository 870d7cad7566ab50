/* How well a model predicts a text, and how far its predictions are from those of another precision of it.
 *
 * The text is read in windows; of each, the tokens that no window before it has scored are scored with all before them
 * in the window as context (the first token of all has none and is not). So a stride of the whole window gives disjoint
 * windows, a smaller one gives each token at least window - stride tokens of context. */
#ifndef TANDEM_MODEL_EVALUATE_H
#define TANDEM_MODEL_EVALUATE_H

#include "model/text_run.h"

struct evaluate_options {
    int window, stride;                           /* tokens; 2 <= window, 1 <= stride < window or equal */
    int32_t bos;                                  /* put before each window, and part of it; -1: none */
    void (*progress)(void *arg, double fraction); /* may be NULL */
    void *arg;
};

struct evaluation {
    size_t n_tokens; /* scored */
    size_t n_windows;
    double loss;       /* mean of -log p, natural */
    double perplexity; /* e^loss */
    /* Against another one, over the same tokens: of KL(the other's distribution, this one's) */
    bool compared;
    double other_loss, other_perplexity;
    double kl_mean, kl_p99, kl_max;
    double same_top; /* share of tokens where both have the same most likely next one */
};

/* other: NULL, or one with the same vocabulary. INVALID: the text has fewer than two tokens; the vocabularies differ.
 * Non-finite logits are an error (INTERNAL). */
NODISCARD bool evaluate_text(struct text_run *r, struct text_run *other, const int32_t *ids, size_t n,
                             const struct evaluate_options *o, struct evaluation *out, struct error *err);

#endif
