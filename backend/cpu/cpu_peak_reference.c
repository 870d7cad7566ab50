/* What the compiler makes of plain C: the limit of the reference kernels, not of the machine. Sums begin with values
 * that it does not know, or it finds what they come to. */
#include "backend/cpu/cpu_peak.h"

#define LANES        32 /* some vectors of any width, all in registers */
#define READ_STREAMS 4

static uint64_t read_memory(const void *data, size_t size)
{
    const uint64_t *words = data;
    size_t stream = size / sizeof(*words) / READ_STREAMS;
    uint64_t acc[READ_STREAMS] = {0};
    for (size_t i = 0; i < stream; i++) {
        for (size_t s = 0; s < READ_STREAMS; s++)
            acc[s] ^= words[s * stream + i];
    }
    return acc[0] ^ acc[1] ^ acc[2] ^ acc[3];
}

static uint64_t multiply_int8(int64_t rounds)
{
    uint32_t acc[LANES], sum = 0;
    uint32_t w = (uint32_t)(rounds & 127); /* no constant: it would become shifts */
    for (uint32_t i = 0; i < LANES; i++)
        acc[i] = i + (uint32_t)rounds;
    for (int64_t r = 0; r < rounds; r++) {
        for (int i = 0; i < LANES; i++)
            acc[i] += (acc[i] & 255) * w;
    }
    for (int i = 0; i < LANES; i++)
        sum ^= acc[i];
    return sum;
}

static uint64_t multiply_f32(int64_t rounds)
{
    float acc[LANES], sum = 0;
    for (int i = 0; i < LANES; i++)
        acc[i] = (float)(rounds + i);
    for (int64_t r = 0; r < rounds; r++) {
        for (int i = 0; i < LANES; i++)
            acc[i] += acc[i] * -0x1p-30f;
    }
    for (int i = 0; i < LANES; i++)
        sum += acc[i];
    return (uint64_t)sum;
}

const struct cpu_peak cpu__peak_reference = {
    .read = read_memory,
    .int8 = {multiply_int8, LANES, "plain C"},
    .int4 = {multiply_int8, LANES, "plain C"},
    .f32 = {multiply_f32, LANES, "plain C"},
};
