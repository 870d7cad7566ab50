#include "tests/support/model_real.h"

#include "base/array.h"
#include "tests/support/model_vectors.h"
#include "tests/support/vocab_file.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define TOLERANCE   1e-3
#define MAX_MEAN_KL 0.005
#define MIN_TOP1    0.97
#define MAX_Q8_KL   0.002
#define N_Q8        256 /* tokens */
#define CHUNK       64  /* rows of a step, and of the logits held at a time */

struct fixture {
    struct model_vectors vectors;
    struct model_file *file;
};

static void set_up(struct fixture *f, const char *name)
{
    struct error err = {0};
    model_vectors_load(&f->vectors, name);
    char *path = real_model_path(f->vectors.name);
    assert_non_null(path);
    f->file = model_file_open(path, &err);
    if (!f->file)
        fail_msg("%s", err.msg);
    free(path);
}

static void tear_down(struct fixture *f)
{
    model_file_close(f->file);
    model_vectors_release(&f->vectors);
}

/* ---- logits ---- */

/* One kernel set beside the reference. */
struct contender {
    const char *name;
    enum cpu_kernels kernels;
    enum kv_type kv_type;
    bool open;
    struct model_driver driver;
    double kl; /* sum over positions */
    int same_top;
};

static void open_contender(struct contender *c, const struct fixture *f)
{
    struct error err = {0};
    struct model_driver_options o = {
        .file = f->file, .kernels = c->kernels, .kv_type = c->kv_type, .n_positions = f->vectors.n_text, .n_seqs = 1};
    c->open = model_driver_open(&c->driver, &o, &err);
    if (!c->open && err.code != ERR_UNSUPPORTED)
        fail_msg("%s: %s", c->name, err.msg);
    if (!c->open)
        print_message("not compared: %s: %s\n", c->name, err.msg);
}

static int best(const float *row, int n)
{
    int b = 0;
    for (int i = 1; i < n; i++) {
        if (row[i] > row[b])
            b = i;
    }
    return b;
}

static double log_sum(const float *row, int n)
{
    double max = row[best(row, n)], sum = 0;
    for (int i = 0; i < n; i++)
        sum += exp(row[i] - max);
    return max + log(sum);
}

/* Sum over tokens of p (log p - log q). */
static double divergence(const float *p, const float *q, int n)
{
    double log_p = log_sum(p, n), log_q = log_sum(q, n), sum = 0;
    for (int i = 0; i < n; i++) {
        double lp = p[i] - log_p;
        sum += exp(lp) * (lp - (q[i] - log_q));
    }
    return sum;
}

static void compare_rows(struct contender *c, const float *reference, const float *rows, int n)
{
    int n_vocab = c->driver.config.n_vocab;
    for (int i = 0; i < n; i++) {
        const float *p = reference + (size_t)i * (size_t)n_vocab, *q = rows + (size_t)i * (size_t)n_vocab;
        c->kl += divergence(p, q, n_vocab);
        c->same_top += best(p, n_vocab) == best(q, n_vocab);
    }
}

/* The stored positions among [start, start + n); returns the worst deviation. */
static double compare_stored(const struct model_vectors *v, const float *rows, int start, int n, int n_vocab)
{
    double worst = 0;
    for (int i = 0; i < v->n_at; i++) {
        const struct logits_at *at = &v->at[i];
        if (at->pos < start || at->pos >= start + n)
            continue;
        const float *row = rows + (size_t)(at->pos - start) * (size_t)n_vocab;
        worst = fmax(worst, fabs(log_sum(row, n_vocab) - at->lse));
        for (int k = 0; k < MODEL_VECTORS_TOP; k++) {
            assert_true(isfinite(row[at->ids[k]]));
            worst = fmax(worst, fabs(row[at->ids[k]] - at->values[k]));
        }
    }
    return worst / v->std;
}

/* All drivers go through the text together, so that only a chunk of logits is held. */
static double run_text(const struct model_vectors *v, struct contender *reference, struct contender *others, size_t n)
{
    int n_vocab = reference->driver.config.n_vocab;
    float *logits[2];
    int32_t out[CHUNK];
    double worst = 0;
    for (int i = 0; i < 2; i++) {
        logits[i] = malloc((size_t)CHUNK * (size_t)n_vocab * sizeof(float));
        assert_non_null(logits[i]);
    }
    for (int i = 0; i < CHUNK; i++)
        out[i] = i;
    for (int at = 0; at < v->n_text; at += CHUNK) {
        int rows = v->n_text - at < CHUNK ? v->n_text - at : CHUNK;
        struct driver_rows r = {.start = at, .n = rows, .ids = v->text + at, .out = out, .n_out = rows};
        model_driver_step(&reference->driver, &r, 1, logits[0]);
        worst = fmax(worst, compare_stored(v, logits[0], at, rows, n_vocab));
        for (size_t i = 0; i < n; i++) {
            if (!others[i].open)
                continue;
            model_driver_step(&others[i].driver, &r, 1, logits[1]);
            compare_rows(&others[i], logits[0], logits[1], rows);
        }
    }
    free(logits[0]);
    free(logits[1]);
    return worst;
}

void real_model_check_logits(const char *name)
{
    struct fixture f;
    struct contender reference = {.name = "reference f32", .kernels = CPU_KERNELS_REFERENCE, .kv_type = KV_F32};
    struct contender others[] = {
        {.name = "avx2 f16", .kernels = CPU_KERNELS_AVX2, .kv_type = KV_F16},
        {.name = "avx512 f16", .kernels = CPU_KERNELS_AVX512, .kv_type = KV_F16},
        {.name = "neon f16", .kernels = CPU_KERNELS_NEON, .kv_type = KV_F16},
        {.name = "i8mm f16", .kernels = CPU_KERNELS_I8MM, .kv_type = KV_F16},
    };
    set_up(&f, name);
    open_contender(&reference, &f);
    assert_true(reference.open);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        open_contender(&others[i], &f);
    double worst = run_text(&f.vectors, &reference, others, ARRAY_LEN(others));
    print_message("%s: %d tokens, max deviation from transformers %.2e std\n", name, f.vectors.n_text, worst);
    model_driver_close(&reference.driver);
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        double kl = others[i].kl / f.vectors.n_text, top1 = (double)others[i].same_top / f.vectors.n_text;
        if (!others[i].open)
            continue;
        print_message("%s, %s: mean KL %.6f, top-1 agreement %.2f%%\n", name, others[i].name, kl, 100 * top1);
        assert_true(kl < MAX_MEAN_KL && top1 >= MIN_TOP1);
        model_driver_close(&others[i].driver);
    }
    assert_true(worst < TOLERANCE);
    tear_down(&f);
}

void real_model_check_q8(const char *name)
{
    struct fixture f;
    struct contender reference = {.name = "f16", .kernels = CPU_KERNELS_REFERENCE, .kv_type = KV_F16};
    struct contender q8 = {.name = "q8", .kernels = CPU_KERNELS_REFERENCE, .kv_type = KV_Q8};
    set_up(&f, name);
    f.vectors.n_text = f.vectors.n_text < N_Q8 ? f.vectors.n_text : N_Q8;
    open_contender(&reference, &f);
    open_contender(&q8, &f);
    assert_true(reference.open && q8.open);
    (void)run_text(&f.vectors, &reference, &q8, 1);
    double kl = q8.kl / f.vectors.n_text;
    print_message("%s, q8 beside f16: mean KL %.6f, top-1 agreement %.2f%%\n", name, kl,
                  100.0 * q8.same_top / f.vectors.n_text);
    assert_true(kl < MAX_Q8_KL);
    model_driver_close(&reference.driver);
    model_driver_close(&q8.driver);
    tear_down(&f);
}

/* ---- greedy text ---- */

void real_model_check_greedy(const char *name)
{
    struct fixture f;
    struct model_driver d;
    struct error err = {0};
    set_up(&f, name);
    struct model_driver_options o = {.file = f.file,
                                     .kernels = CPU_KERNELS_REFERENCE,
                                     .kv_type = KV_F32,
                                     .n_positions = 512,
                                     .n_seqs = f.vectors.n_greedy};
    if (!model_driver_open(&d, &o, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(f.vectors.n_greedy, 10);
    for (int i = 0; i < f.vectors.n_greedy; i++)
        assert_true(f.vectors.greedy[i].n == 200 && f.vectors.greedy[i].n_prompt + 200 <= 512);
    int same = model_vectors_greedy(&f.vectors, &d, CHUNK);
    print_message("%s: %d of %d greedy texts of 200 tokens are equal\n", name, same, f.vectors.n_greedy);
    assert_int_equal(same, f.vectors.n_greedy);
    model_driver_close(&d);
    tear_down(&f);
}

/* ---- chunks ---- */

#define N_CHUNKED 200 /* tokens; the logits of every 8th are compared */

static void chunked_logits(const struct fixture *f, enum kv_type type, int n_threads, int chunk, float *logits)
{
    struct model_driver d;
    struct error err = {0};
    int32_t positions[N_CHUNKED / 8];
    struct model_driver_options o = {
        .file = f->file, .kv_type = type, .n_threads = n_threads, .n_positions = N_CHUNKED, .n_seqs = 1};
    for (int i = 0; i < N_CHUNKED / 8; i++)
        positions[i] = 8 * i + 7;
    if (!model_driver_open(&d, &o, &err))
        fail_msg("%s", err.msg);
    model_driver_text(&d, f->vectors.text, N_CHUNKED, chunk, positions, N_CHUNKED / 8, logits);
    model_driver_close(&d);
}

void real_model_check_chunks(const char *name, enum kv_type type)
{
    static const struct {
        int n_threads, chunk;
    } runs[] = {{1, 1}, {1, 7}, {0, 64}, {0, 33}};
    struct fixture f;
    struct decoder_config c;
    struct error err = {0};
    set_up(&f, name);
    if (!decoder_config_read(f.file, &c, &err))
        fail_msg("%s", err.msg);
    size_t size = (size_t)N_CHUNKED / 8 * (size_t)c.n_vocab * sizeof(float);
    float *whole = malloc(size), *cut = malloc(size);
    assert_true(whole && cut);
    chunked_logits(&f, type, 0, N_CHUNKED, whole);
    for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
        chunked_logits(&f, type, runs[i].n_threads, runs[i].chunk, cut);
        if (memcmp(whole, cut, size) != 0)
            fail_msg("%s: other bits with %d threads (0: all) and chunks of %d", name, runs[i].n_threads,
                     runs[i].chunk);
    }
    free(whole);
    free(cut);
    tear_down(&f);
}

/* ---- as tests ---- */

static void logits_test(void **state)
{
    real_model_check_logits(*state);
}

static void greedy_test(void **state)
{
    real_model_check_greedy(*state);
}

static void chunks_test(void **state)
{
    real_model_check_chunks(*state, KV_F16);
}

static void chunks_q8_test(void **state)
{
    real_model_check_chunks(*state, KV_Q8);
}

static void q8_test(void **state)
{
    real_model_check_q8(*state);
}

static bool model_is_there(const char *name)
{
    struct model_vectors v;
    model_vectors_load(&v, name);
    char *path = real_model_path(v.name);
    if (!path)
        printf("skip: %s is not there; `make models` brings it\n", v.name);
    free(path);
    model_vectors_release(&v);
    return path != NULL;
}

int real_model_main(const char *name)
{
    const struct CMUnitTest tests[] = {
        {"logits", logits_test, NULL, NULL, (void *)name}, {"greedy text", greedy_test, NULL, NULL, (void *)name},
        {"chunks", chunks_test, NULL, NULL, (void *)name}, {"chunks q8", chunks_q8_test, NULL, NULL, (void *)name},
        {"q8", q8_test, NULL, NULL, (void *)name},
    };
    return model_is_there(name) ? cmocka_run_group_tests_name(name, tests, NULL, NULL) : 77;
}
