/* Every random model, written from each container into the other one, is what it is there; and what quantization makes
 * of one. */
#include "model/export.h"
#include "model/model_internal.h"

#include "base/array.h"
#include "base/limits.h"
#include "base/sys_file.h"
#include "tests/support/model_vectors.h"
#include "tests/support/random_model.h"
#include "tests/support/temp_dir.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct pool *pool;

static int make_pool(void **state)
{
    struct error err = {0};
    (void)state;
    pool = pool_create(&(struct pool_options){.n_threads = 2}, &err);
    return pool ? 0 : -1;
}

static int free_pool(void **state)
{
    (void)state;
    pool_free(pool);
    return 0;
}

/* The tokenizer's part of the GGUF file that the folder's twin is. */
static bool copy_tokenizer(void *arg, struct gguf_writer *w, int n_vocab, struct error *err)
{
    const struct model_file *from = arg;
    (void)n_vocab;
    (void)err;
    copy_meta(w, from, "tokenizer.");
    return true;
}

static void compare_tensor(const struct model_file *a, const struct tensor_view *expected, double tolerance,
                           const char *model)
{
    char name[256];
    snprintf(name, sizeof(name), STR_FMT, STR_ARG(expected->name));
    const struct tensor_view *got = model_file_tensor(a, name);
    if (!got)
        fail_msg("%s: no tensor %s", model, name);
    assert_int_equal(got->n_dims, expected->n_dims);
    struct tensor_view x = tensor_as_matrix(got), y = tensor_as_matrix(expected);
    uint64_t k = got->shape[got->n_dims - 1], rows = got->n_dims == 1 ? 1 : x.shape[0];
    bool padded = strstr(name, "per_layer_token_embd") && x.shape[0] > y.shape[0];
    assert_true(k == expected->shape[got->n_dims - 1] && (padded || x.shape[0] == y.shape[0]));
    float *p = calloc(k, sizeof(*p)), *q = calloc(k, sizeof(*q));
    assert_true(p && q);
    for (uint64_t r = 0; r < rows; r++) {
        tensor_row_to_f32(got->n_dims == 1 ? got : &x, r, p);
        /* tokens without per-layer inputs have the first one's */
        tensor_row_to_f32(got->n_dims == 1 ? expected : &y, padded && r >= y.shape[0] ? 0 : r, q);
        for (uint64_t i = 0; i < k; i++) {
            if (!(fabs((double)p[i] - (double)q[i]) <= tolerance * (1 + fabs((double)q[i]))))
                fail_msg("%s: %s[%d][%d] is %g instead of %g", model, name, (int)r, (int)i, (double)p[i], (double)q[i]);
        }
    }
    free(p);
    free(q);
}

static void compare_files(const char *path, const struct model_file *expected, const char *model)
{
    struct error err = {0};
    struct model_file *got = model_file_open(path, &err);
    if (!got)
        fail_msg("%s: %s", model, err.msg);
    assert_int_equal(model_file_n_tensors(got), model_file_n_tensors(expected));
    for (size_t i = 0; i < model_file_n_tensors(expected); i++)
        compare_tensor(got, model_file_tensor_at(expected, i), 3e-7, model);
    model_file_close(got);
}

static bool is_listed(const char *const *list, const char *model)
{
    for (size_t i = 0; list[i]; i++) {
        if (strcmp(list[i], model) == 0)
            return true;
    }
    return false;
}

/* Experts and latents that a file holds otherwise than in rows are said too. */
static const char *const no_files[] = {"gpt-oss", "deepseek2", "deepseek3", "llama4", NULL};

static void to_gguf(const struct model_file *folder, const struct model_file *gguf, const char *model)
{
    struct error err = {0};
    struct temp_dir dir;
    temp_dir_make(&dir);
    char *path = temp_dir_file(&dir, "out.gguf");
    struct export_options o = {
        .container = EXPORT_GGUF, .pool = pool, .tokenizer = copy_tokenizer, .arg = (void *)gguf};
    bool ok = export_write(folder, path, &o, &err);
    if (ok == is_listed(no_files, model))
        fail_msg("%s: %s", model, ok ? "written" : err.msg);
    if (ok)
        compare_files(path, gguf, model);
    else
        assert_int_equal(err.code, ERR_UNSUPPORTED);
    free(path);
    temp_dir_remove(&dir);
}

/* What a folder's config.json cannot be given is said: Llama 3's scaling of RoPE, of which GGUF has the divisors only,
 * norms with a tensor for each head, Q, K and V by KV head, and what families make of other numbers. */
static const char *const no_folders[] = {
    "llama-llama3", "exaone4",   "cohere-qk-norm", "stablelm-parallel", "internlm2", "minicpm", "gpt-oss", "deepseek2",
    "deepseek3",    "ernie-moe", "llama4",         "lfm2moe",           NULL};

static void to_folder(const struct model_file *gguf, const struct model_file *folder, const char *model)
{
    struct error err = {0};
    struct temp_dir dir;
    temp_dir_make(&dir);
    struct export_options o = {.container = EXPORT_FOLDER, .pool = pool};
    bool ok = export_write(gguf, dir.path, &o, &err);
    if (ok == is_listed(no_folders, model))
        fail_msg("%s: %s", model, ok ? "written" : err.msg);
    if (ok)
        compare_files(dir.path, folder, model);
    else
        assert_int_equal(err.code, ERR_UNSUPPORTED);
    temp_dir_remove(&dir);
}

static void both_ways(void **state)
{
    (void)state;
    const char *name;
    for (size_t i = 0; (name = model_vectors_random(i)) != NULL; i++) {
        static const char *const layouts[] = {"each", "fused", "switch"};
        struct model_vectors v;
        struct buf bytes;
        model_vectors_load(&v, name);
        struct model_file *gguf = model_vectors_file(&v, &bytes);
        struct decoder_config c;
        struct error err = {0};
        assert_true(decoder_config_read(gguf, &c, &err));
        for (size_t k = c.n_experts ? 0 : 2; k < ARRAY_LEN(layouts); k++) {
            struct random_folder *files;
            struct model_file *folder = model_vectors_folder(&v, layouts[k], false, &files);
            to_gguf(folder, gguf, name);
            if (k == 2) /* what is written has experts as MLX has them */
                to_folder(gguf, folder, name);
            model_file_close(folder);
            random_folder_free(files);
            if (k < 2)
                continue;
            folder = model_vectors_folder(&v, layouts[k], true, &files); /* inside of a multimodal model */
            to_gguf(folder, gguf, name);
            model_file_close(folder);
            random_folder_free(files);
        }
        model_file_close(gguf);
        buf_release(&bytes);
        model_vectors_release(&v);
    }
}

/* Written anew in its own container it is what it was, under the same names. */
static const char *const no_gguf_copies[] = {"gpt-oss", "deepseek2", "deepseek3", NULL};
static const char *const no_folder_copies[] = {"gpt-oss", "deepseek2", "deepseek3", "ernie-moe", "lfm2moe", NULL};

static void copy(const struct model_file *from, bool folder, const struct model_file *expected, const char *model)
{
    struct error err = {0};
    struct temp_dir dir;
    temp_dir_make(&dir);
    struct export_options o = {.container = folder ? EXPORT_FOLDER : EXPORT_GGUF, .pool = pool};
    char *path = folder ? strdup(dir.path) : temp_dir_file(&dir, "out.gguf");
    bool ok = export_write(from, path, &o, &err);
    if (ok == is_listed(folder ? no_folder_copies : no_gguf_copies, model))
        fail_msg("%s: %s", model, ok ? "written" : err.msg);
    if (ok)
        compare_files(path, expected, model);
    else
        assert_int_equal(err.code, ERR_UNSUPPORTED);
    free(path);
    temp_dir_remove(&dir);
}

static void same_container(void **state)
{
    (void)state;
    const char *name;
    for (size_t i = 0; (name = model_vectors_random(i)) != NULL; i++) {
        struct model_vectors v;
        struct buf bytes;
        struct random_folder *files;
        model_vectors_load(&v, name);
        struct model_file *gguf = model_vectors_file(&v, &bytes);
        struct model_file *folder = model_vectors_folder(&v, "switch", false, &files);
        copy(gguf, false, gguf, name);
        copy(folder, true, folder, name);
        model_file_close(folder);
        random_folder_free(files);
        model_file_close(gguf);
        buf_release(&bytes);
        model_vectors_release(&v);
    }
}

/* Each matrix of a stack by itself. */
static void add_expert_tensors(struct gguf_writer *w, const struct tensor_view *t, int layer, const char *kind)
{
    uint64_t block = t->shape[1] * t->shape[2];
    for (uint64_t e = 0; e < t->shape[0]; e++) {
        char name[96];
        snprintf(name, sizeof(name), "blk.%d.ffn_%s.%d.weight", layer, kind, (int)e);
        gguf_add_tensor(w, &(struct gguf_tensor){.name = name,
                                                 .type = DTYPE_F32,
                                                 .n_dims = 2,
                                                 .shape = {t->shape[1], t->shape[2]},
                                                 .data = (const float *)t->data + e * block});
    }
}

static void fuse_half(float *fused, const struct tensor_view *t, int half)
{
    uint64_t block = t->shape[1] * t->shape[2];
    for (uint64_t e = 0; e < t->shape[0]; e++)
        memcpy(fused + (2 * e + (uint64_t)half) * block, (const float *)t->data + e * block, block * sizeof(float));
}

/* The file with experts under other names: each by itself, or gate and up of an expert together. */
static void regroup(const struct model_file *from, bool fused, struct buf *out)
{
    struct error err = {0};
    struct gguf_writer *w = gguf_writer_create();
    float *kept[64] = {NULL};
    int n_kept = 0;
    assert_non_null(w);
    copy_meta(w, from, "");
    for (size_t i = 0; i < model_file_n_tensors(from); i++) {
        const struct tensor_view *t = model_file_tensor_at(from, i);
        char name[96], kind[16];
        int layer, end = 0;
        snprintf(name, sizeof(name), STR_FMT, STR_ARG(t->name));
        bool experts = sscanf(name, "blk.%d.ffn_%15[a-z]_exps.weight%n", &layer, kind, &end) == 2 && end > 0;
        struct gguf_tensor same = {.name = name, .type = t->type, .n_dims = t->n_dims, .data = t->data};
        memcpy(same.shape, t->shape, sizeof(same.shape));
        assert_true(!experts || t->type == DTYPE_F32);
        if (!experts || (fused && strcmp(kind, "down") == 0)) {
            gguf_add_tensor(w, &same);
        } else if (!fused) {
            add_expert_tensors(w, t, layer, kind);
        } else if (strcmp(kind, "gate") == 0) {
            char up[96];
            snprintf(up, sizeof(up), "blk.%d.ffn_up_exps.weight", layer);
            float *both = malloc(2 * t->shape[0] * t->shape[1] * t->shape[2] * sizeof(*both));
            assert_true(both && n_kept < 64 && model_file_tensor(from, up));
            kept[n_kept++] = both;
            fuse_half(both, t, 0);
            fuse_half(both, model_file_tensor(from, up), 1);
            snprintf(name, sizeof(name), "blk.%d.ffn_gate_up_exps.weight", layer);
            same.data = both;
            same.shape[1] *= 2;
            gguf_add_tensor(w, &same);
        }
    }
    buf_init(out, MIB(64));
    if (!gguf_write_buf(w, out, &err))
        fail_msg("%s", err.msg);
    gguf_writer_free(w);
    while (n_kept)
        free(kept[--n_kept]);
}

static void other_stacks(void **state)
{
    (void)state;
    struct error err = {0};
    struct model_vectors v;
    struct buf bytes, other;
    model_vectors_load(&v, "mixtral");
    struct model_file *stacked = model_vectors_file(&v, &bytes);
    for (int fused = 0; fused < 2; fused++) {
        regroup(stacked, fused, &other);
        struct model_file *from = model_file_open_memory(other.data, other.len, &err);
        if (!from)
            fail_msg("%s", err.msg);
        copy(from, false, fused ? from : stacked, fused ? "gate and up together" : "expert by expert");
        model_file_close(from);
        buf_release(&other);
    }
    model_file_close(stacked);
    buf_release(&bytes);
    model_vectors_release(&v);
}

/* Readers of folders end a text at what config.json says, and at nothing else. */
static void all_ends(void **state)
{
    (void)state;
    static const char *const given[] = {"tokenizer.ggml.eos_token_id=int:3", "tokenizer.ggml.eot_token_id=int:5",
                                        "tokenizer.ggml.eom_token_id=int:3"};
    struct error err = {0};
    struct model_vectors v;
    struct buf bytes;
    struct temp_dir dir;
    int64_t id;
    model_vectors_load(&v, "llama-plain");
    temp_dir_make(&dir);
    struct model_file *gguf = model_vectors_file(&v, &bytes);
    for (size_t i = 0; i < ARRAY_LEN(given); i++)
        assert_true(model_file_override(gguf, given[i], &err));
    struct export_options o = {.container = EXPORT_FOLDER, .pool = pool};
    assert_true(export_write(gguf, dir.path, &o, &err));
    struct model_file *folder = model_file_open(dir.path, &err);
    assert_non_null(folder);
    struct meta_value ends = meta_get(folder, "config.eos_token_id");
    assert_true(ends.type == META_ARRAY && ends.n == 2);
    assert_true(meta_array_int(&ends, 0, &id) && id == 3);
    assert_true(meta_array_int(&ends, 1, &id) && id == 5);
    model_file_close(folder);
    temp_dir_remove(&dir);
    model_file_close(gguf);
    buf_release(&bytes);
    model_vectors_release(&v);
}

/* The same value twice: what is written then is no model. */
static bool spoil(void *arg, struct gguf_writer *w, int n_vocab, struct error *err)
{
    gguf_put_int(w, "llama.block_count", GGUF_U32, 1);
    return copy_tokenizer(arg, w, n_vocab, err);
}

static void what_is_there_stays(void **state)
{
    (void)state;
    struct error err = {0};
    struct model_vectors v;
    struct random_folder *files;
    struct buf bytes, kept;
    struct temp_dir dir;
    model_vectors_load(&v, "llama-plain");
    temp_dir_make(&dir);
    char *path = temp_dir_file(&dir, "out.gguf");
    struct model_file *gguf = model_vectors_file(&v, &bytes);
    struct model_file *folder = model_vectors_folder(&v, NULL, false, &files);
    struct export_options o = {.container = EXPORT_GGUF, .pool = pool, .tokenizer = spoil, .arg = gguf};
    assert_true(file_write_atomic(path, STR("what was there"), &err));
    assert_false(export_write(folder, path, &o, &err));
    assert_true(file_read(path, 100, &kept, &err));
    assert_true(str_eq(buf_view(&kept), STR("what was there")));
    buf_release(&kept);
    free(path);
    path = temp_dir_file(&dir, "out.gguf.unchecked");
    assert_false(file_exists(path));
    free(path);
    temp_dir_remove(&dir);
    model_file_close(folder);
    random_folder_free(files);
    model_file_close(gguf);
    buf_release(&bytes);
    model_vectors_release(&v);
}

/* ---- quantization ---- */

struct made {
    struct model_vectors v;
    struct buf bytes;
    struct model_file *file;
};

static void make(struct made *m, const char *name)
{
    model_vectors_load(&m->v, name);
    m->file = model_vectors_file(&m->v, &m->bytes);
}

static void drop(struct made *m)
{
    model_file_close(m->file);
    buf_release(&m->bytes);
    model_vectors_release(&m->v);
}

static enum dtype type_of(const struct model_file *f, const char *name)
{
    const struct tensor_view *t = model_file_tensor(f, name);
    assert_non_null(t);
    return t->type;
}

static struct model_file *quantized(const struct model_file *from, const struct temp_dir *dir, bool folder,
                                    const char *precision, const struct importance *importance)
{
    struct error err = {0};
    struct export_options o = {
        .container = folder ? EXPORT_FOLDER : EXPORT_GGUF, .pool = pool, .importance = importance};
    char *path = folder ? strdup(dir->path) : temp_dir_file(dir, "q.gguf");
    uint64_t size;
    assert_true(precision_parse(precision, &o.precision, &err));
    if (!export_write(from, path, &o, &err) || !export_size(from, o.container, o.precision, &size, &err))
        fail_msg("%s: %s", precision, err.msg);
    struct model_file *out = model_file_open(path, &err);
    if (!out)
        fail_msg("%s", err.msg);
    uint64_t stored = 0;
    for (size_t i = 0; i < model_file_n_tensors(out); i++) {
        const struct tensor_view *t = model_file_tensor_at(out, i);
        struct tensor_view m = tensor_as_matrix(t);
        bool known = !str_starts(t->name, STR("rope_"));
        stored +=
            known ? t->size + (t->type == DTYPE_GROUPED ? group_scales_size(&t->quant, m.shape[0], m.shape[1]) : 0) : 0;
    }
    assert_true(stored == size);
    free(path);
    return out;
}

static bool stop_early(void *arg, double fraction)
{
    int *calls = arg;
    assert_true(fraction > 0 && fraction < 1);
    return ++*calls < 3;
}

/* What every layer hangs on keeps more bits than the layers; coefficients stay floats, in their two axes. */
static void streams_keep_more(void **state)
{
    static const struct {
        const char *name;
        enum dtype gguf;
        int bits; /* of the folder's groups; 0: floats */
    } tensors[] = {
        {"per_layer_token_embd.weight", DTYPE_Q8_0, 6},
        {"per_layer_model_proj.weight", DTYPE_Q8_0, 6},
        {"altup_proj.weight", DTYPE_Q8_0, 6},
        {"altup_unembd_proj.weight", DTYPE_Q8_0, 6},
        {"blk.1.altup_router.weight", DTYPE_F32, 0},
        {"blk.1.altup_predict_coef.weight", DTYPE_F32, 0},
        {"blk.1.altup_correct_coef.weight", DTYPE_F32, 0},
        {"blk.1.laurel_l.weight", DTYPE_Q8_0, 6},
        {"blk.1.inp_gate.weight", DTYPE_Q4_1, 4},
        {"blk.1.ffn_up.weight", DTYPE_Q4_1, 4},
    };
    struct made m;
    (void)state;
    make(&m, "gemma3n");
    struct temp_dir dir, folder_dir;
    temp_dir_make(&dir);
    temp_dir_make(&folder_dir);
    struct model_file *gguf = quantized(m.file, &dir, false, "4", NULL);
    struct model_file *folder = quantized(m.file, &folder_dir, true, "4", NULL);
    const struct decoder_family *family = decoder_family_find(STR("gemma3n"));
    struct weight_names ours = weight_names_of(family, gguf), theirs = weight_names_of(family, folder);
    for (size_t i = 0; i < ARRAY_LEN(tensors); i++) {
        int layer, expert;
        char name[192];
        if (type_of(gguf, tensors[i].name) != tensors[i].gguf)
            fail_msg("%s is %s", tensors[i].name, dtype_info(type_of(gguf, tensors[i].name))->name);
        const struct weight_row *row = weight_name_parse(&ours, str_of(tensors[i].name), &layer, &expert);
        assert_non_null(row);
        row = weight_row(&theirs, row->parts[0], 0);
        const struct tensor_view *t =
            model_file_tensor(folder, weight_name(&theirs, row, layer, 0, name, sizeof(name)));
        assert_non_null(t);
        if ((t->type == DTYPE_GROUPED ? t->quant.bits : 0) != tensors[i].bits)
            fail_msg("%s: %d bits", name, t->type == DTYPE_GROUPED ? t->quant.bits : 0);
    }
    const struct tensor_view *coefs = model_file_tensor(gguf, "blk.1.altup_predict_coef.weight");
    assert_true(coefs->n_dims == 2 && coefs->shape[0] == 16 && coefs->shape[1] == 4);
    model_file_close(gguf);
    model_file_close(folder);
    temp_dir_remove(&dir);
    temp_dir_remove(&folder_dir);
    drop(&m);
}

static void nothing_appears_of_what_is_stopped(void **state)
{
    (void)state;
    struct made m;
    struct temp_dir dir;
    struct error err = {0};
    int calls = 0;
    make(&m, "llama-plain");
    temp_dir_make(&dir);
    char *path = temp_dir_file(&dir, "q.gguf");
    struct export_options o = {.container = EXPORT_GGUF, .pool = pool, .progress = stop_early, .arg = &calls};
    assert_true(precision_parse("8", &o.precision, &err));
    assert_false(export_write(m.file, path, &o, &err));
    assert_int_equal(err.code, ERR_CANCELLED);
    assert_int_equal(calls, 3);
    assert_false(file_exists(path));
    free(path);
    temp_dir_remove(&dir);
    drop(&m);
}

static void rule_of_gguf(void **state)
{
    (void)state;
    struct made m;
    struct temp_dir dir;
    make(&m, "llama-plain"); /* rows of 64 and 96: no K blocks */
    temp_dir_make(&dir);
    struct model_file *q = quantized(m.file, &dir, false, "4", NULL);
    assert_int_equal(type_of(q, "token_embd.weight"), DTYPE_Q8_0);
    assert_int_equal(type_of(q, "blk.0.attn_q.weight"), DTYPE_Q4_1);
    assert_int_equal(type_of(q, "blk.0.attn_v.weight"), DTYPE_Q8_0);
    assert_int_equal(type_of(q, "blk.0.attn_norm.weight"), DTYPE_F32);
    assert_int_equal(type_of(q, "blk.2.ffn_down.weight"), DTYPE_Q8_0);
    assert_int_equal(type_of(q, "blk.1.ffn_down.weight"), DTYPE_Q4_1);
    compare_tensor(q, model_file_tensor(m.file, "blk.0.attn_q.weight"), 0.08, "q4_1");
    compare_tensor(q, model_file_tensor(m.file, "blk.0.attn_v.weight"), 0.01, "q8_0");
    model_file_close(q);
    temp_dir_remove(&dir);
    drop(&m);
}

static void rule_of_folder(void **state)
{
    (void)state;
    struct made m;
    struct temp_dir dir;
    char name[48];
    make(&m, "mixtral");
    temp_dir_make(&dir);
    struct model_file *q = quantized(m.file, &dir, true, "4", NULL);
    const struct tensor_view *t = model_file_tensor(q, "model.layers.0.block_sparse_moe.switch_mlp.up_proj.weight");
    assert_non_null(t);
    assert_string_equal(tensor_type_name(t, name, sizeof(name)), "affine 4 bits in groups of 64");
    t = model_file_tensor(q, "lm_head.weight");
    assert_string_equal(tensor_type_name(t, name, sizeof(name)), "affine 6 bits in groups of 64");
    assert_int_equal(type_of(q, "model.layers.0.block_sparse_moe.gate.weight"), DTYPE_F16);
    model_file_close(q);
    temp_dir_remove(&dir);
    drop(&m);
}

/* A shared expert's gate and ffn_down are as the router and the ffn_down of the others. */
static void rule_of_shared_experts(void **state)
{
    (void)state;
    struct error err = {0};
    struct precision p;
    assert_true(precision_parse("4", &p, &err));
    for (int layer = 0; layer < 8; layer++) {
        struct plan_tensor down = {.part = PART_EXPERT_DOWN, .layer = layer, .n_layers = 8, .k = 512};
        struct plan_tensor shared = down, gate = down;
        shared.part = PART_SHARED_DOWN;
        gate.part = PART_SHARED_ROUTER;
        assert_int_equal(quantize_plan_gguf(&p, &shared).type, quantize_plan_gguf(&p, &down).type);
        assert_int_equal(quantize_plan_folder(&p, &shared, DTYPE_BF16).bits,
                         quantize_plan_folder(&p, &down, DTYPE_BF16).bits);
        assert_int_equal(quantize_plan_gguf(&p, &gate).type, DTYPE_F32);
        assert_int_equal(quantize_plan_folder(&p, &gate, DTYPE_BF16).type, DTYPE_BF16);
    }
}

static double weighted_error(const struct model_file *a, const struct model_file *b, const char *name, const float *w)
{
    const struct tensor_view *x = model_file_tensor(a, name), *y = model_file_tensor(b, name);
    float p[64], q[64];
    double sum = 0;
    assert_true(x && y && x->shape[1] == 64);
    for (uint64_t r = 0; r < x->shape[0]; r++) {
        tensor_row_to_f32(x, r, p);
        tensor_row_to_f32(y, r, q);
        for (int i = 0; i < 64; i++)
            sum += (double)w[i] * (double)(p[i] - q[i]) * (double)(p[i] - q[i]);
    }
    return sum;
}

/* Columns that matter more have less error, and a file of importance is read as it was written. */
static void importance_counts(void **state)
{
    (void)state;
    struct made m;
    struct temp_dir dir;
    struct error err = {0};
    struct decoder_config c;
    float x[64], w[64];
    make(&m, "llama-plain");
    temp_dir_make(&dir);
    assert_true(decoder_config_read(m.file, &c, &err));
    struct importance *imp = importance_create(&c, &err);
    assert_non_null(imp);
    for (int i = 0; i < 64; i++) {
        x[i] = i % 8 == 0 ? 10.0f : 0.5f;
        w[i] = x[i] * x[i];
    }
    assert_true(importance_add(imp, PART_Q, 0, x, 1, 64));
    assert_false(importance_add(imp, PART_Q, 0, x, 1, 32));
    char *path = temp_dir_file(&dir, "importance.txt");
    assert_true(importance_write(imp, path, &err));
    struct importance *back = importance_read(path, &c, &err);
    assert_non_null(back);
    assert_memory_equal(importance_of(back, PART_Q, 0, 64), importance_of(imp, PART_Q, 0, 64), sizeof(w));
    assert_null(importance_of(back, PART_Q, 1, 64));
    struct model_file *plain = quantized(m.file, &dir, false, "q4_0", NULL);
    double without = weighted_error(plain, m.file, "blk.0.attn_q.weight", w);
    model_file_close(plain);
    struct model_file *told = quantized(m.file, &dir, false, "q4_0", back);
    double with = weighted_error(told, m.file, "blk.0.attn_q.weight", w);
    model_file_close(told);
    assert_true(with < 0.8 * without);
    assert_true(file_write_atomic(path, STR("tandem importance 1\n0 attn_q.weight 2 1 2\n"), &err)); /* another's */
    struct importance *other = importance_read(path, &c, &err);
    struct export_options o = {.container = EXPORT_GGUF, .pool = pool, .importance = other};
    assert_true(other && precision_parse("4", &o.precision, &err));
    assert_false(export_write(m.file, path, &o, &err));
    assert_true(err.code == ERR_INVALID && strstr(err.msg, "blk.0.attn_q.weight") != NULL);
    importance_free(other);
    assert_true(file_write_atomic(path, STR("tandem importance 1\n0 attn_q.weight 3 1 2\n"), &err));
    assert_null(importance_read(path, &c, &err));
    assert_int_equal(err.code, ERR_FORMAT);
    importance_free(imp);
    importance_free(back);
    free(path);
    temp_dir_remove(&dir);
    drop(&m);
}

static void words(void **state)
{
    (void)state;
    static const char *const good[] = {"8", "6", "4", "keep", "f16", "bf16", "q4_k", "q8_0"};
    static const char *const bad[] = {"", "5", "q2_k", "i8", "84", "Q4_KK"};
    struct precision p;
    struct error err = {0};
    char name[16];
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(precision_parse(good[i], &p, &err));
        assert_string_equal(precision_name(&p, name, sizeof(name)), good[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(precision_parse(bad[i], &p, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways),           cmocka_unit_test(same_container),
        cmocka_unit_test(other_stacks),        cmocka_unit_test(all_ends),
        cmocka_unit_test(what_is_there_stays), cmocka_unit_test(rule_of_gguf),
        cmocka_unit_test(rule_of_folder),      cmocka_unit_test(rule_of_shared_experts),
        cmocka_unit_test(importance_counts),   cmocka_unit_test(nothing_appears_of_what_is_stopped),
        cmocka_unit_test(streams_keep_more),   cmocka_unit_test(words),
    };
    return cmocka_run_group_tests(tests, make_pool, free_pool);
}
