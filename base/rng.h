/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 * No hidden state: the same seed and counter give the same number, whatever was drawn before. Any thread. */
#ifndef TANDEM_BASE_RNG_H
#define TANDEM_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

void philox4x32_10(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

enum rng_purpose { RNG_SAMPLE = 0, RNG_XTC = 1 };

/* A uniform in [0, 1) with 53 bits: key = seed, counter = (output index, choice index, prompt index, purpose). */
double rng_uniform(uint64_t seed, uint32_t output_index, uint32_t choice, uint32_t prompt, enum rng_purpose purpose);

/* From the system; for seeds and ids that nobody gave. A system call: at most 256 bytes at once. */
void rng_entropy(void *out, size_t size);
uint64_t rng_entropy64(void);

#endif
