/* Passes over whole rows, in vectors of 128 bits, which every baseline has. Blocks that are not full are padded with
 * -inf in a copy, so that one body serves all. */
#include "backend/cpu/cpu_sampler_internal.h"

#include <float.h>
#include <math.h>

typedef float f32x4 __attribute__((vector_size(16)));
typedef double f64x4 __attribute__((vector_size(32)));
typedef int32_t i32x4 __attribute__((vector_size(16)));

static f32x4 load4(const float *p)
{
    f32x4 v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Four values as two pairs. */
struct pairs {
    f64x2 low, high;
};

static struct pairs load4_f64(const float *p)
{
    f64x4 wide = __builtin_convertvector(load4(p), f64x4);
    struct pairs out;
    memcpy(&out, &wide, sizeof out);
    return out;
}

static f32x4 max4(f32x4 a, f32x4 b)
{
    i32x4 above = a > b;
    return (f32x4)(((i32x4)a & above) | ((i32x4)b & ~above));
}

static float max1(float a, float b)
{
    return a > b ? a : b;
}

/* Block b of the row, values under low and past its end as -inf. */
static const float *block_of(const struct logits *l, int b, float low, float buffer[SCAN_BLOCK])
{
    const float *x = l->x + (size_t)b * SCAN_BLOCK;
    int left = l->n - b * SCAN_BLOCK;
    if (left >= SCAN_BLOCK && low <= -FLT_MAX)
        return x;
    for (int i = 0; i < SCAN_BLOCK; i++)
        buffer[i] = i < left && !(x[i] < low) ? x[i] : -INFINITY; /* a NaN stays */
    return buffer;
}

static float scan_block(const float *x, i32x4 *usable)
{
    const f32x4 largest = {FLT_MAX, FLT_MAX, FLT_MAX, FLT_MAX};
    f32x4 m0 = load4(x), m1 = load4(x + 4), m2 = load4(x + 8), m3 = load4(x + 12);
    i32x4 good = (m0 <= largest) & (m1 <= largest) & (m2 <= largest) & (m3 <= largest);
    for (int i = 16; i < SCAN_BLOCK; i += 16) {
        f32x4 v0 = load4(x + i), v1 = load4(x + i + 4), v2 = load4(x + i + 8), v3 = load4(x + i + 12);
        good &= (v0 <= largest) & (v1 <= largest) & (v2 <= largest) & (v3 <= largest);
        m0 = max4(m0, v0);
        m1 = max4(m1, v1);
        m2 = max4(m2, v2);
        m3 = max4(m3, v3);
    }
    *usable &= good;
    f32x4 m = max4(max4(m0, m1), max4(m2, m3));
    return max1(max1(m[0], m[1]), max1(m[2], m[3]));
}

bool cpu_sampler__scan(struct logits *l)
{
    float buffer[SCAN_BLOCK], max = -INFINITY;
    i32x4 usable = {-1, -1, -1, -1};
    l->n_blocks = (l->n + SCAN_BLOCK - 1) / SCAN_BLOCK;
    for (int b = 0; b < l->n_blocks; b++) {
        float m = scan_block(block_of(l, b, -INFINITY, buffer), &usable);
        l->block_max[b] = m;
        max = max1(max, m);
    }
    l->max = max;
    return (usable[0] & usable[1] & usable[2] & usable[3]) && max > -INFINITY;
}

int32_t cpu_sampler__argmax(const struct logits *l)
{
    int b = 0;
    while (b < l->n_blocks - 1 && l->block_max[b] != l->max)
        b++;
    int id = b * SCAN_BLOCK;
    while (id < l->n - 1 && l->x[id] != l->max)
        id++;
    return id;
}

int64_t cpu_sampler__total(const struct logits *l, const struct scale *s, float low)
{
    const f64x2 max = {s->max, s->max}, factor = {s->factor, s->factor};
    float buffer[SCAN_BLOCK];
    i64x2 sum = {0, 0};
    for (int b = 0; b < l->n_blocks; b++) {
        if (l->block_max[b] < low || scale_of(s, l->block_max[b]) < -CPU_WEIGHT_DEPTH)
            continue;
        const float *x = block_of(l, b, low, buffer);
        for (int i = 0; i < SCAN_BLOCK; i += 4) {
            struct pairs v = load4_f64(x + i);
            sum += cpu_weight2((v.low - max) * factor);
            sum += cpu_weight2((v.high - max) * factor);
        }
    }
    return sum[0] + sum[1];
}

/* How many of x[0 .. n) exceed v, or are equal to it when or_equal. */
static int32_t count_above(const float *x, int n, float v, bool or_equal)
{
    const f32x4 limit = {v, v, v, v};
    i32x4 count = {0, 0, 0, 0}, equal = {0, 0, 0, 0};
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        f32x4 x4 = load4(x + i);
        count -= (i32x4)(x4 > limit);
        equal -= (i32x4)(x4 == limit);
    }
    int32_t total = count[0] + count[1] + count[2] + count[3];
    if (or_equal)
        total += equal[0] + equal[1] + equal[2] + equal[3];
    for (; i < n; i++)
        total += x[i] > v || (or_equal && x[i] == v);
    return total;
}

int32_t cpu_sampler__rank(const struct logits *l, int32_t id)
{
    float v = l->x[id];
    return 1 + count_above(l->x, id, v, true) + count_above(l->x + id, l->n - id, v, false);
}

/* Of the finite values: their sum, how many, the sum of squared differences from a centre. */
struct moments {
    f64x2 value, count, square;
};

static void add_finite(struct moments *m, f64x2 v, double centre)
{
    const f64x2 least = {-DBL_MAX, -DBL_MAX}, one = {1.0, 1.0};
    i64x2 finite = v >= least;
    f64x2 off = v - centre;
    m->value += (f64x2)((i64x2)v & finite);
    m->count += (f64x2)((i64x2)one & finite);
    m->square += (f64x2)((i64x2)(off * off) & finite);
}

static struct moments sum_finite(const struct logits *l, double centre)
{
    struct moments low = {{0, 0}, {0, 0}, {0, 0}}, high = low;
    float buffer[SCAN_BLOCK];
    for (int b = 0; b < l->n_blocks; b++) {
        const float *x = block_of(l, b, -INFINITY, buffer);
        for (int i = 0; i < SCAN_BLOCK; i += 4) {
            struct pairs v = load4_f64(x + i);
            add_finite(&low, v.low, centre);
            add_finite(&high, v.high, centre);
        }
    }
    return (struct moments){low.value + high.value, low.count + high.count, low.square + high.square};
}

void cpu_sampler__moments(const struct logits *l, double *mean, double *deviation)
{
    struct moments m = sum_finite(l, 0.0);
    double n = m.count[0] + m.count[1];
    *mean = (m.value[0] + m.value[1]) / n;
    m = sum_finite(l, *mean);
    *deviation = sqrt((m.square[0] + m.square[1]) / n); /* correctly rounded everywhere, unlike the rest of libm */
}
