/* Checks of a real model, which has vectors NAME.vec and whose file is among the models that tests use. They take
 * minutes of processor time each. */
#ifndef TANDEM_TESTS_SUPPORT_MODEL_REAL_H
#define TANDEM_TESTS_SUPPORT_MODEL_REAL_H

#include "backend/backend.h"

/* Runs the checks as tests; the exit status of the program: 77 when the model's file is not there. */
int real_model_main(const char *name);

/* Over the vectors' text: reference kernels with f32 KV against transformers (every stored logit within 1e-3 of the
 * logits' standard deviation), and every other kernel set that this processor has, with f16 KV, against the reference
 * kernels (mean KL divergence below 0.005, the same best token at 97% of the positions or more). */
void real_model_check_logits(const char *name);

/* Greedy text of reference kernels with f32 KV: equal to transformers for all tokens of all prompts. */
void real_model_check_greedy(const char *name);

/* Reference kernels with q8 KV beside those with f16 KV, over 256 tokens: mean KL divergence below 0.002. (Others round
 * activations to int8; where a rounding falls otherwise, SmolLM2 differs by more than the type of KV makes out.) */
void real_model_check_q8(const char *name);

/* The best kernels of this processor with this type of KV: logits have the same bits however the text is cut into
 * steps, with one thread or with all. */
void real_model_check_chunks(const char *name, enum kv_type type);

#endif
