/* Small random models of each family against transformers: with reference kernels and f32 KV every stored logit within
 * 1e-3 of the logits' standard deviation, greedy text equal, whatever the chunks of the prefill. */
#include "tests/support/model_vectors.h"
#include "tests/support/random_model.h"

#include "base/array.h"
#include "base/limits.h"
#include "tensor/gguf_writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define TOLERANCE 1e-3

struct fixture {
    struct model_vectors vectors;
    struct buf bytes;             /* of a GGUF file */
    struct random_folder *folder; /* or a folder */
    struct model_file *file;
};

static void set_up(struct fixture *f, const char *name)
{
    model_vectors_load(&f->vectors, name);
    f->file = model_vectors_file(&f->vectors, &f->bytes);
}

static void tear_down_folder(struct fixture *f)
{
    model_file_close(f->file);
    random_folder_free(f->folder);
    model_vectors_release(&f->vectors);
}

static void tear_down(struct fixture *f)
{
    model_file_close(f->file);
    buf_release(&f->bytes);
    model_vectors_release(&f->vectors);
}

static void open_driver(struct model_driver *d, const struct fixture *f, const struct decoder_config *config)
{
    struct error err = {0};
    struct model_driver_options o = {.file = f->file,
                                     .config = config,
                                     .kernels = CPU_KERNELS_REFERENCE,
                                     .kv_type = KV_F32,
                                     .n_threads = 1,
                                     .n_positions = model_vectors_max_positions(&f->vectors),
                                     .n_seqs = f->vectors.n_greedy};
    if (!model_driver_open(d, &o, &err))
        fail_msg("%s", err.msg);
}

/* What makes the vectors worth comparing with: spread logits, texts beyond windows and trained contexts. Of LongRoPE
 * there is one within, for the other set of factors. */
static void check_vectors(const struct model_vectors *v, const struct decoder_config *c)
{
    assert_true(v->std >= 2);
    assert_true(v->n_text > 2 * c->window);
    assert_true(v->n_text > 2 * c->rope.scaling.original_context || strcmp(v->name, "phi3-short") == 0);
    assert_int_equal(v->n_at, 32);
    for (int i = 0; i < v->n_greedy; i++)
        assert_int_equal(v->greedy[i].n, v->greedy[i].n_output);
}

static void check_model(const struct fixture *f, const char *what)
{
    struct model_driver d;
    open_driver(&d, f, NULL);
    check_vectors(&f->vectors, &d.config);
    double deviation = model_vectors_deviation(&f->vectors, &d, f->vectors.n_text);
    print_message("%s, %s: max deviation %.2e std\n", f->vectors.name, what, deviation);
    assert_true(deviation < TOLERANCE);
    assert_true(model_vectors_deviation(&f->vectors, &d, 7) == deviation); /* the same bits */
    assert_int_equal(model_vectors_greedy(&f->vectors, &d, 7), f->vectors.n_greedy);
    model_driver_close(&d);
}

static void gguf_equals_transformers(void **state)
{
    struct fixture f;
    set_up(&f, *state);
    check_model(&f, "GGUF");
    tear_down(&f);
}

static void folder_equals_transformers(void **state)
{
    static const char *const layouts[] = {"each", "fused", "switch"};
    struct fixture f = {0};
    struct decoder_config c;
    struct error err = {0};
    int n = 1;
    for (int i = 0; i < n; i++) {
        model_vectors_load(&f.vectors, *state);
        f.file = model_vectors_folder(&f.vectors, layouts[i], false, &f.folder);
        if (!decoder_config_read(f.file, &c, &err))
            fail_msg("%s", err.msg);
        n = c.n_experts > 0 ? 3 : 1;
        check_model(&f, n > 1 ? layouts[i] : "folder");
        tear_down_folder(&f);
    }
}

/* The text model of a multimodal one. */
static void wrapped_equals_transformers(void **state)
{
    static const char *const names[] = {"gemma3", "gemma3n"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct fixture f = {0};
        model_vectors_load(&f.vectors, names[i]);
        f.file = model_vectors_folder(&f.vectors, NULL, true, &f.folder);
        check_model(&f, "wrapped");
        tear_down_folder(&f);
    }
}

/* The GGUF file with what the folder has in one tensor in one, as the first conversions have it. */
static void interleave(const struct model_file *from, const struct model_file *folder, struct buf *out)
{
    struct error err = {0};
    struct gguf_writer *w = gguf_writer_create();
    assert_non_null(w);
    copy_meta(w, from, "");
    for (size_t i = 0; i < model_file_n_tensors(from); i++) {
        const struct tensor_view *t = model_file_tensor_at(from, i);
        char name[96], theirs[96];
        int layer;
        snprintf(name, sizeof(name), STR_FMT, STR_ARG(t->name));
        if (strstr(name, ".attn_gate."))
            continue;
        if (strstr(name, ".attn_qkv.") && sscanf(name, "blk.%d.", &layer) == 1) {
            snprintf(theirs, sizeof(theirs), "model.layers.%d.linear_attn.in_proj_qkvz.weight", layer);
            snprintf(name, sizeof(name), "blk.%d.ssm_in.weight", layer);
            t = model_file_tensor(folder, theirs);
            assert_non_null(t);
        }
        struct gguf_tensor same = {.name = name, .type = t->type, .n_dims = t->n_dims, .data = t->data};
        memcpy(same.shape, t->shape, sizeof(same.shape));
        gguf_add_tensor(w, &same);
    }
    buf_init(out, MIB(64));
    if (!gguf_write_buf(w, out, &err))
        fail_msg("%s", err.msg);
    gguf_writer_free(w);
}

static void interleaved_equals_transformers(void **state)
{
    struct fixture f, g = {0};
    struct error err = {0};
    struct buf bytes;
    (void)state;
    set_up(&f, "qwen3next");
    model_vectors_load(&g.vectors, "qwen3next");
    g.file = model_vectors_folder(&g.vectors, NULL, false, &g.folder);
    interleave(f.file, g.file, &bytes);
    tear_down_folder(&g);
    model_file_close(f.file);
    f.file = model_file_open_memory(bytes.data, bytes.len, &err);
    if (!f.file)
        fail_msg("%s", err.msg);
    check_model(&f, "GGUF, interleaved");
    tear_down(&f);
    buf_release(&bytes);
}

/* Llama 3's scaling from its parameters instead of the tensor that GGUF files carry. */
static void scaling_option_equals_transformers(void **state)
{
    (void)state;
    struct fixture f;
    struct model_driver d;
    struct decoder_config c;
    struct error err = {0};
    set_up(&f, "llama-llama3");
    if (!decoder_config_read(f.file, &c, &err))
        fail_msg("%s", err.msg);
    assert_true(c.rope_freq_factors);
    c.n_context /= 8; /* the option extends the trained context */
    if (!decoder_config_rope_scaling(&c, f.vectors.rope_scaling, &err))
        fail_msg("%s", err.msg);
    open_driver(&d, &f, &c);
    check_vectors(&f.vectors, &c);
    double deviation = model_vectors_deviation(&f.vectors, &d, 64);
    print_message("%s by %s: max deviation %.2e std\n", f.vectors.name, f.vectors.rope_scaling, deviation);
    assert_true(deviation < TOLERANCE);
    model_driver_close(&d);
    tear_down(&f);
}

/* ---- what model_load refuses ---- */

static void assert_refused(const struct model_file *file, const struct decoder_config *c, const char *needle)
{
    struct error err = {0};
    struct backend *be =
        cpu_backend_create(&(struct cpu_backend_options){.kernels = CPU_KERNELS_REFERENCE, .n_threads = 1}, &err);
    assert_non_null(be);
    struct model *m = model_load(be, file, &(struct model_load_options){.config = c, .kv_type = KV_F32}, &err);
    assert_null(m);
    if (err.code != ERR_FORMAT || !strstr(err.msg, needle))
        fail_msg("%d %s", err.code, err.msg);
    be->ops->free(be);
}

static void wrong_tensors_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    struct decoder_config right, c;
    struct error err = {0};
    set_up(&f, "qwen3");
    if (!decoder_config_read(f.file, &right, &err))
        fail_msg("%s", err.msg);
    c = right;
    c.n_layers++;
    assert_refused(f.file, &c, "blk.4.attn_norm.weight is missing");
    c.n_layers -= 2;
    assert_refused(f.file, &c, "'blk.3.");
    c = right;
    c.n_ff++;
    assert_refused(f.file, &c, "97 by 64");
    c = right;
    c.n_vocab--;
    assert_refused(f.file, &c, "token_embd.weight");
    c = right;
    c.k_dim *= 2;
    assert_refused(f.file, &c, "blk.0.attn_q.weight");
    c = right;
    c.qkv_bias = true;
    assert_refused(f.file, &c, "blk.0.attn_q.bias is missing");
    c = right;
    c.tied_embeddings = true;
    assert_refused(f.file, &c, "'output.weight'");
    c = right;
    c.rope_freq_factors = true;
    assert_refused(f.file, &c, "rope_freqs.weight");
    tear_down(&f);
}

/* Layers that use K and V of others may have some of their own, or none. */
static void shared_kv_is_needed_once(void **state)
{
    static const char *const tensors[] = {"attn_k.", "attn_v.", "attn_k_norm."};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct fixture f = {0};
        struct model_driver d;
        model_vectors_load(&f.vectors, "gemma3n");
        f.file = model_vectors_file_without(&f.vectors, 5, tensors[i], &f.bytes);
        open_driver(&d, &f, NULL);
        assert_true(model_vectors_deviation(&f.vectors, &d, f.vectors.n_text) < TOLERANCE);
        struct decoder_config c = d.config;
        model_driver_close(&d);
        c.n_kv_shared = 0;
        assert_refused(f.file, &c, tensors[i]);
        tear_down(&f);
    }
}

static void factors_are_checked(void **state)
{
    (void)state;
    struct fixture f;
    struct decoder_config c;
    struct error err = {0};
    model_vectors_load(&f.vectors, "llama-llama3");
    f.vectors.rope_freqs[3] = 0;
    f.file = model_vectors_file(&f.vectors, &f.bytes);
    if (!decoder_config_read(f.file, &c, &err))
        fail_msg("%s", err.msg);
    assert_refused(f.file, &c, "Entry 3");
    c.rot_dim -= 2;
    assert_refused(f.file, &c, "vector of 15");
    tear_down(&f);
}

/* n_out 0 fills the pages and gives no logits; the logits after it are those of one prefill. */
static void check_without_output(const char *name)
{
    struct fixture f;
    struct model_driver d;
    set_up(&f, name);
    open_driver(&d, &f, NULL);
    size_t n_vocab = (size_t)d.config.n_vocab;
    const int32_t last = f.vectors.n_text - 1, first = 0;
    float *whole = malloc(2 * n_vocab * sizeof(*whole)), *split = whole + n_vocab;
    assert_non_null(whole);
    model_driver_text(&d, f.vectors.text, f.vectors.n_text, f.vectors.n_text, &last, 1, whole);
    struct driver_rows r = {.n = last, .ids = f.vectors.text};
    model_driver_step(&d, &r, 1, NULL);
    r = (struct driver_rows){.start = last, .n = 1, .ids = f.vectors.text + last, .out = &first, .n_out = 1};
    model_driver_step(&d, &r, 1, split);
    assert_memory_equal(whole, split, n_vocab * sizeof(*whole));
    free(whole);
    model_driver_close(&d);
    tear_down(&f);
}

static void steps_without_output_fill_pages(void **state)
{
    (void)state;
    check_without_output("gemma3");
    check_without_output("gemma3n"); /* layers behind the last K and V are left out */
    check_without_output("qwen3next");
}

int main(void)
{
    const struct CMUnitTest others[] = {
        cmocka_unit_test(wrapped_equals_transformers),     cmocka_unit_test(scaling_option_equals_transformers),
        cmocka_unit_test(wrong_tensors_are_refused),       cmocka_unit_test(factors_are_checked),
        cmocka_unit_test(steps_without_output_fill_pages), cmocka_unit_test(shared_kv_is_needed_once),
        cmocka_unit_test(interleaved_equals_transformers),
    };
    struct CMUnitTest tests[2 * MODEL_VECTORS_MAX_RANDOM];
    size_t n = 0;
    for (const char *name; (name = model_vectors_random(n / 2)) != NULL; n += 2) {
        void *state = (void *)(uintptr_t)name;
        tests[n] = (struct CMUnitTest){name, gguf_equals_transformers, NULL, NULL, state};
        tests[n + 1] = (struct CMUnitTest){name, folder_equals_transformers, NULL, NULL, state};
    }
    int failed = _cmocka_run_group_tests("random models", tests, n, NULL, NULL);
    return failed + cmocka_run_group_tests(others, NULL, NULL);
}
