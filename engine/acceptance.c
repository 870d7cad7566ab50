#include "engine/acceptance.h"

#define ACCEPTANCE_PRIOR  4.0f  /* guesses: a few failures are enough to lower a share, one is not */
#define ACCEPTANCE_MEMORY 32.0f /* guesses of a kind after which an old one counts a third: some lines of code */

double acceptance_of(const struct acceptance *a, const float *prior, uint32_t kind)
{
    return (double)((a->held[kind] + prior[kind] * ACCEPTANCE_PRIOR) / (a->tried[kind] + ACCEPTANCE_PRIOR));
}

void acceptance_note(struct acceptance *a, uint32_t kind, bool held)
{
    float keep = 1 - 1 / ACCEPTANCE_MEMORY;
    a->tried[kind] = a->tried[kind] * keep + 1;
    a->held[kind] = a->held[kind] * keep + (held ? 1.0f : 0.0f);
}
