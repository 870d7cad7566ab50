/* Checksums of positions of KV pages on the cpu backend: what was kept while steps wrote is what reading the page
 * gives, however the rows came; each byte of a page is in the sum of exactly one position; and sums chain. */
#include "backend/backend.h"
#include "base/array.h"
#include "tests/support/op_step.h"

#include <string.h>

enum { HEADS = 2, LAYERS = 2, K_DIM = 40, V_DIM = 72, PAGE = 32, N_PAGES = 4, POSITIONS = 3 * PAGE };

struct bench {
    struct backend *be;
    struct kv_group_spec spec;
    struct weight *k, *v, *x, *taps; /* [POSITIONS, columns] */
    float *values[4];                /* of them: weights may be used where they lie */
    int n_values;
    uint8_t *pool;
    size_t page_size;
    bool conv;
};

static uint64_t random_state = 11;

static struct weight *make_weight(struct bench *b, uint64_t rows, uint64_t cols)
{
    const float *values = b->values[b->n_values++] = random_floats(&random_state, (size_t)(rows * cols), 1);
    return op_weight(b->be, values, rows, cols);
}

static void open_bench(struct bench *b, struct kv_group_spec spec, int n_threads)
{
    struct error err = {0};
    struct cpu_backend_options o = {.n_threads = n_threads, .spin_us = -1};
    *b = (struct bench){.be = cpu_backend_create(&o, &err), .spec = spec, .conv = spec.k_dim == 0};
    assert_non_null(b->be);
    b->page_size = b->be->ops->kv_page_size(b->be, &spec);
    b->pool = aligned_alloc(64, (N_PAGES * b->page_size + 63) / 64 * 64);
    assert_non_null(b->pool);
    memset(b->pool, 0x3c, N_PAGES * b->page_size);
    assert_true(b->be->ops->kv_bind(b->be, &spec, 1, b->pool, N_PAGES * b->page_size, &err));
    assert_true(b->be->ops->kv_keep_sums(b->be, &err));
    b->k = b->conv ? NULL : make_weight(b, POSITIONS, HEADS * K_DIM);
    b->v = b->conv ? NULL : make_weight(b, POSITIONS, HEADS * V_DIM);
    b->x = b->conv ? make_weight(b, POSITIONS, 3 * V_DIM) : NULL;
    b->taps = b->conv ? make_weight(b, 1, (uint64_t)spec.window * V_DIM) : NULL;
}

static void close_bench(struct bench *b)
{
    struct weight *all[] = {b->k, b->v, b->x, b->taps};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (all[i])
            b->be->ops->weight_free(b->be, all[i]);
    }
    b->be->ops->free(b->be);
    for (int i = 0; i < b->n_values; i++)
        free(b->values[i]);
    free(b->pool);
}

/* Positions [start, start + n) with the rows from `from` on of the tables, into pages 0, 1, 2. */
static void write_rows(struct bench *b, int start, int n, int from)
{
    static const uint32_t pages[] = {0, 1, 2};
    int32_t ids[POSITIONS], positions[POSITIONS];
    struct error err = {0};
    struct batch_seq seq = {.n_rows = n, .start = start, .pages = {pages}, .n_pages = 3};
    for (int i = 0; i < n; i++) {
        ids[i] = (from + i) % POSITIONS;
        positions[i] = start + i;
    }
    struct batch batch = {.n_rows = n, .ids = ids, .positions = positions, .n_seqs = 1, .seqs = &seq};
    if (!b->be->ops->step_begin(b->be, &batch, &err))
        fail_msg("%s", err.msg);
    for (int layer = 0; layer < LAYERS; layer++) {
        if (b->conv)
            (void)b->be->ops->short_conv(b->be, 0, layer, op_embed(b->be, b->x, 1), b->taps);
        else
            b->be->ops->kv_write(b->be, 0, layer, op_embed(b->be, b->k, 1), op_embed(b->be, b->v, 1));
    }
    if (!b->be->ops->step_end(b->be, &err))
        fail_msg("%s", err.msg);
}

static uint64_t sum(const struct bench *b, uint32_t page, int from, int to, uint64_t seed, bool written)
{
    return b->be->ops->kv_sum(b->be, 0, page, from, to, seed, written);
}

/* Of the first n positions, whatever way one asks. */
static void check(const struct bench *b, uint32_t page, int n)
{
    uint64_t whole = sum(b, page, 0, n, 7, false);
    assert_int_equal(sum(b, page, 0, n, 7, true), whole);
    assert_int_not_equal(sum(b, page, 0, n, 8, true), whole);
    for (int at = 0; at <= n; at++) {
        assert_int_equal(sum(b, page, at, n, sum(b, page, 0, at, 7, true), false), whole);
        assert_int_equal(sum(b, page, at, n, sum(b, page, 0, at, 7, false), true), whole);
    }
    for (int i = 0; i < n; i++)
        assert_int_equal(sum(b, page, i, i + 1, 7, true), sum(b, page, i, i + 1, 7, false));
}

static void in_chunks(struct bench *b, int chunk)
{
    for (int at = 0; at < POSITIONS; at += chunk) {
        int n = POSITIONS - at < chunk ? POSITIONS - at : chunk, page = at / PAGE, last = (at + n) / PAGE;
        write_rows(b, at, n, at);
        for (int i = page; i < last; i++)
            check(b, (uint32_t)i, PAGE);
        check(b, (uint32_t)(last < 3 ? last : 2), last < 3 ? (at + n) % PAGE : PAGE);
    }
}

/* Guesses behind what counts, written over later; also so many that the page was full for a while. */
static void rejected_rows(struct bench *b)
{
    write_rows(b, 0, 20, 0);
    write_rows(b, 20, 8, 40);
    check(b, 0, 23);
    write_rows(b, 23, 20, 60);
    check(b, 0, 25);
    write_rows(b, 25, 1, 25);
    check(b, 0, 26);
    write_rows(b, 26, 5, 26);
    check(b, 0, 31);
    write_rows(b, 31, 1, 31);
    check(b, 0, 32);
}

/* A page that begins as another one does. */
static void copied_page(struct bench *b)
{
    write_rows(b, 0, 20, 0);
    memset(b->pool + 3 * b->page_size, 0x11, b->page_size);
    b->be->ops->kv_copy_page(b->be, 0, 0, 3, 17);
    check(b, 3, 17);
    assert_int_equal(sum(b, 3, 0, 17, 1, true), sum(b, 0, 0, 17, 1, true));
    assert_int_not_equal(sum(b, 3, 17, 18, 1, false), sum(b, 0, 17, 18, 1, false));
    write_rows(b, PAGE, 20, 50);
    b->be->ops->kv_copy_page(b->be, 0, 0, 1, 17); /* over what was known of another */
    check(b, 1, 17);
    assert_int_equal(sum(b, 1, 0, 17, 1, true), sum(b, 0, 0, 17, 1, true));
}

/* What it tells of a page that others wrote to: nothing, unless it is asked to read. */
static void changed_byte(struct bench *b)
{
    write_rows(b, 0, 9, 0);
    uint64_t before = sum(b, 0, 0, 9, 1, false);
    b->pool[0] ^= 1;
    assert_int_equal(sum(b, 0, 0, 9, 1, true), before);
    assert_int_not_equal(sum(b, 0, 0, 9, 1, false), before);
}

/* Every byte of the page belongs to one position. */
static void every_byte(struct bench *b)
{
    uint64_t sums[PAGE];
    uint32_t n_bytes[PAGE] = {0};
    write_rows(b, 0, PAGE, 0);
    for (int i = 0; i < PAGE; i++)
        sums[i] = sum(b, 0, i, i + 1, 1, false);
    for (size_t at = 0; at < b->page_size; at++) {
        int n_changed = 0;
        b->pool[at] ^= 0x40;
        for (int i = 0; i < PAGE; i++) {
            bool changed = sum(b, 0, i, i + 1, 1, false) != sums[i];
            n_bytes[i] += changed;
            n_changed += changed;
        }
        b->pool[at] ^= 0x40;
        if (n_changed != 1)
            fail_msg("byte %zu of the page is in the sums of %d positions", at, n_changed);
    }
    for (int i = 2; i < PAGE; i++)
        assert_int_equal(n_bytes[i], n_bytes[1]);
    assert_true(n_bytes[0] >= n_bytes[1]); /* it has the page's offsets, where there are some */
}

static void run(struct kv_group_spec spec)
{
    static const int chunks[] = {1, 5, 32, 33, POSITIONS};
    static void (*const cases[])(struct bench *) = {rejected_rows, copied_page, changed_byte, every_byte};
    struct bench b;
    for (int n_threads = 1; n_threads <= 3; n_threads += 2) {
        for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
            open_bench(&b, spec, n_threads);
            in_chunks(&b, chunks[i]);
            in_chunks(&b, 7); /* over pages that hold something */
            close_bench(&b);
        }
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            open_bench(&b, spec, n_threads);
            cases[i](&b);
            close_bench(&b);
        }
    }
}

static void keys_and_values(void **state)
{
    (void)state;
    for (int type = 0; type < KV_TYPE_COUNT; type++) {
        run((struct kv_group_spec){
            .n_layers = LAYERS, .n_kv_heads = HEADS, .k_dim = K_DIM, .v_dim = V_DIM, .type = (enum kv_type)type});
    }
}

static void products_of_convolutions(void **state)
{
    (void)state;
    run((struct kv_group_spec){.n_layers = LAYERS, .n_kv_heads = 1, .v_dim = V_DIM, .type = KV_F32, .window = 3});
}

/* Vectors longer than what is summed up at once. */
static void long_vectors(void **state)
{
    struct bench b;
    (void)state;
    struct kv_group_spec spec = {.n_layers = 1, .n_kv_heads = 1, .k_dim = 576, .v_dim = 512, .type = KV_F16};
    open_bench(&b, spec, 1);
    for (uint32_t i = 0; i < 2; i++) /* the same at two places: what differs is where it lies */
        memset(b.pool + i * b.page_size, 0x21, b.page_size);
    for (int slot = 0; slot < PAGE; slot++) {
        uint64_t before = sum(&b, 0, slot, slot + 1, 1, false);
        assert_int_equal(before, sum(&b, 1, slot, slot + 1, 1, false));
        uint8_t *k = b.pool + ((size_t)575 * PAGE + (size_t)slot) * 2;
        *k ^= 1;
        assert_int_not_equal(before, sum(&b, 0, slot, slot + 1, 1, false));
        *k ^= 1;
    }
    assert_int_not_equal(sum(&b, 0, 4, 5, 1, false), sum(&b, 0, 5, 6, 1, false));
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_and_values),
        cmocka_unit_test(products_of_convolutions),
        cmocka_unit_test(long_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
