/* Models of folders that other programs have packed: on every kernel set and on mlx they give the logits of the same
 * values in another form. The values themselves are compared with the packers' own code elsewhere
 * (test_tensor_group_packed), the families with transformers (test_model_parity). */
#include "tests/support/model_packed.h"

#include "tests/support/emulated.h"
#include "tests/support/model_vectors.h"
#include "tests/support/op_step.h"

#include "base/array.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT 40 /* tokens: in steps of 7, so that tiles of several and of single tokens are run */

struct fixture {
    struct model_vectors v;
    struct packed_folder folders[3]; /* by enum packed_form */
    struct model_file *files[3];     /* NULL: there is no such form */
};

static void open_forms(struct fixture *f, const char *model, const struct packed_folder_options *options)
{
    struct random_folder *random;
    size_t n;
    *f = (struct fixture){0};
    model_vectors_load(&f->v, model);
    model_file_close(model_vectors_folder(&f->v, NULL, false, &random));
    const struct model_folder_file *floats = random_folder_files(random, &n);
    for (int form = 0; form < (options->shuffled ? 2 : 3); form++) {
        struct packed_folder_options o = *options;
        struct error err = {0};
        o.form = (enum packed_form)form;
        packed_folder_make(&f->folders[form], floats, n, &o);
        f->files[form] = model_folder_open_memory(f->folders[form].files, f->folders[form].n_files, &err);
        if (!f->files[form])
            fail_msg("%s, form %d: %s", model, form, err.msg);
    }
    random_folder_free(random);
}

static void close_forms(struct fixture *f)
{
    for (size_t i = 0; i < ARRAY_LEN(f->files); i++) {
        model_file_close(f->files[i]);
        packed_folder_release(&f->folders[i]);
    }
    model_vectors_release(&f->v);
}

/* The logits of the last token; NULL where this machine has no such backend. */
static float *run(const struct fixture *f, enum packed_form form, const struct model_driver_options *options, int *n)
{
    struct model_driver_options o = *options;
    struct model_driver d;
    struct error err = {0};
    int32_t last = TEXT - 1;
    o.file = f->files[form];
    o.n_positions = TEXT;
    o.n_seqs = 1;
    if (!model_driver_open(&d, &o, &err)) {
        if (err.code != ERR_UNSUPPORTED)
            fail_msg("%s", err.msg);
        return NULL;
    }
    *n = d.config.n_vocab;
    float *logits = malloc((size_t)*n * sizeof(*logits));
    assert_non_null(logits);
    model_driver_text(&d, f->v.text, TEXT, 7, &last, 1, logits);
    model_driver_close(&d);
    return logits;
}

/* bound: of the difference, in standard deviations of the logits; 0: the same bits. */
static void compare(const struct fixture *f, enum packed_form with, const struct model_driver_options *o, double bound)
{
    int n = 0;
    float *packed = run(f, PACKED_FORM_PACKED, o, &n), *other = run(f, with, o, &n);
    double worst = 0;
    for (int i = 0; packed && other && i < n; i++)
        worst = fmax(worst, fabs((double)packed[i] - (double)other[i]) / f->v.std);
    if (!(worst <= bound))
        fail_msg("%s, kernels %d%s: %g standard deviations from form %d", f->v.name, (int)o->kernels,
                 o->mlx ? ", mlx" : "", worst, (int)with);
    free(packed);
    free(other);
}

/* With the same codes and scales, kernels give the same bits; a decoded row those of a row of f32. Beside columns that
 * are in another order, activations are rounded in other groups; a router of experts makes much of that, and what is
 * exact is shown for the ops alone, below. */
static double bound_of(const char *model, const struct packed_folder_options *o)
{
    return !o->shuffled ? 0 : strstr(model, "moe") ? INFINITY : 0.25;
}

static void check(const char *model, const struct packed_folder_options *o)
{
    struct fixture f;
    struct error why = {0};
    open_forms(&f, model, o);
    for (int kernels = CPU_KERNELS_REFERENCE; kernels < CPU_KERNELS_COUNT; kernels++) {
        struct model_driver_options driver = {.kernels = (enum cpu_kernels)kernels, .kv_type = KV_F32, .n_threads = 2};
        bool reference = kernels == CPU_KERNELS_REFERENCE;
        if (kernels_wanted(driver.kernels))
            compare(&f, reference || o->shuffled ? PACKED_FORM_DENSE : PACKED_FORM_MLX, &driver,
                    reference ? 0 : bound_of(model, o));
    }
    if (mlx_backend_available(&why))
        compare(&f, PACKED_FORM_DENSE, &(struct model_driver_options){.mlx = true, .kv_type = KV_F32}, 1e-4);
    close_forms(&f);
}

static void awq_is_served(void **state)
{
    (void)state;
    check("llama-plain", &(struct packed_folder_options){.order = PACKED_AWQ, .bits = 4, .group_size = 32});
    check("qwen3moe", &(struct packed_folder_options){.order = PACKED_AWQ, .bits = 4, .group_size = 64});
    check("phi3-short", &(struct packed_folder_options){.order = PACKED_AWQ, .bits = 4, .group_size = -1});
}

static void gptq_is_served(void **state)
{
    (void)state;
    check("qwen2-tied", &(struct packed_folder_options){.order = PACKED_GPTQ, .bits = 4, .group_size = 32});
    check("llama-plain",
          &(struct packed_folder_options){.order = PACKED_GPTQ, .bits = 8, .group_size = -1, .v2 = true});
    check("deepseek2", &(struct packed_folder_options){.order = PACKED_GPTQ, .bits = 4, .group_size = 32});
}

static void shuffled_columns_are_served(void **state)
{
    (void)state;
    check("llama-plain",
          &(struct packed_folder_options){.order = PACKED_GPTQ, .bits = 4, .group_size = 32, .shuffled = true});
    check("qwen3moe",
          &(struct packed_folder_options){.order = PACKED_GPTQ, .bits = 8, .group_size = 32, .shuffled = true});
    check("phi3-short",
          &(struct packed_folder_options){.order = PACKED_ROWS, .bits = 4, .group_size = 32, .shuffled = true});
}

static void compressed_tensors_are_served(void **state)
{
    (void)state;
    check("qwen3moe",
          &(struct packed_folder_options){.order = PACKED_ROWS, .bits = 4, .group_size = 32, .symmetric = true});
    check("llama-plain", &(struct packed_folder_options){.order = PACKED_ROWS, .bits = 4, .group_size = -1});
}

/* ---- ops with sorted columns ---- */

#define OP_ROWS 5
#define OUT     64 /* of the matrix [64, 96] */
#define IN      96
#define HEADS   4

/* Weights of the same matrix: that sorts its input, and that is given it sorted; its input, both ways. */
struct sorting {
    struct backend *be;
    const struct tensor_view *t;
    struct tensor_view sorted_view;
    uint32_t columns[IN];
    struct weight *shuffled, *sorted, *x, *sorted_x;
    float values[OP_ROWS * IN], sorted_values[OP_ROWS * IN];
};

static struct weight *weight_of(struct backend *be, const struct tensor_view *t)
{
    struct error err = {0};
    struct weight *w = be->ops->weight_create(be, &t, 1, &err);
    if (!w)
        fail_msg("%s", err.msg);
    return w;
}

static struct weight *table_of(struct backend *be, const float *values)
{
    struct tensor_view t = {.name = STR("x"),
                            .type = DTYPE_F32,
                            .n_dims = 2,
                            .shape = {OP_ROWS, IN, 1, 1},
                            .data = values,
                            .size = OP_ROWS * IN * sizeof(float)};
    return weight_of(be, &t);
}

static void begin_sorting(struct sorting *s, struct backend *be, const struct tensor_view *t)
{
    uint64_t state = 3;
    *s = (struct sorting){.be = be, .t = t, .sorted_view = *t};
    assert_true(t->shape[0] == OUT && t->shape[1] == IN && packed_sort_columns(&t->quant, s->columns));
    s->sorted_view.quant.columns = s->columns;
    for (size_t i = 0; i < OP_ROWS * IN; i++)
        s->values[i] = random_float(&state, 1);
    for (size_t i = 0; i < OP_ROWS * IN; i++)
        s->sorted_values[i] = s->values[i / IN * IN + s->columns[i % IN]];
    s->shuffled = weight_of(be, t);
    s->sorted = weight_of(be, &s->sorted_view);
    s->x = table_of(be, s->values);
    s->sorted_x = table_of(be, s->sorted_values);
}

static void end_sorting(struct sorting *s)
{
    struct weight *all[] = {s->shuffled, s->sorted, s->x, s->sorted_x};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        s->be->ops->weight_free(s->be, all[i]);
}

static void products_are_equal(struct sorting *s)
{
    float a[OP_ROWS * OUT], b[OP_ROWS * OUT];
    finish(s->be, op_linear(s->be, begin(s->be, s->x, 0, OP_ROWS), s->shuffled, NULL), a, ARRAY_LEN(a));
    finish(s->be, op_linear(s->be, begin(s->be, s->sorted_x, 0, OP_ROWS), s->sorted, NULL), b, ARRAY_LEN(b));
    assert_memory_equal(a, b, sizeof(a));
}

static void tables_are_in_order(struct sorting *s)
{
    float rows[OP_ROWS * IN], row[IN];
    finish(s->be, begin(s->be, s->shuffled, 0, OP_ROWS), rows, ARRAY_LEN(rows));
    for (size_t i = 0; i < OP_ROWS; i++) {
        tensor_row_to_f32(s->t, i, row);
        assert_memory_equal(rows + i * IN, row, sizeof(row));
    }
}

/* Each head has 16 rows of the matrix, and all of the input. */
static void heads_are_equal(struct sorting *s)
{
    struct tensor_view views[HEADS];
    const struct tensor_view *places[HEADS];
    float a[OP_ROWS * OUT], b[OP_ROWS * OUT];
    struct error err = {0};
    for (uint64_t h = 0; h < HEADS; h++) {
        views[h] = tensor_rows(s->t, h * OUT / HEADS, OUT / HEADS);
        places[h] = &views[h];
    }
    struct weight *w = s->be->ops->weight_create(s->be, places, HEADS, &err);
    assert_non_null(w);
    struct tensor *x = begin(s->be, s->x, 0, OP_ROWS), *two = s->be->ops->join(s->be, x, x, 1);
    finish(s->be, s->be->ops->linear_heads(s->be, s->be->ops->join(s->be, two, two, 1), w, HEADS), a, ARRAY_LEN(a));
    finish(s->be, op_linear(s->be, begin(s->be, s->x, 0, OP_ROWS), s->shuffled, NULL), b, ARRAY_LEN(b));
    assert_memory_equal(a, b, sizeof(a));
    s->be->ops->weight_free(s->be, w);
}

/* gate and up: [64, 96]; down [96, 64], whose input is the hidden layer. */
static void mlps_are_equal(struct sorting *s, const struct tensor_view *down_view)
{
    float a[OP_ROWS * IN], b[OP_ROWS * IN];
    struct weight *down = weight_of(s->be, down_view);
    const struct backend_ops *ops = s->be->ops;
    finish(s->be, ops->mlp_gated(s->be, begin(s->be, s->x, 0, OP_ROWS), s->shuffled, s->shuffled, down, ACT_SILU), a,
           ARRAY_LEN(a));
    finish(s->be, ops->mlp_gated(s->be, begin(s->be, s->sorted_x, 0, OP_ROWS), s->sorted, s->sorted, down, ACT_SILU), b,
           ARRAY_LEN(b));
    assert_memory_equal(a, b, sizeof(a));
    ops->weight_free(s->be, down);
}

static void sorted_columns_give_the_same_bits(void **state)
{
    struct fixture f;
    (void)state;
    open_forms(&f, "llama-plain",
               &(struct packed_folder_options){.order = PACKED_GPTQ, .bits = 4, .group_size = 32, .shuffled = true});
    for (int kernels = CPU_KERNELS_AVX2; kernels < CPU_KERNELS_COUNT; kernels++) {
        struct error err = {0};
        struct cpu_backend_options o = {.kernels = (enum cpu_kernels)kernels, .n_threads = 2};
        struct backend *be = kernels_wanted(o.kernels) ? cpu_backend_create(&o, &err) : NULL;
        struct sorting s;
        if (!be)
            continue;
        begin_sorting(&s, be, model_file_tensor(f.files[0], "model.layers.0.mlp.down_proj.weight"));
        assert_non_null(strstr(be->ops->weight_info(s.shuffled).layout, "columns sorted"));
        products_are_equal(&s);
        tables_are_in_order(&s);
        heads_are_equal(&s);
        mlps_are_equal(&s, model_file_tensor(f.files[0], "model.layers.0.mlp.up_proj.weight"));
        end_sorting(&s);
        be->ops->free(be);
    }
    close_forms(&f);
}

/* ---- memory ---- */

static size_t stored_size(const struct tensor_view *t)
{
    return t->size + group_scales_size(&t->quant, t->shape[0], t->shape[1]);
}

static void weight_is_small(struct backend *be, const struct tensor_view *t)
{
    struct error err = {0};
    struct weight *w = be->ops->weight_create(be, &t, 1, &err);
    assert_non_null(w);
    struct weight_info info = be->ops->weight_info(w);
    assert_true((double)info.resident_size <= 1.05 * (double)stored_size(t));
    assert_true(info.mapped || strstr(info.layout, "in panels"));
    be->ops->weight_free(be, w);
}

/* Within 5% of what the file has, however small the groups are. */
static void weights_stay_small(void **state)
{
    static const struct packed_folder_options options[] = {
        {.order = PACKED_AWQ, .bits = 4, .group_size = 32},
        {.order = PACKED_GPTQ, .bits = 8, .group_size = 32},
        {.order = PACKED_GPTQ, .bits = 4, .group_size = 32, .shuffled = true},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        struct fixture f;
        open_forms(&f, "llama-plain", &options[i]);
        const struct tensor_view *t = model_file_tensor(f.files[0], "model.layers.0.mlp.down_proj.weight");
        for (int kernels = CPU_KERNELS_REFERENCE; kernels < CPU_KERNELS_COUNT; kernels++) {
            struct error err = {0};
            struct cpu_backend_options o = {.kernels = (enum cpu_kernels)kernels, .n_threads = 1};
            struct backend *be = kernels_wanted(o.kernels) ? cpu_backend_create(&o, &err) : NULL;
            if (be) {
                weight_is_small(be, t);
                be->ops->free(be);
            }
        }
        close_forms(&f);
    }
}

/* ---- hostile data ---- */

static void a_wrong_group_number_is_refused(void **state)
{
    struct fixture f;
    struct model_driver d;
    struct error err = {0};
    (void)state;
    open_forms(&f, "llama-plain", &(struct packed_folder_options){.order = PACKED_GPTQ, .bits = 4, .group_size = 32});
    const struct tensor_view *t = model_file_tensor(f.files[0], "model.layers.3.mlp.down_proj.weight");
    const uint8_t *g_idx = t->quant.packing->g_idx;
    f.folders[0].shard.data[(const char *)g_idx - f.folders[0].shard.data + 5] = 1; /* of column 1: 256 */
    assert_false(model_driver_open(
        &d, &(struct model_driver_options){.file = f.files[0], .kv_type = KV_F32, .n_positions = 8, .n_seqs = 1},
        &err));
    assert_int_equal(err.code, ERR_FORMAT);
    assert_non_null(strstr(err.msg, "g_idx of the tensor 'model.layers.3.mlp.down_proj.weight' puts column 1"));
    close_forms(&f);
}

static void a_bias_without_a_place_is_refused_unless_it_is_zero(void **state)
{
    static const char bias[] = "model.layers.2.mlp.down_proj.bias";
    struct fixture f;
    struct model_driver d;
    struct error err = {0};
    (void)state;
    open_forms(&f, "llama-plain", &(struct packed_folder_options){.order = PACKED_GPTQ, .bits = 4, .group_size = 32});
    const struct tensor_view *t = model_file_tensor(f.files[0], bias);
    struct model_driver_options o = {.file = f.files[0], .kv_type = KV_F32, .n_positions = 8, .n_seqs = 1};
    if (!model_driver_open(&d, &o, &err))
        fail_msg("%s", err.msg);
    model_driver_close(&d);
    f.folders[0].shard.data[(const char *)t->data - f.folders[0].shard.data + 3] = 1;
    assert_false(model_driver_open(&d, &o, &err));
    assert_non_null(strstr(err.msg, bias));
    close_forms(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(awq_is_served),
        cmocka_unit_test(gptq_is_served),
        cmocka_unit_test(shuffled_columns_are_served),
        cmocka_unit_test(compressed_tensors_are_served),
        cmocka_unit_test(sorted_columns_give_the_same_bits),
        cmocka_unit_test(weights_stay_small),
        cmocka_unit_test(a_wrong_group_number_is_refused),
        cmocka_unit_test(a_bias_without_a_place_is_refused_unless_it_is_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
