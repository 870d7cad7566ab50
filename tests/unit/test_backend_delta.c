/* The gated delta rule of every backend and kernel set that is here: against sums in f64, whatever the chunks, with
 * rows of other sequences beside them, from states at borders of blocks, over copied pages, with tables in which most
 * pages are missing. Pages that are not the state that a step needs are refused, and a step that failed leaves none. On
 * the cpu backend the bits are the same each time, with any number of threads. */
#include "backend/backend.h"
#include "base/array.h"
#include "tests/support/emulated.h"
#include "tests/support/op_step.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Neither keys nor values are whole vectors. */
enum { K_HEADS = 2, V_HEADS = 4, K_DIM = 13, V_DIM = 21, TAPS = 4, LAYERS = 2, LAYER = 1 };
enum {
    KEYS = K_HEADS * K_DIM,
    VALUES = V_HEADS * V_DIM,
    COLS = 2 * KEYS + VALUES,
    GATES = 2 * V_HEADS,
    WIDTH = COLS + GATES,
    POSITIONS = 300,
    MAX_BLOCKS = 10,
    SEQS = 3,
    N_PAGES = SEQS * MAX_BLOCKS
};

static const struct delta_params shape = {
    .n_k_heads = K_HEADS, .n_v_heads = V_HEADS, .k_dim = K_DIM, .v_dim = V_DIM, .n_taps = TAPS};

struct bench {
    struct backend *be;
    int n, page_tokens; /* positions */
    struct weight *table, *taps, *rate, *bias;
    float x[POSITIONS][WIDTH], t[TAPS][COLS], r[V_HEADS], b[V_HEADS];
    double want[POSITIONS][VALUES];
    float first[POSITIONS * VALUES]; /* what the first run gave */
    bool has_first;
    uint8_t *pool;
    uint32_t pages[SEQS][MAX_BLOCKS]; /* as tables have them */
};

static uint64_t random_state = 7;

static void fill(float *values, size_t n, float size, float offset)
{
    for (size_t i = 0; i < n; i++)
        values[i] = offset + random_float(&random_state, size);
}

/* ---- what should come out ---- */

static double convolved(const struct bench *b, int p, int col)
{
    double sum = 0;
    for (int j = 0; j < TAPS; j++) {
        int at = p - TAPS + 1 + j;
        sum += at >= 0 ? (double)b->t[j][col] * (double)b->x[at][col] : 0;
    }
    return sum / (1 + exp(-sum));
}

static void unit(const struct bench *b, int p, int first, double *out)
{
    double squares = 0;
    for (int i = 0; i < K_DIM; i++) {
        out[i] = convolved(b, p, first + i);
        squares += out[i] * out[i];
    }
    for (int i = 0; i < K_DIM; i++)
        out[i] /= sqrt(squares + 1e-6);
}

static void expect_head(struct bench *b, int h)
{
    static double s[K_DIM][V_DIM];
    double q[K_DIM], k[K_DIM];
    int key = h / (V_HEADS / K_HEADS), in_key = h % (V_HEADS / K_HEADS), per_key = V_HEADS / K_HEADS;
    memset(s, 0, sizeof(s));
    for (int p = 0; p < b->n; p++) {
        const float *gates = b->x[p] + COLS + key * 2 * per_key;
        double decay = exp((double)b->r[h] * log1p(exp((double)gates[per_key + in_key] + (double)b->b[h])));
        double beta = 1 / (1 + exp(-(double)gates[in_key]));
        unit(b, p, key * K_DIM, q);
        unit(b, p, KEYS + key * K_DIM, k);
        for (int j = 0; j < V_DIM; j++) {
            double known = 0, out = 0;
            for (int i = 0; i < K_DIM; i++)
                known += decay * s[i][j] * k[i];
            double by = beta * (convolved(b, p, 2 * KEYS + h * V_DIM + j) - known);
            for (int i = 0; i < K_DIM; i++) {
                s[i][j] = decay * s[i][j] + k[i] * by;
                out += s[i][j] * q[i];
            }
            b->want[p][h * V_DIM + j] = out / sqrt(K_DIM);
        }
    }
}

/* ---- the bench ---- */

/* Each sequence has a page for each block. */
static void open_bench(struct bench *b, struct backend *be)
{
    struct error err = {0};
    struct kv_group_spec spec = {
        .n_layers = LAYERS, .window = 2, .type = KV_F32, .state_size = delta_state_size(&shape)};
    size_t size = be->ops->kv_page_size(be, &spec) * N_PAGES;
    *b = (struct bench){.be = be, .pool = aligned_alloc(64, size), .page_tokens = be->ops->kv_page_tokens(be)};
    b->n = b->page_tokens < 100 ? 100 : POSITIONS;
    assert_non_null(b->pool);
    memset(b->pool, 0xff, size); /* NaN: what is read and was not written shows */
    assert_true(be->ops->kv_bind(be, &spec, 1, b->pool, size, &err));
    fill(&b->x[0][0], POSITIONS * WIDTH, 3, 0);
    fill(&b->t[0][0], TAPS * COLS, 1, 0);
    fill(b->r, V_HEADS, 0.2f, -0.3f);
    fill(b->b, V_HEADS, 1, 0);
    b->table = op_weight(be, &b->x[0][0], POSITIONS, WIDTH);
    b->taps = op_weight(be, &b->t[0][0], 1, TAPS * COLS);
    b->rate = op_weight(be, b->r, 1, V_HEADS);
    b->bias = op_weight(be, b->b, 1, V_HEADS);
    for (uint32_t i = 0; i < N_PAGES; i++)
        b->pages[i / MAX_BLOCKS][i % MAX_BLOCKS] = N_PAGES - 1 - i;
    for (int h = 0; h < V_HEADS; h++)
        expect_head(b, h);
}

static void close_bench(struct bench *b)
{
    struct weight *const weights[] = {b->table, b->taps, b->rate, b->bias};
    for (size_t i = 0; i < ARRAY_LEN(weights); i++)
        b->be->ops->weight_free(b->be, weights[i]);
    b->be->ops->free(b->be);
    free(b->pool);
}

/* Rows of a sequence: row r of the table for position start + r. */
struct rows {
    int seq, start, n;
};

static struct tensor *delta(struct bench *b, struct weight *taps, const struct delta_params *p)
{
    const struct backend_ops *ops = b->be->ops;
    struct tensor *x = op_embed(b->be, b->table, 1);
    struct delta_input in = {.q = ops->cut(b->be, x, 1, 0, KEYS),
                             .k = ops->cut(b->be, x, 1, KEYS, KEYS),
                             .v = ops->cut(b->be, x, 1, 2 * KEYS, VALUES),
                             .gates = ops->cut(b->be, x, 1, COLS, GATES)};
    struct delta_weights w = {.taps = taps, .rate = b->rate, .bias = b->bias};
    return ops->delta_net(b->be, 0, LAYER, &in, &w, p);
}

/* One step; out: [rows, VALUES]. False: it was refused at its beginning, or failed (*failed). With wrong taps it fails.
 */
static bool try_step(struct bench *b, const struct rows *rows, int n_seqs, bool wrong, float *out, bool *failed)
{
    static int32_t ids[SEQS * POSITIONS];
    struct batch_seq seqs[SEQS];
    struct error err = {0};
    int n = 0;
    for (int s = 0; s < n_seqs; s++) {
        seqs[s] = (struct batch_seq){.first_row = n,
                                     .n_rows = rows[s].n,
                                     .start = rows[s].start,
                                     .pages = {b->pages[rows[s].seq]},
                                     .n_pages = MAX_BLOCKS};
        for (int r = 0; r < rows[s].n; r++)
            ids[n++] = rows[s].start + r;
    }
    struct batch batch = {.n_rows = n, .ids = ids, .positions = ids, .n_seqs = n_seqs, .seqs = seqs};
    *failed = false;
    if (!b->be->ops->step_begin(b->be, &batch, &err)) {
        assert_int_equal(err.code, ERR_INTERNAL);
        return false;
    }
    struct tensor *y = delta(b, wrong ? b->rate : b->taps, &shape);
    if (wrong)
        assert_null(y);
    if (y && !b->be->ops->read_f32(b->be, y, out, (size_t)n * VALUES, &err))
        fail_msg("%s", err.msg);
    bool ok = b->be->ops->step_end(b->be, &err);
    *failed = !ok;
    if (ok != !wrong)
        fail_msg("%s", err.msg);
    return ok;
}

static void step(struct bench *b, const struct rows *rows, int n_seqs, float *out)
{
    bool failed;
    assert_true(try_step(b, rows, n_seqs, false, out, &failed));
}

static void assert_refused(struct bench *b, const struct rows *rows, int n_seqs)
{
    static float out[SEQS * POSITIONS * VALUES];
    bool failed;
    assert_false(try_step(b, rows, n_seqs, false, out, &failed));
    assert_false(failed);
}

/* Rows from `from` on are those of the whole text, the same bits as before where the backend promises it. */
static void check_from(struct bench *b, const float *got, int from, const char *how)
{
    for (int i = from * VALUES; i < b->n * VALUES; i++) {
        double want = b->want[i / VALUES][i % VALUES], value = (double)got[i];
        if (!(fabs(value - want) < 2e-5))
            fail_msg("%s, %s: position %d, column %d is %g, should be %g", b->be->ops->describe(b->be), how, i / VALUES,
                     i % VALUES, value, want);
    }
    if (b->has_first && !b->be->ops->lazy)
        assert_memory_equal(got + from * VALUES, b->first + from * VALUES,
                            (size_t)(b->n - from) * VALUES * sizeof(float));
}

static void check(struct bench *b, const float *got, const char *how)
{
    check_from(b, got, 0, how);
    memcpy(b->first, got, sizeof(b->first));
    b->has_first = true;
}

static void run_from(struct bench *b, int seq, int from, int chunk, float *out)
{
    for (int at = from; at < b->n; at += chunk)
        step(b, &(struct rows){seq, at, b->n - at < chunk ? b->n - at : chunk}, 1, out + at * VALUES);
}

/* ---- tests ---- */

static float out[SEQS][POSITIONS * VALUES];

static void chunks(struct bench *b)
{
    static const int sizes[] = {POSITIONS, 7, 33, 1, 2, 32, 64};
    for (size_t i = 0; i < (emulated() ? 3 : ARRAY_LEN(sizes)); i++) {
        run_from(b, 0, 0, sizes[i], out[0]);
        check(b, out[0], "in chunks");
    }
}

/* The states at the ends of blocks stay, and any text may go on from them. */
static void borders(struct bench *b)
{
    uint32_t was[MAX_BLOCKS];
    run_from(b, 0, 0, POSITIONS, out[0]);
    memcpy(was, b->pages[1], sizeof(was));
    for (int block = 0; (block + 1) * b->page_tokens < b->n; block++) {
        int start = (block + 1) * b->page_tokens;
        b->pages[1][block] = b->pages[0][block]; /* read only */
        run_from(b, 1, start, POSITIONS, out[1]);
        check_from(b, out[1], start, "from a border");
        run_from(b, 1, start, 5, out[1]);
        check_from(b, out[1], start, "from a border again");
        memcpy(b->pages[1], was, sizeof(was));
    }
}

/* Only the page of the last block of each step is there. */
static void few_pages(struct bench *b)
{
    static const int sizes[] = {POSITIONS, 7, 70};
    uint32_t was[MAX_BLOCKS];
    memcpy(was, b->pages[0], sizeof(was));
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        for (int at = 0; at < b->n; at += sizes[i]) {
            int n = b->n - at < sizes[i] ? b->n - at : sizes[i];
            for (int block = 0; block < MAX_BLOCKS; block++) {
                bool wanted = block == (at + n - 1) / b->page_tokens || (at > 0 && block == (at - 1) / b->page_tokens);
                b->pages[0][block] = wanted ? was[block] : KV_PAGE_NONE;
            }
            step(b, &(struct rows){0, at, n}, 1, out[0] + at * VALUES);
        }
        check(b, out[0], "with few pages");
    }
    memcpy(b->pages[0], was, sizeof(was));
}

/* A text goes on from a copy; so does, from what was copied, another. */
static void copied_page(struct bench *b)
{
    int end = 40, page = (end - 1) / b->page_tokens;
    step(b, &(struct rows){0, 0, end}, 1, out[0]);
    b->be->ops->kv_copy_page(b->be, 0, b->pages[0][page], b->pages[1][page], end % b->page_tokens);
    memcpy(out[1], out[0], (size_t)end * VALUES * sizeof(float));
    run_from(b, 1, end, 3, out[1]);
    check(b, out[1], "over a copied page");
    run_from(b, 0, end, POSITIONS, out[0]);
    check(b, out[0], "over a page that was copied");
}

/* Sequence 0 goes on row by row beside the prefill of sequence 1, and beside one that stands still. */
static void sequences(struct bench *b)
{
    static float all[(POSITIONS + 1) * VALUES];
    int n = 5, rows_each = b->n / n, done = 0, first = b->n - rows_each;
    step(b, &(struct rows){0, 0, first}, 1, out[0]);
    for (int at = first; at < b->n; at++, done += n) {
        struct rows rows[] = {{0, at, 1}, {2, 0, 0}, {1, done, n}};
        step(b, rows, 3, all);
        memcpy(out[0] + at * VALUES, all, VALUES * sizeof(float));
        memcpy(out[1] + done * VALUES, all + VALUES, (size_t)n * VALUES * sizeof(float));
    }
    check(b, out[0], "beside a prefill");
    check(b, out[1], "beside a row");
}

/* A page that is missing, or is the state of another position, is not gone on from; what was there stays. */
static void wrong_pages(struct bench *b)
{
    uint32_t none = KV_PAGE_NONE, last = N_PAGES, was = b->pages[0][0];
    step(b, &(struct rows){0, 0, 10}, 1, out[0]);
    assert_refused(b, &(struct rows){0, 11, 1}, 1);
    assert_refused(b, &(struct rows){0, 9, 2}, 1);
    assert_refused(b, &(struct rows){0, -1, 2}, 1);
    assert_refused(b, &(struct rows){0, MAX_BLOCKS * b->page_tokens - 1, 2}, 1);
    b->pages[0][0] = none;
    assert_refused(b, &(struct rows){0, 10, 1}, 1);
    assert_refused(b, &(struct rows){0, 0, 1}, 1);
    b->pages[0][0] = last;
    assert_refused(b, &(struct rows){0, 10, 1}, 1);
    assert_refused(b, &(struct rows){0, 0, 1}, 1);
    b->pages[0][0] = was;
    struct rows beside[] = {{0, 10, 5}, {1, 3, 1}};
    b->pages[1][0] = was; /* tagged with another position */
    assert_refused(b, beside, 2);
    b->pages[1][0] = N_PAGES - 1 - MAX_BLOCKS;
    step(b, &(struct rows){0, 10, b->n - 10}, 1, out[0] + 10 * VALUES);
    check(b, out[0], "after refused steps");
}

/* What a step that failed has written is no state; one at a border that it only read is. */
static void failed_step(struct bench *b)
{
    bool failed;
    int border = b->page_tokens;
    step(b, &(struct rows){0, 0, border}, 1, out[0]);
    step(b, &(struct rows){0, border, 3}, 1, out[0] + border * VALUES);
    assert_false(try_step(b, &(struct rows){0, border + 3, 2}, 1, true, out[1], &failed));
    assert_true(failed);
    assert_refused(b, &(struct rows){0, border + 3, 2}, 1);
    assert_false(try_step(b, &(struct rows){0, border, 3}, 1, true, out[1], &failed));
    assert_true(failed);
    run_from(b, 0, border, POSITIONS, out[0]);
    check(b, out[0], "after failed steps");
}

/* Another shape than the group's ends the step. */
static void wrong_shapes(struct bench *b)
{
    static const struct delta_params wrong[] = {{4, 4, K_DIM, V_DIM, TAPS},
                                                {K_HEADS, V_HEADS, V_DIM, K_DIM, TAPS},
                                                {K_HEADS, 3, K_DIM, V_DIM, TAPS},
                                                {K_HEADS, V_HEADS, K_DIM, V_DIM, TAPS - 1},
                                                {0, 0, K_DIM, V_DIM, TAPS}};
    int32_t id = 0;
    struct error err = {0};
    struct batch_seq seq = {.n_rows = 1, .pages = {b->pages[0]}, .n_pages = MAX_BLOCKS};
    struct batch batch = {.n_rows = 1, .ids = &id, .positions = &id, .n_seqs = 1, .seqs = &seq};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_true(b->be->ops->step_begin(b->be, &batch, &err));
        assert_null(delta(b, b->taps, &wrong[i]));
        assert_false(b->be->ops->step_end(b->be, &err));
        assert_int_equal(err.code, ERR_INTERNAL);
    }
}

static void check_backend(struct backend *be)
{
    struct bench *b = malloc(sizeof(*b));
    assert_non_null(b);
    open_bench(b, be);
    chunks(b);
    borders(b);
    few_pages(b);
    copied_page(b);
    sequences(b);
    wrong_pages(b);
    failed_step(b);
    wrong_shapes(b);
    close_bench(b);
    free(b);
}

static void every_kernel_set(void **state)
{
    (void)state;
    on_cpu(check_backend);
}

static void mlx(void **state)
{
    (void)state;
    on_mlx(check_backend);
}

/* Shapes that no page can hold are told, not wrapped around. */
static void sizes(void **state)
{
    struct delta_params p = {.n_k_heads = 16, .n_v_heads = 32, .k_dim = 128, .v_dim = 128, .n_taps = 4};
    struct kv_group_spec spec = {.n_layers = 36, .state_size = delta_state_size(&p)};
    (void)state;
    assert_int_equal(spec.state_size, 4 * (32 * 128 * 128 + 3 * 8192));
    assert_int_equal(kv_state_page_size(&spec), 36 * spec.state_size + 64);
    p = (struct delta_params){.n_k_heads = 4096, .n_v_heads = 4096, .k_dim = 4096, .v_dim = 4096, .n_taps = 64};
    assert_int_equal(delta_state_size(&p), 0);
    spec = (struct kv_group_spec){.n_layers = 2, .state_size = delta_state_size(&shape)};
    assert_int_equal(kv_state_page_size(&spec) % 64, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(every_kernel_set),
        cmocka_unit_test(mlx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
