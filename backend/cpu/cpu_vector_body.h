/* Everything but the products with packed weights, for any vector width: the body of the files that define an
 * instruction set's primitives and then include this once (cpu_packed_body.h lists most of them). Not a header of its
 * own.
 *
 * Bits: elementwise kernels treat each element alike, tails go through the same vectors, partly filled. Reductions have
 * VL lanes in a fixed order.
 *
 * More primitives: vf_load_n(p, n), vf_store_n(p, v, n): the first n < VL elements, the rest 0 when loaded;
 * vf_load_bf16; vf_max, vf_min: the second operand where either is NaN; vf_round: to nearest even; vf_exp2_mul(x, n): x
 * 2^n for whole -126 <= n <= 128; vf_below(a, b, x): x where a < b, else 0; vf_sum, vf_max_lane: of the lanes, in a
 * fixed order; vf_abs; vf_copy_sign(x, s): |x| with the sign of s; vf_store_f16(p, v); vf_pairs(p): p[0] p[0] p[1] p[1]
 * ...; vf_swap_pairs; vf_add_sub(a, b): a - b in even lanes, a + b in odd ones; vf_set1(x). FLOAT_ROWS, FLOAT_TOKENS:
 * tiles that fit the registers. */

/* ---- functions ---- */

/* e^x: relative error under 2^-22; 0 below -87.3 (no subnormals), infinity from 88.4 on; NaN stays. */
INLINE vf vf_exp(vf x)
{
    vf bounded = vf_min(vf_set1(89.0f), vf_max(vf_set1(-88.0f), x));
    vf n = vf_round(bounded * vf_set1(1.44269504f));
    n = vf_max(vf_set1(-126.0f), n);
    vf r = vf_fma(n, vf_set1(-0.693359375f), bounded); /* ln 2 in two parts, the first exact in few bits */
    r = vf_fma(n, vf_set1(2.12194440e-4f), r);
    vf p = vf_set1(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set1(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set1(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set1(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set1(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set1(5.0000001201e-1f));
    p = vf_fma(p, r * r, r) + vf_set1(1.0f);
    vf y = vf_exp2_mul(p, n);
    return y - vf_below(x, vf_set1(-87.3f), y);
}

/* Absolute error about 2^-23. */
INLINE vf vf_tanh(vf x)
{
    vf e = vf_exp(vf_abs(x) * vf_set1(2.0f));
    vf one = vf_set1(1.0f);
    return vf_copy_sign(one - vf_set1(2.0f) / (e + one), x);
}

/* Abramowitz and Stegun 7.1.26: absolute error 1.5e-7. */
INLINE vf vf_erf(vf x)
{
    vf a = vf_abs(x), one = vf_set1(1.0f);
    vf t = one / vf_fma(vf_set1(0.3275911f), a, one);
    vf p = vf_set1(1.061405429f);
    p = vf_fma(p, t, vf_set1(-1.453152027f));
    p = vf_fma(p, t, vf_set1(1.421413741f));
    p = vf_fma(p, t, vf_set1(-0.284496736f));
    p = vf_fma(p, t, vf_set1(0.254829592f));
    return vf_copy_sign(one - p * t * vf_exp(vf_zero() - a * a), x);
}

INLINE vf vf_activate(vf x, const enum activation act)
{
    vf one = vf_set1(1.0f), half = vf_set1(0.5f);
    switch (act) {
    case ACT_SILU:
        return x / (one + vf_exp(vf_zero() - x));
    case ACT_GELU:
        return half * x * (one + vf_erf(x * vf_set1(0.70710678f)));
    case ACT_GELU_TANH:
        return half * x * (one + vf_tanh(vf_set1(0.79788456f) * (x + vf_set1(0.044715f) * x * x * x)));
    case ACT_RELU:
        return vf_max(vf_zero(), x);
    case ACT_RELU2:
        return vf_max(vf_zero(), x) * vf_max(vf_zero(), x);
    case ACT_CLAMPED_SWIGLU:
        break; /* of two values: see clamped_swiglu */
    }
    return x;
}

/* ---- elementwise ---- */

INLINE vf load_some(const float *p, size_t left)
{
    return left >= VL ? vf_load(p) : vf_load_n(p, (int)left);
}

INLINE void store_some(float *p, vf v, size_t left)
{
    if (left >= VL)
        vf_store(p, v);
    else
        vf_store_n(p, v, (int)left);
}

static void add(float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i += VL)
        store_some(a + i, load_some(a + i, n - i) + load_some(b + i, n - i), n - i);
}

static void mul(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i += VL)
        store_some(y + i, load_some(a + i, n - i) * load_some(b + i, n - i), n - i);
}

static void convolve(const struct conv_row *row)
{
    for (size_t i = 0; i < row->n; i += VL) {
        const float *taps = row->taps + i;
        size_t left = row->n - i;
        vf sum = vf_zero();
        for (int j = 0; j < row->n_taps; j++, taps += row->taps_stride) {
            if (row->x[j])
                sum = vf_fma(load_some(taps, left), load_some(row->x[j] + i, left), sum);
        }
        if (row->gate)
            sum = load_some(row->gate + i, left) * sum;
        store_some(row->y + i, sum, left);
    }
}

static void scale(float *a, float factor, size_t n)
{
    for (size_t i = 0; i < n; i += VL)
        store_some(a + i, load_some(a + i, n - i) * vf_set1(factor), n - i);
}

static void softcap(float *a, float cap, size_t n)
{
    for (size_t i = 0; i < n; i += VL)
        store_some(a + i, vf_set1(cap) * vf_tanh(load_some(a + i, n - i) / vf_set1(cap)), n - i);
}

INLINE void activate_all(float *a, const float *b, const enum activation act, size_t n)
{
    for (size_t i = 0; i < n; i += VL) {
        vf y = vf_activate(load_some(a + i, n - i), act);
        if (b)
            y = y * load_some(b + i, n - i);
        store_some(a + i, y, n - i);
    }
}

/* min(x, limit) by way of the maximum of what they lack, which keeps a NaN. */
INLINE vf vf_at_most(vf x, float limit)
{
    return vf_zero() - vf_max(vf_set1(-limit), vf_zero() - x);
}

static void clamped_swiglu(float *a, const float *b, size_t n)
{
    vf one = vf_set1(1.0f);
    for (size_t i = 0; i < n; i += VL) {
        vf g = vf_at_most(load_some(a + i, n - i), SWIGLU_LIMIT);
        vf u = vf_max(vf_set1(-SWIGLU_LIMIT), vf_at_most(load_some(b + i, n - i), SWIGLU_LIMIT));
        store_some(a + i, g / (one + vf_exp(vf_set1(-SWIGLU_ALPHA) * g)) * (u + one), n - i);
    }
}

static void activate_mul(float *a, const float *b, enum activation act, size_t n)
{
    switch (act) {
    case ACT_SILU:
        activate_all(a, b, ACT_SILU, n);
        break;
    case ACT_GELU:
        activate_all(a, b, ACT_GELU, n);
        break;
    case ACT_GELU_TANH:
        activate_all(a, b, ACT_GELU_TANH, n);
        break;
    case ACT_RELU:
        activate_all(a, b, ACT_RELU, n);
        break;
    case ACT_RELU2:
        activate_all(a, b, ACT_RELU2, n);
        break;
    case ACT_CLAMPED_SWIGLU:
        clamped_swiglu(a, b, n);
        break;
    }
}

static void activate(float *a, enum activation act, size_t n)
{
    activate_mul(a, NULL, act, n);
}

static void norm(const float *x, int n, const struct norm_params *p, const float *w, const float *b, float *y)
{
    size_t len = (size_t)n;
    vf sum = vf_zero(), squares = vf_zero();
    float mean = 0;
    if (p->kind == NORM_LAYER) {
        for (size_t i = 0; i < len; i += VL)
            sum = sum + load_some(x + i, len - i);
        mean = vf_sum(sum) / (float)n;
    }
    for (size_t i = 0; i < len; i += VL) {
        vf v = load_some(x + i, len - i) - vf_set1(mean);
        if (len - i < VL && p->kind == NORM_LAYER) { /* empty lanes are 0 before the mean is taken off */
            float lanes[VL];
            vf_store(lanes, v);
            v = vf_load_n(lanes, (int)(len - i));
        }
        squares = vf_fma(v, v, squares);
    }
    vf factor = vf_set1(1.0f / sqrtf(vf_sum(squares) / (float)n + p->eps));
    for (size_t i = 0; i < len; i += VL) {
        vf v = (load_some(x + i, len - i) - vf_set1(mean)) * factor;
        if (w)
            v = v * (load_some(w + i, len - i) + vf_set1(p->weight_offset));
        if (b)
            v = v + load_some(b + i, len - i);
        store_some(y + i, v, len - i);
    }
}

static void rope_halves(float *head, const float *cosines, const float *sines, int half)
{
    size_t len = (size_t)half;
    for (size_t i = 0; i < len; i += VL) {
        vf x = load_some(head + i, len - i), y = load_some(head + half + i, len - i);
        vf c = load_some(cosines + i, len - i), s = load_some(sines + i, len - i);
        store_some(head + i, x * c - y * s, len - i);
        store_some(head + half + i, y * c + x * s, len - i);
    }
}

static void rope_pairs(float *head, const float *cosines, const float *sines, int half)
{
    int i = 0;
    for (; i + VL / 2 <= half; i += VL / 2) {
        vf x = vf_load(head + 2 * i);
        vf_store(head + 2 * i, vf_add_sub(x * vf_pairs(cosines + i), vf_swap_pairs(x) * vf_pairs(sines + i)));
    }
    for (; i < half; i++) { /* the same operations on single floats: multiply, multiply, add */
        float x = head[2 * i], y = head[2 * i + 1];
        head[2 * i] = x * cosines[i] - y * sines[i];
        head[2 * i + 1] = y * cosines[i] + x * sines[i];
    }
}

static void rope(float *head, const float *cosines, const float *sines, enum rope_kind kind, int rot_dim)
{
    if (kind == ROPE_NEOX)
        rope_halves(head, cosines, sines, rot_dim / 2);
    else
        rope_pairs(head, cosines, sines, rot_dim / 2);
}

/* ---- the gated delta rule ---- */

#define DELTA_VECTORS (DELTA_COLUMNS / VL)
#define DELTA_SUMS    4 /* chains over k_dim: as many as hide the latency of one */

/* Vector i of a row of so many columns. */
INLINE vf delta_load(const float *row, const int i, int width, const bool whole)
{
    if (whole)
        return vf_load(row + i * VL);
    return width > i * VL ? load_some(row + i * VL, (size_t)(width - i * VL)) : vf_zero();
}

INLINE void delta_store(float *row, vf v, const int i, int width, const bool whole)
{
    if (whole)
        vf_store(row + i * VL, v);
    else if (width > i * VL)
        store_some(row + i * VL, v, (size_t)(width - i * VL));
}

struct delta_sums {
    vf s[DELTA_SUMS][DELTA_VECTORS];
};

INLINE vf delta_sum(const struct delta_sums *f, const int v)
{
    return (f->s[0][v] + f->s[1][v]) + (f->s[2][v] + f->s[3][v]);
}

/* Rows [i, i + n) of S^T k. */
INLINE void delta_read(const struct delta_columns *c, const float *state, const float *k, int i, const int n,
                       const bool whole, struct delta_sums *f)
{
    UNROLL for (int r = 0; r < n; r++)
    {
        const float *row = state + (size_t)(i + r) * (size_t)c->width;
        vf key = vf_splat(k + i + r);
        UNROLL for (int v = 0; v < DELTA_VECTORS; v++) f->s[r][v] =
            vf_fma(key, delta_load(row, v, c->width, whole), f->s[r][v]);
    }
}

/* One position's change of S. */
struct delta_change {
    const float *q, *k;
    vf decay, by[DELTA_VECTORS];
};

/* Rows [i, i + n) of S, and of S^T q behind it. */
INLINE void delta_write(const struct delta_columns *c, const float *state, const struct delta_change *d, int i,
                        const int n, const bool whole, struct delta_sums *f)
{
    UNROLL for (int r = 0; r < n; r++)
    {
        size_t at = (size_t)(i + r) * (size_t)c->width;
        vf key = vf_splat(d->k + i + r), query = vf_splat(d->q + i + r);
        UNROLL for (int v = 0; v < DELTA_VECTORS; v++)
        {
            vf s = vf_fma(key, d->by[v], d->decay * delta_load(state + at, v, c->width, whole));
            delta_store(c->to + at, s, v, c->width, whole);
            f->s[r][v] = vf_fma(query, s, f->s[r][v]);
        }
    }
}

INLINE void delta_sums_clear(struct delta_sums *f)
{
    UNROLL for (int r = 0; r < DELTA_SUMS; r++) UNROLL for (int v = 0; v < DELTA_VECTORS; v++) f->s[r][v] = vf_zero();
}

INLINE void delta_position(const struct delta_columns *c, const float *state, size_t t, const bool whole)
{
    const float *v_in = c->v + t * c->v_stride;
    float *out = c->out + t * c->out_stride;
    struct delta_change d = {
        .q = c->q + t * c->q_stride, .k = c->k + t * c->q_stride, .decay = vf_splat(c->decay + t * c->gate_stride)};
    vf beta = vf_splat(c->beta + t * c->gate_stride);
    struct delta_sums f;
    int i;
    delta_sums_clear(&f);
    for (i = 0; i + DELTA_SUMS <= c->k_dim; i += DELTA_SUMS)
        delta_read(c, state, d.k, i, DELTA_SUMS, whole, &f);
    for (; i < c->k_dim; i++)
        delta_read(c, state, d.k, i, 1, whole, &f);
    UNROLL for (int v = 0; v < DELTA_VECTORS; v++) d.by[v] =
        beta * (delta_load(v_in, v, c->width, whole) - d.decay * delta_sum(&f, v));
    delta_sums_clear(&f);
    for (i = 0; i + DELTA_SUMS <= c->k_dim; i += DELTA_SUMS)
        delta_write(c, state, &d, i, DELTA_SUMS, whole, &f);
    for (; i < c->k_dim; i++)
        delta_write(c, state, &d, i, 1, whole, &f);
    UNROLL for (int v = 0; v < DELTA_VECTORS; v++) delta_store(out, delta_sum(&f, v), v, c->width, whole);
}

static void delta(const struct delta_columns *c)
{
    for (int t = 0; t < c->n; t++) {
        const float *state = t == 0 ? c->from : c->to;
        if (c->width == DELTA_COLUMNS)
            delta_position(c, state, (size_t)t, true);
        else
            delta_position(c, state, (size_t)t, false);
    }
}

/* ---- K and V ---- */

/* n lanes of v to dst[(i / run) * stride + i % run] */
INLINE void scatter(const enum kv_type type, vf v, int n, void *dst, size_t stride, int run)
{
    float lanes[VL];
    uint16_t halves_of[VL];
    vf_store(lanes, v);
    vf_store_f16(halves_of, v);
    for (int l = 0; l < n; l++) {
        size_t at = (size_t)(l / run) * stride + (size_t)(l % run);
        if (type == KV_F32)
            ((float *)dst)[at] = lanes[l];
        else if (type == KV_F16)
            ((uint16_t *)dst)[at] = halves_of[l];
        else
            ((int8_t *)dst)[at] = (int8_t)lanes[l];
    }
}

/* Codes of a group and its scale, which is taken as it is stored. Where a number is not finite, or too large for a
 * scale in f16, the scale is not finite either, and neither is all that depends on it. */
static void store_group(const float *x, int n, int8_t *dst, size_t stride, int run, uint16_t *scale)
{
    vf top = vf_zero(), check = vf_zero(); /* check: 0, or NaN */
    for (int i = 0; i < n; i += VL) {
        vf v = load_some(x + i, (size_t)(n - i));
        top = vf_max(vf_abs(v), top);
        check = vf_fma(v, vf_zero(), check);
    }
    uint16_t halves_of[VL];
    float stored[VL];
    vf_store_f16(halves_of, vf_set1(vf_max_lane(top) / 127 + vf_sum(check)));
    vf_store(stored, vf_load_f16(halves_of));
    *scale = halves_of[0];
    vf inverse = vf_set1(stored[0] > 0 ? 1 / stored[0] : 0), most = vf_set1(127);
    for (int i = 0; i < n; i += VL) {
        vf code = vf_round(load_some(x + i, (size_t)(n - i)) * inverse);
        scatter(KV_Q8, vf_min(vf_max(code, vf_zero() - most), most), n - i < VL ? n - i : VL,
                dst + (size_t)(i / run) * stride, stride, run);
    }
}

static void kv_store(enum kv_type type, const float *x, int n, void *dst, int stride, int run, uint16_t *scales)
{
    size_t step = (size_t)stride;
    for (int i = 0; type == KV_Q8 && i < n; i += KV_GROUP)
        store_group(x + i, n - i < KV_GROUP ? n - i : KV_GROUP, (int8_t *)dst + (size_t)(i / run) * step, step, run,
                    scales + i / KV_GROUP * CPU_PAGE_TOKENS);
    for (int i = 0; type != KV_Q8 && i < n; i += VL) {
        int left = n - i < VL ? n - i : VL;
        vf v = load_some(x + i, (size_t)left);
        if (type == KV_F16)
            scatter(KV_F16, v, left, (uint16_t *)dst + (size_t)(i / run) * step, step, run);
        else
            scatter(KV_F32, v, left, (float *)dst + (size_t)(i / run) * step, step, run);
    }
}

/* ---- float weights, float activations ---- */

INLINE vf load_weight(const enum dtype type, const uint8_t *row, int k)
{
    return type == DTYPE_F32   ? vf_load((const float *)(const void *)row + k)
           : type == DTYPE_F16 ? vf_load_f16(row + 2 * (size_t)k)
                               : vf_load_bf16(row + 2 * (size_t)k);
}

INLINE vf load_weight_n(const enum dtype type, const uint8_t *row, int k, int n)
{
    uint8_t lanes[4 * VL] = {0};
    size_t size = type == DTYPE_F32 ? 4 : 2;
    memcpy(lanes, row + (size_t)k * size, (size_t)n * size);
    return load_weight(type, lanes, 0);
}

/* A line of each row, where column k begins one. */
INLINE void fetch_rows(const uint8_t *next, const int k, size_t row_size, const int n_rows)
{
    if (k % 32 == 0) {
        UNROLL for (int r = 0; r < n_rows; r++) __builtin_prefetch(next + (size_t)r * row_size + (size_t)k * 2, 0, 2);
    }
}

/* fetch: whether tile->fetch is there, of f16 alone; the first tokens that pass over the rows see to it */
INLINE void float_tile(const enum dtype type, const struct linear_tile *tile, const int row, const int t0,
                       const int n_rows, const int n_tokens, const bool fetch)
{
    const size_t n_in = (size_t)tile->n_in, row_size = n_in * (type == DTYPE_F32 ? 4 : 2);
    const uint8_t *w = tile->weights + (size_t)(tile->first_row + row) * row_size;
    const uint8_t *next = fetch && t0 == 0 ? tile->fetch + (size_t)row * row_size : NULL;
    const float *x = tile->x + (size_t)t0 * n_in;
    vf f[FLOAT_ROWS][FLOAT_TOKENS];
    UNROLL for (int r = 0; r < n_rows; r++) UNROLL for (int t = 0; t < n_tokens; t++) f[r][t] = vf_zero();
    int k = 0;
    for (; k + VL <= tile->n_in; k += VL) {
        vf a[FLOAT_TOKENS];
        if (next)
            fetch_rows(next, k, row_size, n_rows);
        UNROLL for (int t = 0; t < n_tokens; t++) a[t] = vf_load(x + (size_t)t * n_in + k);
        UNROLL for (int r = 0; r < n_rows; r++)
        {
            vf b = load_weight(type, w + (size_t)r * row_size, k);
            UNROLL for (int t = 0; t < n_tokens; t++) f[r][t] = vf_fma(a[t], b, f[r][t]);
        }
    }
    if (k < tile->n_in) {
        UNROLL for (int r = 0; r < n_rows; r++)
        {
            vf b = load_weight_n(type, w + (size_t)r * row_size, k, tile->n_in - k);
            UNROLL for (int t = 0; t < n_tokens; t++) f[r][t] =
                vf_fma(vf_load_n(x + (size_t)t * n_in + k, tile->n_in - k), b, f[r][t]);
        }
    }
    UNROLL for (int r = 0; r < n_rows; r++)
    {
        UNROLL for (int t = 0; t < n_tokens; t++)
        {
            float sum = vf_sum(f[r][t]);
            tile->out[(size_t)(t0 + t) * tile->out_stride + (size_t)(row + r)] =
                tile->bias ? sum + tile->bias[row + r] : sum;
        }
    }
}

INLINE void float_rows(const enum dtype type, const struct linear_tile *tile, const int row, const int n_rows,
                       const bool fetch)
{
    int t = 0;
    for (; t + FLOAT_TOKENS <= tile->n_t; t += FLOAT_TOKENS)
        float_tile(type, tile, row, t, n_rows, FLOAT_TOKENS, fetch);
    for (; t < tile->n_t; t++)
        float_tile(type, tile, row, t, n_rows, 1, fetch);
}

INLINE void float_linear(const enum dtype type, const struct linear_tile *tile, const bool fetch)
{
    int row = 0;
    for (; row + FLOAT_ROWS <= tile->n_rows; row += FLOAT_ROWS)
        float_rows(type, tile, row, FLOAT_ROWS, fetch);
    for (; row < tile->n_rows; row++)
        float_rows(type, tile, row, 1, fetch);
}

static void linear_f32(const struct linear_tile *tile)
{
    float_linear(DTYPE_F32, tile, false);
}

static void linear_f16(const struct linear_tile *tile)
{
    if (tile->fetch)
        float_linear(DTYPE_F16, tile, true);
    else
        float_linear(DTYPE_F16, tile, false);
}

static void linear_bf16(const struct linear_tile *tile)
{
    float_linear(DTYPE_BF16, tile, false);
}

/* ---- adapters ---- */

#define ADAPT_TOKENS  4
#define ADAPT_VECTORS 4 /* of one token; half as many of ADAPT_TOKENS: as many chains as hide the latency of one */

INLINE const uint16_t *adapt_panel(const struct adapt_tile *tile, int column)
{
    return tile->b + (size_t)(column / ADAPT_PANEL) * (size_t)tile->rank * ADAPT_PANEL + column % ADAPT_PANEL;
}

INLINE void adapt_piece(const struct adapt_tile *tile, const int column, const int t0, const int n_tokens,
                        const int n_vectors)
{
    const size_t rank = (size_t)tile->rank;
    const float *u = tile->u + (size_t)t0 * rank;
    const uint16_t *b[ADAPT_VECTORS];
    vf sums[ADAPT_TOKENS][ADAPT_VECTORS];
    UNROLL for (int v = 0; v < n_vectors; v++) b[v] = adapt_panel(tile, column + v * VL);
    UNROLL for (int t = 0; t < n_tokens; t++) UNROLL for (int v = 0; v < n_vectors; v++) sums[t][v] = vf_zero();
    for (size_t r = 0; r < rank; r++) {
        vf w[ADAPT_VECTORS];
        UNROLL for (int v = 0; v < n_vectors; v++) w[v] = vf_load_f16(b[v] + r * ADAPT_PANEL);
        UNROLL for (int t = 0; t < n_tokens; t++)
        {
            vf x = vf_splat(u + (size_t)t * rank + r);
            UNROLL for (int v = 0; v < n_vectors; v++) sums[t][v] = vf_fma(x, w[v], sums[t][v]);
        }
    }
    UNROLL for (int t = 0; t < n_tokens; t++) UNROLL for (int v = 0; v < n_vectors; v++)
    {
        int at = column + v * VL;
        float *out = tile->out + (size_t)(tile->rows[t0 + t] - tile->first_row) * tile->out_stride + at;
        if (at < tile->n)
            store_some(out, load_some(out, (size_t)(tile->n - at)) + sums[t][v], (size_t)(tile->n - at));
    }
}

static void adapt(const struct adapt_tile *tile)
{
    const int step = ADAPT_VECTORS / 2 * VL, n_whole = (tile->n + ADAPT_PANEL - 1) / ADAPT_PANEL * ADAPT_PANEL;
    int t = tile->n_t / ADAPT_TOKENS * ADAPT_TOKENS, column;
    for (column = 0; t > 0 && column < tile->n; column += step) {
        for (int first = 0; first < t; first += ADAPT_TOKENS)
            adapt_piece(tile, column, first, ADAPT_TOKENS, ADAPT_VECTORS / 2);
    }
    for (; t < tile->n_t; t++) {
        for (column = 0; column + 2 * step <= n_whole; column += 2 * step)
            adapt_piece(tile, column, t, 1, ADAPT_VECTORS);
        if (column < tile->n)
            adapt_piece(tile, column, t, 1, ADAPT_VECTORS / 2);
    }
}
