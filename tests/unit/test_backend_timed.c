/* The timing backend: it passes everything on (same bits as the backend beneath), notes each op's time and calls, and
 * nothing while it is off; lazy backends are refused. */
#include "backend/timed.h"
#include "base/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_ROWS = 3, N_COLS = 32, N_FF = 64, N_VOCAB = 8, N_PAGES = 2 };

struct model {
    struct backend *be;
    float values[N_FF * N_FF];
    struct weight *embd, *square, *up, *down, *vector;
    uint8_t *pool;
    size_t pool_size;
};

static struct weight *make_weight(struct model *m, uint64_t n_out, uint64_t n_in)
{
    struct error err = {0};
    struct tensor_view v = {.name = STR("w"),
                            .type = DTYPE_F32,
                            .n_dims = n_out > 1 ? 2 : 1,
                            .shape = {n_out > 1 ? n_out : n_in, n_out > 1 ? n_in : 1, 1, 1},
                            .data = m->values,
                            .size = n_out * n_in * sizeof(float)};
    struct weight *w = m->be->ops->weight_create(m->be, &(const struct tensor_view *){&v}, 1, &err);
    if (!w)
        fail_msg("%s", err.msg);
    assert_int_equal(m->be->ops->weight_info(w).n_in, n_in);
    return w;
}

/* An adapter of rank 2 for the square weight. */
static void adapt(struct model *m)
{
    struct error err = {0};
    struct tensor_view a = {.name = STR("a"), .type = DTYPE_F32, .n_dims = 2, .shape = {2, N_COLS, 1, 1}}, b = a;
    b.shape[0] = N_COLS;
    b.shape[1] = 2;
    a.data = b.data = m->values;
    a.size = b.size = 2 * N_COLS * sizeof(float);
    if (!m->be->ops->weight_adapt(m->be, m->square, 1, &(struct adapter_part){&a, &b, 0.5f}, &err))
        fail_msg("%s", err.msg);
}

static void open_model(struct model *m, struct op_times *times)
{
    struct error err = {0};
    struct backend_options o = {
        .kind = BACKEND_CPU, .cpu = {.kernels = CPU_KERNELS_REFERENCE, .n_threads = 1}, .op_times = times};
    struct kv_group_spec group = {.n_layers = 1, .n_kv_heads = 2, .k_dim = 16, .v_dim = 16, .type = KV_F32};
    m->be = backend_create(&o, &err);
    assert_non_null(m->be);
    for (int i = 0; i < N_FF * N_FF; i++)
        m->values[i] = (float)(i % 37 - 18) / 40;
    m->embd = make_weight(m, N_VOCAB, N_COLS);
    m->square = make_weight(m, N_COLS, N_COLS);
    m->up = make_weight(m, N_FF, N_COLS);
    m->down = make_weight(m, N_COLS, N_FF);
    m->vector = make_weight(m, 1, N_COLS);
    adapt(m);
    m->pool_size = N_PAGES * m->be->ops->kv_page_size(m->be, &group);
    m->pool = aligned_alloc(64, m->pool_size);
    assert_non_null(m->pool);
    memset(m->pool, 0, m->pool_size);
    assert_true(m->be->ops->kv_bind(m->be, &group, 1, m->pool, m->pool_size, &err));
}

static void close_model(struct model *m)
{
    struct weight *all[] = {m->embd, m->square, m->up, m->down, m->vector};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        m->be->ops->weight_free(m->be, all[i]);
    m->be->ops->free(m->be);
    free(m->pool);
}

/* Every op once; logits and ids. */
static void run_step(struct model *m, float logits[N_COLS], struct sample_result *sampled)
{
    static const int32_t ids[N_ROWS] = {1, 2, 3}, positions[N_ROWS] = {0, 1, 2}, out_rows[1] = {N_ROWS - 1};
    static const uint32_t table[1] = {0};
    static const float inv_freq[8] = {1, 0.5f, 0.25f, 0.1f, 0.05f, 0.02f, 0.01f, 0.001f};
    struct batch_seq seq = {.n_rows = N_ROWS, .n_pages = 1, .pages = {table}, .adapter = 1};
    struct batch batch = {.n_rows = N_ROWS,
                          .ids = ids,
                          .positions = positions,
                          .n_seqs = 1,
                          .seqs = &seq,
                          .n_out = 1,
                          .out_rows = out_rows};
    struct norm_params norm = {.kind = NORM_RMS, .eps = 1e-5f, .n_groups = 1};
    struct rope_params rope = {
        .kind = ROPE_NEOX, .n_heads = 2, .head_dim = 16, .rot_dim = 16, .inv_freq = inv_freq, .attn_factor = 1};
    struct attention_params attention = {
        .n_heads = 2, .n_kv_heads = 2, .k_dim = 16, .v_dim = 16, .scale = 0.25f, .causal = true};
    struct sample_row row = {.score_id = -1, .top_p = 1, .typical_p = 1, .top_n_sigma = -1, .repetition_penalty = 1};
    const struct backend_ops *ops = m->be->ops;
    struct error err = {0};
    assert_true(ops->step_begin(m->be, &batch, &err));
    struct tensor *x = op_embed(m->be, m->embd, 1);
    struct tensor *h =
        op_rope(m->be, op_linear(m->be, op_norm(m->be, x, m->vector, NULL, &norm), m->square, NULL), &rope);
    ops->kv_write(m->be, 0, 0, h, h);
    x = op_add(m->be, x, ops->attention(m->be, 0, 0, h, &attention));
    op_keep(m->be, x);
    x = op_rows(m->be, x);
    x = op_add(m->be, x, ops->mlp_gated(m->be, x, m->up, m->up, m->down, ACT_SILU));
    x = op_add(m->be, x, ops->mlp(m->be, x, m->up, NULL, m->down, NULL, ACT_GELU));
    x = op_softcap(m->be, op_scale(m->be, x, 0.5f), 30);
    struct tensor *samples = ops->sample(m->be, x, &row, 1);
    assert_true(ops->read_f32(m->be, x, logits, N_COLS, &err));
    assert_true(ops->step_end(m->be, &err));
    assert_true(ops->read_samples(m->be, samples, sampled, &err));
}

static void test_the_same_bits(void **state)
{
    struct op_times times = {.on = true};
    struct model plain, timed;
    struct sample_result ids[2];
    float logits[2][N_COLS];
    (void)state;
    open_model(&plain, NULL);
    open_model(&timed, &times);
    assert_string_equal(plain.be->ops->name, timed.be->ops->name);
    assert_string_equal(plain.be->ops->describe(plain.be), timed.be->ops->describe(timed.be));
    assert_int_equal(plain.be->ops->kv_page_tokens(plain.be), timed.be->ops->kv_page_tokens(timed.be));
    run_step(&plain, logits[0], &ids[0]);
    run_step(&timed, logits[1], &ids[1]);
    assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
    assert_int_equal(ids[0].id, ids[1].id);
    plain.be->ops->kv_copy_page(plain.be, 0, 0, 1, N_ROWS);
    timed.be->ops->kv_copy_page(timed.be, 0, 0, 1, N_ROWS);
    assert_int_equal(plain.pool_size, timed.pool_size);
    assert_memory_equal(plain.pool, timed.pool, plain.pool_size);
    assert_true(timed.be->ops->kv_keep_sums(timed.be, &(struct error){0}));
    assert_int_equal(plain.be->ops->kv_sum(plain.be, 0, 1, 1, N_ROWS, 5, false),
                     timed.be->ops->kv_sum(timed.be, 0, 1, 1, N_ROWS, 5, true));
    close_model(&plain);
    close_model(&timed);
}

static void test_times_and_calls(void **state)
{
    static const uint64_t calls[TIMED_OP_COUNT] = {
        [TIMED_embed] = 1,   [TIMED_rows] = 1, [TIMED_linear] = 1,   [TIMED_norm] = 1,      [TIMED_add] = 3,
        [TIMED_scale] = 1,   [TIMED_rope] = 1, [TIMED_kv_write] = 1, [TIMED_attention] = 1, [TIMED_mlp_gated] = 1,
        [TIMED_softcap] = 1, [TIMED_mlp] = 1,  [TIMED_sample] = 1,
    };
    struct op_times times = {.on = false};
    struct model m;
    struct sample_result id;
    float logits[N_COLS];
    (void)state;
    open_model(&m, &times);
    run_step(&m, logits, &id);
    for (int i = 0; i < TIMED_OP_COUNT; i++)
        assert_true(times.calls[i] == 0 && times.ns[i] == 0);
    times.on = true;
    run_step(&m, logits, &id);
    run_step(&m, logits, &id);
    for (int i = 0; i < TIMED_OP_COUNT; i++) {
        if (times.calls[i] != 2 * calls[i])
            fail_msg("%s: %d calls", timed_op_name((enum timed_op)i), (int)times.calls[i]);
    }
    assert_true(times.ns[TIMED_linear] > 0 && times.ns[TIMED_mlp_gated] > 0);
    assert_string_equal(timed_op_name(TIMED_kv_write), "kv_write");
    close_model(&m);
}

/* ---- a lazy backend ---- */

static bool lazy_was_freed;

static void free_lazy(struct backend *be)
{
    (void)be;
    lazy_was_freed = true;
}

static void test_lazy_backends_are_refused(void **state)
{
    static const struct backend_ops ops = {.name = "mlx", .lazy = true, .free = free_lazy};
    struct backend lazy = {&ops};
    struct op_times times = {0};
    struct error err = {0};
    (void)state;
    assert_null(timed_backend_create(&lazy, &times, &err));
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_true(lazy_was_freed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_same_bits),
        cmocka_unit_test(test_times_and_calls),
        cmocka_unit_test(test_lazy_backends_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
