/* Bit-parallel longest common subsequence (Hyyro, "Bit-parallel LCS-length computation revisited", 2004): bit i of the
 * row is 0 where the LCS of the answer so far with the first i + 1 tokens of the prediction is one longer than with the
 * first i. With M the bits of the tokens equal to the new one, row = (row + (row & M)) | (row & ~M); the zeros are the
 * length. Words carry into each other. */
#include "pipeline/prediction.h"

#include <stdlib.h>
#include <string.h>

#define WORD 64

static uint32_t n_words(const struct prediction *p)
{
    return (p->n + WORD - 1) / WORD;
}

bool prediction_init(struct prediction *p, const int32_t *ids, uint32_t n)
{
    *p = (struct prediction){.ids = ids, .n = n};
    if (n == 0) {
        return true;
    }
    p->row = malloc(n_words(p) * sizeof *p->row);
    if (!p->row) {
        return false;
    }
    memset(p->row, 0xff, n_words(p) * sizeof *p->row);
    return true;
}

void prediction_release(struct prediction *p)
{
    free(p->row);
    *p = (struct prediction){0};
}

static uint64_t equal_to(const struct prediction *p, uint32_t word, int32_t id)
{
    uint32_t first = word * WORD, n = p->n - first < WORD ? p->n - first : WORD;
    uint64_t bits = 0;
    for (uint32_t i = 0; i < n; i++) {
        bits |= (uint64_t)(p->ids[first + i] == id) << i;
    }
    return bits;
}

static uint32_t count_ones(uint64_t v)
{
    uint32_t n = 0;
    for (; v; v &= v - 1) {
        n++;
    }
    return n;
}

void prediction_add(struct prediction *p, int32_t id)
{
    uint64_t carry = 0;
    for (uint32_t w = 0; w < n_words(p); w++) {
        uint64_t row = p->row[w], equal = row & equal_to(p, w, id);
        uint64_t sum = row + equal, with_carry = sum + carry;
        carry = (sum < row) | (with_carry < sum);
        with_carry |= row & ~equal;
        /* The last word has bits beyond the prediction: they are never equal, so they stay 1. */
        p->n_accepted += count_ones(row & ~with_carry);
        p->n_accepted -= count_ones(~row & with_carry);
        p->row[w] = with_carry;
    }
}
