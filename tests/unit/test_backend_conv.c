/* Short convolutions of every backend and kernel set that is here: against sums in f64, whatever the chunks, with rows
 * of other sequences beside them, after rows that were rejected, and over copied pages. On the cpu backend the bits are
 * the same each time, with any number of threads. */
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

enum { N = 21, TAPS = 4, POSITIONS = 75, LAYERS = 2, MAX_PAGES = 8 };

struct bench {
    struct backend *be;
    struct weight *table, *taps; /* [POSITIONS, 3 N], [TAPS, N] */
    float x[POSITIONS][3 * N], t[TAPS][N];
    float first[POSITIONS][N]; /* what the first run gave */
    bool has_first;
    uint8_t *pool;
    uint32_t pages[2][MAX_PAGES]; /* of two sequences */
};

static uint64_t random_state = 5;

/* The pages of the second sequence lie in reverse, behind those of the first; then comes one that is free. */
static void open_bench(struct bench *b, struct backend *be)
{
    struct error err = {0};
    struct kv_group_spec spec = {.n_layers = LAYERS, .n_kv_heads = 1, .v_dim = N, .type = KV_F32, .window = TAPS};
    size_t size = (be->ops->kv_page_size(be, &spec) * (2 * MAX_PAGES + 1) + 63) / 64 * 64;
    *b = (struct bench){.be = be, .pool = aligned_alloc(64, size)};
    assert_non_null(b->pool);
    memset(b->pool, 0xff, size); /* NaN: what is read and was not written shows */
    assert_true(be->ops->kv_bind(be, &spec, 1, b->pool, size, &err));
    for (size_t i = 0; i < sizeof(b->x) / sizeof(float); i++)
        (&b->x[0][0])[i] = random_float(&random_state, 3);
    for (size_t i = 0; i < sizeof(b->t) / sizeof(float); i++)
        (&b->t[0][0])[i] = random_float(&random_state, 1);
    b->table = op_weight(be, &b->x[0][0], POSITIONS, 3 * N);
    b->taps = op_weight(be, &b->t[0][0], 1, TAPS * N);
    for (uint32_t i = 0; i < MAX_PAGES; i++) {
        b->pages[0][i] = i;
        b->pages[1][i] = 2 * MAX_PAGES - 1 - i;
    }
}

static void close_bench(struct bench *b)
{
    b->be->ops->weight_free(b->be, b->table);
    b->be->ops->weight_free(b->be, b->taps);
    b->be->ops->free(b->be);
    free(b->pool);
}

/* Rows of a sequence: row r of the table for position start + r, from `from` on. */
struct rows {
    int seq, start, n, from;
};

/* One step of one or two sequences; out: [rows, N] */
static void step(struct bench *b, const struct rows *rows, int n_seqs, float *out)
{
    int32_t ids[2 * POSITIONS], positions[2 * POSITIONS];
    struct batch_seq seqs[2];
    struct error err = {0};
    int n = 0;
    for (int s = 0; s < n_seqs; s++) {
        seqs[s] = (struct batch_seq){.first_row = n,
                                     .n_rows = rows[s].n,
                                     .start = rows[s].start,
                                     .pages = {b->pages[rows[s].seq]},
                                     .n_pages = MAX_PAGES};
        for (int r = 0; r < rows[s].n; r++, n++) {
            ids[n] = rows[s].from + r;
            positions[n] = rows[s].start + r;
        }
    }
    struct batch batch = {.n_rows = n, .ids = ids, .positions = positions, .n_seqs = n_seqs, .seqs = seqs};
    if (!b->be->ops->step_begin(b->be, &batch, &err))
        fail_msg("%s", err.msg);
    struct tensor *x = op_embed(b->be, b->table, 1);
    struct tensor *y = b->be->ops->short_conv(b->be, 0, LAYERS - 1, x, b->taps);
    if (!b->be->ops->read_f32(b->be, y, out, (size_t)n * N, &err) || !b->be->ops->step_end(b->be, &err))
        fail_msg("%s", err.msg);
}

static double expected(const struct bench *b, int position, int i)
{
    double sum = 0;
    for (int j = 0; j < TAPS; j++) {
        int at = position - TAPS + 1 + j;
        if (at >= 0) /* b times u is rounded when it is kept */
            sum += (double)b->t[j][i] * (double)(b->x[at][i] * b->x[at][2 * N + i]);
    }
    return sum * (double)b->x[position][N + i];
}

/* The whole text's outputs, [POSITIONS, N]; the same bits as before where the backend promises it. */
static void check(struct bench *b, const float *got, const char *how)
{
    bool exact = !b->be->ops->lazy;
    for (int p = 0; p < POSITIONS; p++) {
        for (int i = 0; i < N; i++) {
            double want = expected(b, p, i), value = (double)got[p * N + i];
            if (!(fabs(value - want) < 2e-5))
                fail_msg("%s, %s: position %d, column %d is %g, should be %g", b->be->ops->describe(b->be), how, p, i,
                         value, want);
        }
    }
    if (b->has_first && exact)
        assert_memory_equal(got, b->first, sizeof(b->first));
    memcpy(b->first, got, sizeof(b->first));
    b->has_first = true;
}

static void run_in_chunks(struct bench *b, int chunk, float *out)
{
    for (int at = 0; at < POSITIONS; at += chunk)
        step(b, &(struct rows){0, at, POSITIONS - at < chunk ? POSITIONS - at : chunk, at}, 1, out + at * N);
}

static void chunks(struct bench *b)
{
    static const int sizes[] = {POSITIONS, 1, 2, 7, 32, 33};
    float out[POSITIONS * N];
    for (size_t i = 0; i < (emulated() ? 3 : ARRAY_LEN(sizes)); i++) {
        run_in_chunks(b, sizes[i], out);
        check(b, out, "in chunks");
    }
}

/* Guesses that were wrong are written over. */
static void rejected_rows(struct bench *b)
{
    float out[POSITIONS * N], wrong[POSITIONS * N];
    step(b, &(struct rows){0, 0, 30, 0}, 1, out);
    step(b, &(struct rows){0, 30, 20, 2}, 1, wrong);
    step(b, &(struct rows){0, 30, 1, 30}, 1, out + 30 * N);
    step(b, &(struct rows){0, 31, POSITIONS - 31, 31}, 1, out + 31 * N);
    check(b, out, "after rejected rows");
}

/* The first positions of a page, at a place that its sequence goes on from. */
static void copied_page(struct bench *b)
{
    float out[POSITIONS * N];
    int page_tokens = b->be->ops->kv_page_tokens(b->be), end = 40, page = (end - 1) / page_tokens;
    uint32_t was = b->pages[0][page];
    step(b, &(struct rows){0, 0, end, 0}, 1, out);
    b->be->ops->kv_copy_page(b->be, 0, was, 2 * MAX_PAGES, end % page_tokens);
    b->pages[0][page] = 2 * MAX_PAGES;
    step(b, &(struct rows){0, end, POSITIONS - end, end}, 1, out + end * N);
    b->pages[0][page] = was;
    check(b, out, "over a copied page");
}

/* Sequence 0 goes on row by row beside the prefill of sequence 1. */
static void sequences(struct bench *b)
{
    float out[2][POSITIONS * N], both[(POSITIONS + 1) * N];
    int n = 5, done = 0;
    step(b, &(struct rows){0, 0, POSITIONS - POSITIONS / n, 0}, 1, out[0]);
    for (int at = POSITIONS - POSITIONS / n; at < POSITIONS; at++, done += n) {
        struct rows rows[] = {{0, at, 1, at}, {1, done, n, done}};
        step(b, rows, 2, both);
        memcpy(out[0] + at * N, both, N * sizeof(float));
        memcpy(out[1] + done * N, both + N, (size_t)n * N * sizeof(float));
    }
    check(b, out[0], "beside a prefill");
    check(b, out[1], "beside a row");
}

/* Another shape than the group's ends the step. */
static void wrong_shapes(struct bench *b)
{
    int32_t id = 0;
    struct batch_seq seq = {.n_rows = 1, .pages = {b->pages[0]}, .n_pages = MAX_PAGES};
    struct batch batch = {.n_rows = 1, .ids = &id, .positions = &id, .n_seqs = 1, .seqs = &seq};
    struct error err = {0};
    struct weight *narrow = op_weight(b->be, &b->x[0][0], 2, 2 * N), *few = op_weight(b->be, &b->t[0][0], 1, 2 * N);
    struct weight *const tables[] = {narrow, b->table}, *const taps[] = {b->taps, few};
    for (int i = 0; i < 2; i++) {
        assert_true(b->be->ops->step_begin(b->be, &batch, &err));
        assert_null(b->be->ops->short_conv(b->be, 0, 0, op_embed(b->be, tables[i], 1), taps[i]));
        assert_false(b->be->ops->step_end(b->be, &err));
        assert_int_equal(err.code, ERR_INTERNAL);
    }
    b->be->ops->weight_free(b->be, narrow);
    b->be->ops->weight_free(b->be, few);
}

static void check_backend(struct backend *be)
{
    struct bench *b = malloc(sizeof(*b));
    assert_non_null(b);
    open_bench(b, be);
    chunks(b);
    rejected_rows(b);
    copied_page(b);
    sequences(b);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kernel_set),
        cmocka_unit_test(mlx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
