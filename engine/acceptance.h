/* How often guesses came true, by kind of guess: a share that forgets, so that it follows a text that changes its
 * character. Before anything is known, and after long silence, a kind's share is what its prior says. Plain values. */
#ifndef TANDEM_ENGINE_ACCEPTANCE_H
#define TANDEM_ENGINE_ACCEPTANCE_H

#include <stdbool.h>
#include <stdint.h>

#define ACCEPTANCE_KINDS 16

struct acceptance {
    float tried[ACCEPTANCE_KINDS], held[ACCEPTANCE_KINDS]; /* decayed counts */
};

/* prior: [ACCEPTANCE_KINDS] shares, which count like ACCEPTANCE_PRIOR guesses. */
double acceptance_of(const struct acceptance *a, const float *prior, uint32_t kind);
void acceptance_note(struct acceptance *a, uint32_t kind, bool held);

#endif
