/* Perplexity, divergence and importance, worked out here once more from the logits and the weights. */
#include "model/evaluate.h"

#include "base/array.h"
#include "tests/support/model_vectors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define N 150 /* tokens of the text */

struct fixture {
    struct model_vectors v;
    struct buf bytes;
    struct model_file *file;
    struct decoder_config config;
};

static void open_fixture(struct fixture *f, const char *name)
{
    struct error err = {0};
    model_vectors_load(&f->v, name);
    f->file = model_vectors_file(&f->v, &f->bytes);
    assert_true(decoder_config_read(f->file, &f->config, &err));
    assert_true(f->v.n_text >= N);
}

static void close_fixture(struct fixture *f)
{
    model_file_close(f->file);
    buf_release(&f->bytes);
    model_vectors_release(&f->v);
}

static struct text_run *start(const struct fixture *f, enum kv_type type, int n, struct importance *importance)
{
    struct error err = {0};
    struct text_run_options o = {.file = f->file, .kv_type = type, .n_positions = n, .importance = importance};
    o.backend.kind = BACKEND_CPU;
    o.backend.cpu = (struct cpu_backend_options){.kernels = CPU_KERNELS_REFERENCE, .n_threads = 1, .spin_us = -1};
    struct text_run *r = text_run_create(&o, &err);
    if (!r)
        fail_msg("%s", err.msg);
    return r;
}

/* Logits of ids, all at once, by the test's own driver. */
static float *logits_of(const struct fixture *f, const int32_t *ids, int n)
{
    struct error err = {0};
    struct model_driver d;
    struct model_driver_options o = {.file = f->file,
                                     .kernels = CPU_KERNELS_REFERENCE,
                                     .kv_type = KV_F32,
                                     .n_threads = 1,
                                     .n_positions = n,
                                     .n_seqs = 1};
    int32_t positions[N + 1];
    float *out = malloc((size_t)n * (size_t)f->config.n_vocab * sizeof(*out));
    assert_non_null(out);
    for (int i = 0; i < n; i++)
        positions[i] = i;
    assert_true(model_driver_open(&d, &o, &err));
    model_driver_text(&d, ids, n, n, positions, n, out);
    model_driver_close(&d);
    return out;
}

static double loss_at(const float *logits, int n_vocab, int32_t target)
{
    double max = -INFINITY, sum = 0;
    for (int i = 0; i < n_vocab; i++)
        max = fmax(max, (double)logits[i]);
    for (int i = 0; i < n_vocab; i++)
        sum += exp((double)logits[i] - max);
    return max + log(sum) - (double)logits[target];
}

/* The loss of tokens [from, n) of ids. */
static double loss_of(const struct fixture *f, const int32_t *ids, int n, int from)
{
    double sum = 0;
    float *logits = logits_of(f, ids, n);
    for (int i = from; i < n; i++)
        sum += loss_at(logits + (size_t)(i - 1) * (size_t)f->config.n_vocab, f->config.n_vocab, ids[i]);
    free(logits);
    return sum;
}

static void assert_near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-5 * (1 + fabs(b))))
        fail_msg("%.9g instead of %.9g", a, b);
}

static struct evaluation evaluate(struct text_run *r, struct text_run *other, const int32_t *ids, int window,
                                  int stride, int32_t bos)
{
    struct error err = {0};
    struct evaluation e;
    struct evaluate_options o = {.window = window, .stride = stride, .bos = bos};
    if (!evaluate_text(r, other, ids, N, &o, &e, &err))
        fail_msg("%s", err.msg);
    return e;
}

static void perplexity(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, "llama-plain");
    const int32_t *ids = f.v.text;
    struct text_run *r = start(&f, KV_F32, N + 1, NULL);
    struct evaluation whole = evaluate(r, NULL, ids, N, N, -1);
    assert_int_equal(whole.n_tokens, N - 1);
    assert_int_equal(whole.n_windows, 1);
    assert_near(whole.loss, loss_of(&f, ids, N, 1) / (N - 1));
    assert_near(whole.perplexity, exp(whole.loss));
    /* windows of 100 every 50: what is new in each, the rest as context */
    struct evaluation strided = evaluate(r, NULL, ids, 100, 50, -1);
    assert_int_equal(strided.n_tokens, N - 1);
    assert_int_equal(strided.n_windows, 2);
    assert_near(strided.loss, (loss_of(&f, ids, 100, 1) + loss_of(&f, ids + 50, 100, 50)) / (N - 1));
    /* a token before each window; disjoint */
    int32_t with_bos[N + 1] = {256};
    memcpy(with_bos + 1, ids, 75 * sizeof(*ids));
    double sum = loss_of(&f, with_bos, 76, 1);
    memcpy(with_bos + 1, ids + 75, 75 * sizeof(*ids));
    sum += loss_of(&f, with_bos, 76, 1);
    struct evaluation led = evaluate(r, NULL, ids, 76, 75, 256);
    assert_int_equal(led.n_tokens, N);
    assert_near(led.loss, sum / N);
    text_run_free(r);
    close_fixture(&f);
}

static void divergence(void **state)
{
    (void)state;
    struct fixture f, g;
    open_fixture(&f, "llama-plain");
    open_fixture(&g, "llama-linear"); /* other weights, the same vocabulary */
    int n_vocab = f.config.n_vocab;
    struct text_run *a = start(&f, KV_F32, N, NULL), *b = start(&g, KV_F32, N, NULL);
    struct evaluation e = evaluate(a, b, f.v.text, N, N, -1);
    float *q = logits_of(&f, f.v.text, N), *p = logits_of(&g, f.v.text, N);
    double mean = 0, most = 0;
    for (int i = 0; i + 1 < N; i++) {
        double kl = 0;
        for (int t = 0; t < n_vocab; t++) {
            double lp = -loss_at(p + (size_t)i * (size_t)n_vocab, n_vocab, t);
            double lq = -loss_at(q + (size_t)i * (size_t)n_vocab, n_vocab, t);
            kl += exp(lp) * (lp - lq);
        }
        mean += kl / (N - 1);
        most = fmax(most, kl);
    }
    assert_true(e.compared);
    assert_near(e.kl_mean, mean);
    assert_near(e.kl_max, most);
    assert_true(e.kl_p99 <= e.kl_max && e.kl_p99 > e.kl_mean && e.same_top < 0.5);
    assert_near(e.other_loss, loss_of(&g, f.v.text, N, 1) / (N - 1));
    struct evaluation same = evaluate(a, a, f.v.text, N, N, -1);
    assert_true(same.kl_mean == 0 && same.same_top == 1);
    text_run_free(a);
    text_run_free(b);
    free(p);
    free(q);
    close_fixture(&f);
    close_fixture(&g);
}

static void refusals(void **state)
{
    (void)state;
    struct fixture f;
    struct error err = {0};
    struct evaluation e;
    open_fixture(&f, "llama-plain");
    struct text_run *r = start(&f, KV_F32, 64, NULL);
    int32_t bad[3] = {1, f.config.n_vocab, 2};
    struct evaluate_options o = {.window = 64, .stride = 64, .bos = -1}, wide = {.window = 64, .stride = 65, .bos = -1};
    assert_false(evaluate_text(r, NULL, bad, 3, &o, &e, &err));
    assert_false(evaluate_text(r, NULL, f.v.text, 1, &o, &e, &err));
    assert_false(evaluate_text(r, NULL, f.v.text, N, &wide, &e, &err));
    text_run_free(r);
    struct text_run_options too_long = {.file = f.file, .n_positions = f.config.n_context + 1};
    assert_null(text_run_create(&too_long, &err));
    close_fixture(&f);
}

/* What the first layer's projections get: embeddings, normed. */
static void importance_by_hand(void **state)
{
    (void)state;
    struct fixture f;
    struct error err = {0};
    double expected[64] = {0};
    open_fixture(&f, "llama-plain");
    assert_int_equal(f.config.n_embd, 64);
    const struct tensor_view *embd = model_file_tensor(f.file, "token_embd.weight");
    const struct tensor_view *norm = model_file_tensor(f.file, "blk.0.attn_norm.weight");
    for (int t = 0; t < 40; t++) {
        float x[64], w[64];
        double mean = 0;
        tensor_row_to_f32(embd, (uint64_t)f.v.text[t], x);
        tensor_row_to_f32(norm, 0, w);
        for (int i = 0; i < 64; i++)
            mean += (double)x[i] * (double)x[i] / 64;
        for (int i = 0; i < 64; i++) {
            double y = (double)x[i] / sqrt(mean + (double)f.config.norm_eps) * (double)w[i];
            expected[i] += y * y / 40;
        }
    }
    struct importance *m = importance_create(&f.config, &err);
    struct text_run *r = start(&f, KV_F32, 64, m);
    float *logits = malloc(40 * (size_t)f.config.n_vocab * sizeof(*logits));
    assert_true(m && logits);
    assert_true(text_run_rows(r, f.v.text, 0, 40, 40, logits, &err));
    text_run_free(r);
    static const enum model_part inputs[] = {PART_Q, PART_K, PART_V};
    for (size_t p = 0; p < ARRAY_LEN(inputs); p++) {
        const float *got = importance_of(m, inputs[p], 0, 64);
        assert_non_null(got);
        for (int i = 0; i < 64; i++)
            assert_near((double)got[i], expected[i]);
    }
    static const enum model_part parts[] = {PART_ATTN_OUT, PART_GATE, PART_UP, PART_DOWN};
    for (int layer = 0; layer < f.config.n_layers; layer++) {
        for (size_t p = 0; p < ARRAY_LEN(parts); p++) {
            size_t k = parts[p] == PART_DOWN ? (size_t)f.config.n_ff : 64;
            assert_non_null(importance_of(m, parts[p], layer, k));
        }
    }
    assert_memory_equal(importance_of(m, PART_GATE, 1, 64), importance_of(m, PART_UP, 1, 64), 64 * sizeof(float));
    importance_free(m);
    free(logits);
    close_fixture(&f);
}

/* What cannot be gathered is an error of the step, not importance with holes. */
static void importance_not_whole(void **state)
{
    (void)state;
    struct fixture f;
    struct error err = {0};
    float x[32] = {1};
    open_fixture(&f, "llama-plain");
    struct importance *m = importance_create(&f.config, &err);
    assert_true(m && importance_add(m, PART_UP, 1, x, 1, ARRAY_LEN(x))); /* of another model */
    struct text_run *r = start(&f, KV_F32, 64, m);
    float *logits = malloc(8 * (size_t)f.config.n_vocab * sizeof(*logits));
    assert_non_null(logits);
    assert_false(text_run_rows(r, f.v.text, 0, 8, 8, logits, &err));
    assert_non_null(strstr(err.msg, "not whole"));
    text_run_free(r);
    importance_free(m);
    free(logits);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(perplexity),         cmocka_unit_test(divergence),           cmocka_unit_test(refusals),
        cmocka_unit_test(importance_by_hand), cmocka_unit_test(importance_not_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
