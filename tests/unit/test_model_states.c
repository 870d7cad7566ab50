/* A model whose layers keep states, in memory that fails: every allocation of its loading and of its steps in turn. A
 * load that fails says so; a step that fails leaves no state that looks like one, and its rows are computed again, from
 * the state before them where that has a page of its own, else from the beginning, to the same bits. */
#include "tests/support/failing_memory.h"

#include "tests/support/model_vectors.h"

#include "base/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PROMPT = 40, N = 70, BLOCKS = 3 };

struct bench {
    struct model_vectors vectors;
    struct random_folder *folder;
    struct model_file *file;
    struct decoder_config config;
};

static void open_bench(struct bench *b)
{
    struct error err = {0};
    *b = (struct bench){0};
    model_vectors_load(&b->vectors, "qwen3next");
    b->file = model_vectors_folder(&b->vectors, NULL, false, &b->folder);
    if (!decoder_config_read(b->file, &b->config, &err))
        fail_msg("%s", err.msg);
}

static void close_bench(struct bench *b)
{
    model_file_close(b->file);
    random_folder_free(b->folder);
    model_vectors_release(&b->vectors);
}

static struct backend *make_backend(void)
{
    struct error err = {0};
    struct backend *be = cpu_backend_create(&(struct cpu_backend_options){.n_threads = 1, .spin_us = -1}, &err);
    assert_non_null(be);
    return be;
}

/* ---- loading ---- */

static void loading_in_failing_memory(void **state)
{
    struct bench b;
    bool all = !CAN_FAIL; /* allocations have failed */
    int n_failed = 0;
    (void)state;
    open_bench(&b);
    for (long at = 0; !all; at += at < 200 ? 1 : 13) {
        struct error err = {0};
        struct backend *be = make_backend();
        struct model_load_options o = {.config = &b.config, .kv_type = KV_F16};
        n_allocations = 0;
        fail_at = at;
        struct model *m = model_load(be, b.file, &o, &err);
        all = n_allocations <= at;
        fail_at = -1;
        assert_true(m ? all : err.code == ERR_NO_MEMORY);
        n_failed += !m;
        model_free(m);
        be->ops->free(be);
    }
    assert_true(n_failed > 20 || !CAN_FAIL);
    close_bench(&b);
}

/* ---- steps ---- */

struct text {
    struct model_driver d;
    const int32_t *ids;
    float *logits; /* of the last row */
};

static void open_text(struct text *t, const struct bench *b)
{
    struct error err = {0};
    struct model_driver_options o = {
        .file = b->file, .config = &b->config, .kv_type = KV_F16, .n_threads = 1, .n_positions = 96, .n_seqs = 1};
    *t = (struct text){.ids = b->vectors.text, .logits = calloc((size_t)b->config.n_vocab, sizeof(float))};
    assert_non_null(t->logits);
    if (!model_driver_open(&t->d, &o, &err))
        fail_msg("%s", err.msg);
}

static void close_text(struct text *t)
{
    model_driver_close(&t->d);
    free(t->logits);
}

/* False: the step was refused (*begun false) or failed. */
static bool step(struct text *t, int start, int n, bool *begun)
{
    static const int32_t zero = 0;
    int32_t positions[N], last = n - 1;
    struct error err = {0};
    struct batch_seq seq = {.n_rows = n, .start = start, .n_pages = BLOCKS};
    struct batch batch = {.n_rows = n,
                          .ids = t->ids + start,
                          .positions = positions,
                          .n_seqs = 1,
                          .seqs = &seq,
                          .n_out = 1,
                          .out_rows = n > 1 ? &last : &zero};
    for (int g = 0; g < t->d.n_groups; g++)
        seq.pages[g] = t->d.tables[g];
    for (int i = 0; i < n; i++)
        positions[i] = start + i;
    *begun = t->d.be->ops->step_begin(t->d.be, &batch, &err);
    if (!*begun)
        return false;
    struct tensor *logits = model_forward(t->d.model, &batch);
    bool read = logits && t->d.be->ops->read_f32(t->d.be, logits, t->logits, (size_t)t->d.config.n_vocab, &err);
    bool ok = t->d.be->ops->step_end(t->d.be, &err);
    assert_true(ok ? read : err.code == ERR_NO_MEMORY);
    return ok;
}

static void must_step(struct text *t, int start, int n)
{
    bool begun;
    assert_true(step(t, start, n, &begun));
}

/* Rows [start, N), whose first allocations may fail; where they do, again from `from`, behind which there is a state.
 */
static bool finish(struct text *t, int start, int from, long at)
{
    bool begun, again;
    n_allocations = 0;
    fail_at = at;
    bool ok = step(t, start, N - start, &begun);
    fail_at = -1;
    if (ok)
        return true;
    /* begun: the page of the state before the rows was written over, if it is also the one behind some of them */
    bool there = step(t, start, N - start, &again);
    assert_true(again == there && there == (!begun || from == start));
    if (!there)
        must_step(t, from, N - from);
    return false;
}

/* Step memory stays from step to step, so each run has a backend that has not computed yet. */
static void check_steps(const struct bench *b, int start, int from)
{
    struct text whole;
    bool ok = !CAN_FAIL;
    int n_failed = 0;
    open_text(&whole, b);
    must_step(&whole, 0, start);
    must_step(&whole, start, N - start);
    for (long at = 0; !ok && at < 1000; at++) {
        struct text t;
        open_text(&t, b);
        if (from > 0)
            must_step(&t, 0, from);
        if (from < start)
            must_step(&t, from, start - from);
        ok = finish(&t, start, from, at);
        n_failed += !ok;
        assert_memory_equal(t.logits, whole.logits, (size_t)b->config.n_vocab * sizeof(float));
        close_text(&t);
    }
    assert_true(ok && (n_failed > 0 || !CAN_FAIL));
    close_text(&whole);
}

static void steps_in_failing_memory(void **state)
{
    struct bench b;
    (void)state;
    open_bench(&b);
    check_steps(&b, PROMPT, 32); /* in the middle of a block: the state at its beginning is left */
    check_steps(&b, PROMPT, 0);  /* or nothing */
    check_steps(&b, 32, 32);     /* at its border, where the page that is read is not written */
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loading_in_failing_memory),
        cmocka_unit_test(steps_in_failing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
