/* In which precision a model is best loaded: a pure function of sizes and limits, so that what it decides can be tested
 * and explained. Weights that are quantized already stay as they are. */
#ifndef TANDEM_MODEL_PRECISION_CHOICE_H
#define TANDEM_MODEL_PRECISION_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

struct precision_question {
    /* Bytes of weights: as they are, and in 8 and 4 bits by the rule of quantize_plan.h. */
    uint64_t full, bits8, bits4;
    bool quantized;    /* as they are: they stay */
    const char *stays; /* why they stay though they are not: a sentence; NULL: they are */
    /* Bytes beside them: K and V of the sequences that shall run at once, of one; and the rest of a process. */
    uint64_t kv_wanted, kv_least, other;
    uint64_t memory;         /* for all of this; 0: no limit is known */
    const char *memory_from; /* "--memory", "this machine": for the sentence */
    double bandwidth;        /* bytes/s at which weights are read; 0: not known, and speed does not count */
    double read_share;       /* of the weights, that one token reads: less than 1 with experts; 0: all */
};

struct precision_answer {
    int bits;             /* 0: as they are; 8 or 4 */
    bool fits;            /* false: not even 4 bits do, with one sequence */
    uint64_t weights, kv; /* bytes of both with this answer; kv: wanted, or as much as fits, at least kv_least */
    char why[240];        /* a sentence */
};

/* The first of full, 8 and 4 bits that fits with all sequences wanted and is expected to decode PRECISION_MIN_RATE
 * tokens a second; of those that fit and are all slower, the last. Where none fits so, the first that fits with one. */
#define PRECISION_MIN_RATE 5.0
struct precision_answer precision_choose(const struct precision_question *q);

#endif
