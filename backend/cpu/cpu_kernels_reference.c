/* The reference kernels: plain C, f32 activations, weights dequantized one row at a time. What the others are
 * measured against, so written for plainness; sums have a few partial sums in a fixed order, which is both more precise
 * than one and quick enough for a small model. */
#include "backend/cpu/cpu_kernels.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define LANES 16

static float sum_lanes(const float *lanes)
{
    float pairs[LANES / 2];
    for (int i = 0; i < LANES / 2; i++)
        pairs[i] = lanes[i] + lanes[i + LANES / 2];
    float sum = 0;
    for (int i = 0; i < LANES / 2; i++)
        sum += pairs[i];
    return sum;
}

static float dot(const float *restrict a, const float *restrict b, int n)
{
    float lanes[LANES] = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++)
            lanes[l] += a[i + l] * b[i + l];
    }
    for (int l = 0; i + l < n; l++)
        lanes[l] += a[i + l] * b[i + l];
    return sum_lanes(lanes);
}

static void linear(const struct linear_tile *tile)
{
    size_t row_size = 0;
    if (!dtype_size(tile->type, (uint64_t)tile->n_in, &row_size))
        return;
    for (int n = 0; n < tile->n_rows; n++) {
        dtype_to_f32(tile->type, tile->weights + (size_t)(tile->first_row + n) * row_size, (size_t)tile->n_in,
                     tile->scratch);
        float bias = tile->bias ? tile->bias[n] : 0;
        for (int t = 0; t < tile->n_t; t++) {
            float sum = dot(tile->scratch, tile->x + (size_t)t * (size_t)tile->n_in, tile->n_in);
            tile->out[(size_t)t * tile->out_stride + (size_t)n] = tile->bias ? sum + bias : sum;
        }
    }
}

static void adapt(const struct adapt_tile *tile)
{
    for (int t = 0; t < tile->n_t; t++) {
        const float *u = tile->u + (size_t)t * (size_t)tile->rank;
        float *out = tile->out + (size_t)(tile->rows[t] - tile->first_row) * tile->out_stride;
        for (int i = 0; i < tile->n; i++) {
            const uint16_t *b =
                tile->b + (size_t)(i / ADAPT_PANEL) * (size_t)tile->rank * ADAPT_PANEL + i % ADAPT_PANEL;
            float sum = 0;
            for (int r = 0; r < tile->rank; r++)
                sum += u[r] * f16_to_f32(b[(size_t)r * ADAPT_PANEL]);
            out[i] += sum;
        }
    }
}

static void quantize_group(const float *x, struct act_group *out)
{
    float max = 0;
    int sums[2] = {0, 0};
    memset(out, 0, sizeof(*out));
    for (int i = 0; i < 32; i++) {
        if (!isfinite(x[i])) {
            out->d = out->sum = out->sum16[0] = out->sum16[1] = NAN;
            return;
        }
        max = fmaxf(max, fabsf(x[i]));
    }
    if (max < ACT_TINY)
        return;
    float inverse = 127 / max;
    out->d = max / 127;
    for (int i = 0; i < 32; i++) {
        out->q[i] = (int8_t)rintf(x[i] * inverse);
        sums[i / 16] += out->q[i];
    }
    out->sum = out->d * (float)(sums[0] + sums[1]);
    out->minus_q = -(sums[0] + sums[1]);
    for (int h = 0; h < 2; h++) {
        out->sum16[h] = out->d * (float)sums[h];
        out->minus_q16[h] = -sums[h];
    }
}

static void quantize(const float *x, int n, struct act_group *out)
{
    for (int g = 0; g < n / 32; g++)
        quantize_group(x + 32 * g, &out[g]);
}

/* ---- norms and elementwise ---- */

static void norm(const float *x, int n, const struct norm_params *p, const float *w, const float *b, float *y)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++)
        sum += (double)x[i];
    double mean = p->kind == NORM_LAYER ? sum / n : 0;
    for (int i = 0; i < n; i++)
        squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    float scale = (float)(1 / sqrt(squares / n + (double)p->eps));
    for (int i = 0; i < n; i++) {
        float v = (x[i] - (float)mean) * scale;
        v = w ? v * (w[i] + p->weight_offset) : v;
        y[i] = b ? v + b[i] : v;
    }
}

static void add(float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        a[i] += b[i];
}

static void mul(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = a[i] * b[i];
}

static void convolve(const struct conv_row *row)
{
    for (size_t i = 0; i < row->n; i++) {
        float sum = 0;
        for (int j = 0; j < row->n_taps; j++)
            sum += row->x[j] ? row->taps[(size_t)j * row->taps_stride + i] * row->x[j][i] : 0;
        row->y[i] = row->gate ? row->gate[i] * sum : sum;
    }
}

static void delta_column(const struct delta_columns *c, const float *state, size_t t, size_t j)
{
    const float *q = c->q + t * c->q_stride, *k = c->k + t * c->q_stride;
    float decay = c->decay[t * c->gate_stride], beta = c->beta[t * c->gate_stride], known = 0, out = 0;
    size_t n = (size_t)c->k_dim, width = (size_t)c->width;
    for (size_t i = 0; i < n; i++)
        known += k[i] * state[i * width + j];
    float by = beta * (c->v[t * c->v_stride + j] - decay * known);
    for (size_t i = 0; i < n; i++) {
        float s = decay * state[i * width + j] + k[i] * by;
        c->to[i * width + j] = s;
        out += q[i] * s;
    }
    c->out[t * c->out_stride + j] = out;
}

static void delta(const struct delta_columns *c)
{
    for (size_t t = 0; t < (size_t)c->n; t++) {
        for (size_t j = 0; j < (size_t)c->width; j++)
            delta_column(c, t == 0 ? c->from : c->to, t, j);
    }
}

static void scale(float *a, float factor, size_t n)
{
    for (size_t i = 0; i < n; i++)
        a[i] *= factor;
}

static void softcap(float *a, float cap, size_t n)
{
    for (size_t i = 0; i < n; i++)
        a[i] = cap * tanhf(a[i] / cap);
}

static float activation(enum activation act, float x)
{
    switch (act) {
    case ACT_SILU:
        return x / (1 + expf(-x));
    case ACT_GELU:
        return 0.5f * x * (1 + erff(x * 0.70710678118654752f));
    case ACT_GELU_TANH:
        return 0.5f * x * (1 + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case ACT_RELU:
        return x > 0 || isnan(x) ? x : 0;
    case ACT_RELU2:
        return x > 0 || isnan(x) ? x * x : 0;
    case ACT_CLAMPED_SWIGLU:
        break; /* of two values: see activate_mul */
    }
    assert(!"an activation that does not exist");
    return 0;
}

static void activate(float *a, enum activation act, size_t n)
{
    for (size_t i = 0; i < n; i++)
        a[i] = activation(act, a[i]);
}

/* Comparisons are such that a NaN stays one. */
static float clamped_swiglu(float gate, float up)
{
    float g = gate > SWIGLU_LIMIT ? SWIGLU_LIMIT : gate;
    float u = up > SWIGLU_LIMIT ? SWIGLU_LIMIT : up < -SWIGLU_LIMIT ? -SWIGLU_LIMIT : up;
    return g / (1 + expf(-SWIGLU_ALPHA * g)) * (u + 1);
}

static void activate_mul(float *a, const float *b, enum activation act, size_t n)
{
    for (size_t i = 0; act == ACT_CLAMPED_SWIGLU && i < n; i++)
        a[i] = clamped_swiglu(a[i], b[i]);
    if (act == ACT_CLAMPED_SWIGLU)
        return;
    for (size_t i = 0; i < n; i++)
        a[i] = activation(act, a[i]) * b[i];
}

static void rope(float *head, const float *cosines, const float *sines, enum rope_kind kind, int rot_dim)
{
    int half = rot_dim / 2;
    for (int i = 0; i < half; i++) {
        float *a = kind == ROPE_NEOX ? head + i : head + 2 * i;
        float *b = kind == ROPE_NEOX ? head + i + half : head + 2 * i + 1;
        float x = *a, y = *b;
        *a = x * cosines[i] - y * sines[i];
        *b = y * cosines[i] + x * sines[i];
    }
}

/* ---- attention ---- */

/* Elements [from, end) of row `row` of a matrix with n columns: rows of elements; KV_Q8: rows of pairs of codes. */
static void kv_row(enum kv_type type, const void *p, int row, int n, int from, int end, float *out)
{
    size_t at = (size_t)row * (size_t)n + (size_t)from;
    const int8_t *codes = (const int8_t *)p + (size_t)(row / 2) * (size_t)n * 2 + (size_t)(row % 2);
    if (type == KV_F32)
        memcpy(out, (const float *)p + at, (size_t)(end - from) * sizeof(*out));
    else if (type == KV_F16)
        dtype_to_f32(DTYPE_F16, (const uint16_t *)p + at, (size_t)(end - from), out);
    else
        for (int i = from; i < end; i++)
            out[i - from] = codes[2 * (size_t)i];
}

/* Element d of keys [first, end). */
static void key_row(const struct attention_page *p, int d, int first, int end, float *keys)
{
    kv_row(p->type, p->k, d, CPU_PAGE_TOKENS, first, end, keys);
    if (p->type != KV_Q8)
        return;
    const uint16_t *scales = p->k_scales + d / KV_GROUP * CPU_PAGE_TOKENS;
    float offset = f16_to_f32(p->k_offsets[d]);
    for (int j = first; j < end; j++)
        keys[j - first] = keys[j - first] * f16_to_f32(scales[j]) + offset;
}

static void scores(const struct attention_page *p, const float *q, int first, int end, float *s)
{
    float keys[CPU_PAGE_TOKENS];
    memset(s, 0, CPU_PAGE_TOKENS * sizeof(*s));
    for (int d = 0; d < p->k_dim; d++) {
        key_row(p, d, first, end, keys);
        for (int j = first; j < end; j++)
            s[j] += q[d] * keys[j - first];
    }
    if (p->softcap > 0)
        softcap(s + first, p->softcap, (size_t)(end - first));
}

/* acc += weight * the value of key j */
static void add_value(const struct attention_page *p, int j, float weight, float *acc)
{
    float value[KV_GROUP];
    for (int from = 0; from < p->v_dim; from += KV_GROUP) {
        int n = p->v_dim - from < KV_GROUP ? p->v_dim - from : KV_GROUP;
        kv_row(p->type, p->v, j, p->v_dim, from, from + n, value);
        if (p->type == KV_Q8)
            scale(value, f16_to_f32(p->v_scales[from / KV_GROUP * CPU_PAGE_TOKENS + j]), (size_t)n);
        for (int d = 0; d < n; d++)
            acc[from + d] += weight * value[d];
    }
}

static void attend_one(const struct attention_page *p, const struct attention_queries *q, int i)
{
    float s[CPU_PAGE_TOKENS], m = q->m[i], *acc = q->acc + (size_t)i * q->v_stride;
    scores(p, q->q + (size_t)i * (size_t)p->k_dim, q->first[i], q->end[i], s);
    for (int j = q->first[i]; j < q->end[i]; j++)
        m = s[j] > m || isnan(s[j]) ? s[j] : m;
    float keep = expf(q->m[i] - m);
    q->m[i] = m;
    q->l[i] *= keep;
    for (int d = 0; d < p->v_dim; d++)
        acc[d] *= keep;
    for (int j = q->first[i]; j < q->end[i]; j++) {
        float weight = expf(s[j] - m);
        q->l[i] += weight;
        add_value(p, j, weight, acc);
    }
}

static void attend(const struct attention_page *page, const struct attention_queries *queries)
{
    for (int i = 0; i < queries->n; i++) {
        if (queries->first[i] < queries->end[i])
            attend_one(page, queries, i);
    }
}

static void join(const struct attention_queries *to, const struct attention_queries *from)
{
    for (int i = 0; i < to->n; i++) {
        float m = to->m[i] > from->m[i] ? to->m[i] : from->m[i];
        if (from->l[i] == 0) /* it saw nothing */
            continue;
        float first = expf(to->m[i] - m), second = expf(from->m[i] - m);
        to->m[i] = m;
        to->l[i] = to->l[i] * first + from->l[i] * second;
        for (size_t d = 0; d < to->v_stride; d++) {
            size_t at = (size_t)i * to->v_stride + d;
            to->acc[at] = to->acc[at] * first + from->acc[at] * second;
        }
    }
}

static size_t place(int i, int stride, int run)
{
    return (size_t)(i / run) * (size_t)stride + (size_t)(i % run);
}

static void store_group(const float *x, int n, int8_t *dst, int stride, int run, uint16_t *scale)
{
    float top = 0;
    for (int i = 0; i < n; i++)
        top = fabsf(x[i]) > top || isnan(x[i]) ? fabsf(x[i]) : top;
    *scale = f32_to_f16(top / 127);
    float stored = f16_to_f32(*scale), inverse = stored > 0 ? 1 / stored : 0;
    for (int i = 0; i < n; i++) {
        float code = rintf(x[i] * inverse);
        dst[place(i, stride, run)] = (int8_t)(code > 127 ? 127 : code > -127 ? code : -127); /* NaN: -127 */
    }
}

static void kv_store(enum kv_type type, const float *x, int n, void *dst, int stride, int run, uint16_t *scales)
{
    for (int i = 0; type == KV_Q8 && i < n; i += KV_GROUP)
        store_group(x + i, n - i < KV_GROUP ? n - i : KV_GROUP, (int8_t *)dst + place(i, stride, run), stride, run,
                    scales + i / KV_GROUP * CPU_PAGE_TOKENS);
    for (int i = 0; type != KV_Q8 && i < n; i++) {
        if (type == KV_F16)
            ((uint16_t *)dst)[place(i, stride, run)] = f32_to_f16(x[i]);
        else
            ((float *)dst)[place(i, stride, run)] = x[i];
    }
}

static bool usable(const struct cpu_features *cpu)
{
    (void)cpu;
    return true;
}

const struct cpu_kernel_table cpu__reference_table = {
    .name = "reference",
    .kind = CPU_KERNELS_REFERENCE,
    .usable = usable,
    .peak = &cpu__peak_reference,
    .row_step = 1,
    .linear =
        {
            [DTYPE_F32] = linear,
            [DTYPE_F16] = linear,
            [DTYPE_BF16] = linear,
            [DTYPE_Q4_0] = linear,
            [DTYPE_Q4_1] = linear,
            [DTYPE_Q5_0] = linear,
            [DTYPE_Q5_1] = linear,
            [DTYPE_Q8_0] = linear,
            [DTYPE_Q2_K] = linear,
            [DTYPE_Q3_K] = linear,
            [DTYPE_Q4_K] = linear,
            [DTYPE_Q5_K] = linear,
            [DTYPE_Q6_K] = linear,
            [DTYPE_Q8_K] = linear,
            [DTYPE_IQ4_NL] = linear,
            [DTYPE_IQ4_XS] = linear,
            [DTYPE_MXFP4] = linear,
        },
    .adapt = adapt,
    .quantize = quantize,
    .norm = norm,
    .add = add,
    .mul = mul,
    .convolve = convolve,
    .delta = delta,
    .scale = scale,
    .softcap = softcap,
    .activate = activate,
    .activate_mul = activate_mul,
    .rope = rope,
    .attend = attend,
    .attend_join = join,
    .kv_store = kv_store,
};
