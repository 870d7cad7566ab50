/* Sets of numbers from 0 to n - 1 as bits: number i is bit i % 32 of word i / 32. Masks of tokens are such sets. */
#ifndef TANDEM_BASE_BITS_H
#define TANDEM_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline size_t bits_words(size_t n)
{
    return (n + 31) / 32;
}

static inline bool bits_have(const uint32_t *bits, int32_t i)
{
    return bits[i / 32] >> (i % 32) & 1;
}

static inline void bits_add(uint32_t *bits, int32_t i)
{
    bits[i / 32] |= UINT32_C(1) << (i % 32);
}

static inline void bits_remove(uint32_t *bits, int32_t i)
{
    bits[i / 32] &= ~(UINT32_C(1) << (i % 32));
}

#endif
