/* Vectors of decoder models (tests/data/parity/NAME.vec, made by tools/parity/model_vectors.py, which describes the
 * lines) and comparisons with them. Failures end the test, with the file's name. */
#ifndef TANDEM_TESTS_SUPPORT_MODEL_VECTORS_H
#define TANDEM_TESTS_SUPPORT_MODEL_VECTORS_H

#include "base/buf.h"
#include "tests/support/model_driver.h"
#include "tests/support/random_folder.h"

#define MODEL_VECTORS_TOP     64
#define MODEL_VECTORS_MAX_AT  64
#define MODEL_VECTORS_PROMPTS 16

struct logits_at {
    int32_t pos;
    float lse;     /* log-sum-exp of all logits */
    int32_t *ids;  /* [MODEL_VECTORS_TOP] the largest, descending */
    float *values; /* [MODEL_VECTORS_TOP] */
};

struct greedy_text {
    int n; /* tokens of the output that are to be equal */
    int32_t *prompt, *output;
    int n_prompt, n_output;
};

struct model_vectors {
    char name[128];        /* of the random model, or the real model's file */
    char rope_scaling[64]; /* --rope-scaling instead of rope_freqs, or "" */
    float *rope_freqs;     /* [n_rope_freqs] the tensor of that name, or NULL */
    size_t n_rope_freqs;
    double std; /* standard deviation of the logits */
    int32_t *text;
    int n_text, n_at, n_greedy;
    struct logits_at at[MODEL_VECTORS_MAX_AT];
    struct greedy_text greedy[MODEL_VECTORS_PROMPTS];
};

#define MODEL_VECTORS_MAX_RANDOM 64
/* Names of the random models: between them all families and all options. NULL behind the last. */
const char *model_vectors_random(size_t i);

void model_vectors_load(struct model_vectors *v, const char *name); /* without ".vec" */
void model_vectors_release(struct model_vectors *v);

/* The random model NAME.json as a file in memory; *bytes must outlive it. */
struct model_file *model_vectors_file(const struct model_vectors *v, struct buf *bytes);

/* The same as a folder: in memory too. experts: the layout of experts, or NULL; wrapped: see random_folder.h. *folder
 * must outlive the file; random_folder_free. */
struct model_file *model_vectors_folder(const struct model_vectors *v, const char *experts, bool wrapped,
                                        struct random_folder **folder);

/* Without the tensors of one layer whose names begin so: "attn_k". */
struct model_file *model_vectors_file_without(const struct model_vectors *v, int layer, const char *tensors,
                                              struct buf *bytes);

/* Both with their experts in MXFP4 instead, the folder's as blocks and scales; the vectors are of other values. */
struct model_file *model_vectors_mxfp4_file(const struct model_vectors *v, struct buf *bytes);
struct model_file *model_vectors_mxfp4_folder(const struct model_vectors *v, struct random_folder **folder);

/* The largest deviation of the stored logits and log-sum-exps, in standard deviations of the logits; infinite when a
 * number is not finite. The text is prefilled `chunk` tokens a step. */
double model_vectors_deviation(const struct model_vectors *v, struct model_driver *d, int chunk);

/* Greedy continuations of all prompts in one batch (the driver has a sequence for each): how many are equal. */
int model_vectors_greedy(const struct model_vectors *v, struct model_driver *d, int chunk);

int model_vectors_max_positions(const struct model_vectors *v); /* that text or prompts with their outputs take */

#endif
