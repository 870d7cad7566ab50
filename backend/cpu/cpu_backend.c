/* Creation, the ops table, and steps. */
#include "backend/adapt.h"
#include "backend/cpu/cpu_internal.h"

#include "base/sys_cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

static const char *const kernels_names[CPU_KERNELS_COUNT] = {
    [CPU_KERNELS_AUTO] = "auto",     [CPU_KERNELS_REFERENCE] = "reference", [CPU_KERNELS_AVX2] = "avx2",
    [CPU_KERNELS_AVX512] = "avx512", [CPU_KERNELS_NEON] = "neon",           [CPU_KERNELS_I8MM] = "i8mm",
};

bool cpu_kernels_parse(const char *name, enum cpu_kernels *out, struct error *err)
{
    for (int i = 0; i < CPU_KERNELS_COUNT; i++) {
        if (strcmp(name, kernels_names[i]) == 0) {
            *out = (enum cpu_kernels)i;
            return true;
        }
    }
    return error_set(err, ERR_INVALID, "'%.40s' is no kernel set: auto, reference, avx2, avx512, neon or i8mm.", name);
}

/* ---- steps ---- */

static bool step_begin(struct backend *base, const struct batch *batch, struct error *err)
{
    struct cpu_backend *be = cpu__of(base);
    if (!cpu__kv_check_batch(be, batch, err) || !adapt_check_batch(batch, err))
        return false;
    be->batch = batch;
    be->failed = false;
    be->step++;
    be->n_ropes = 0;
    step_memory_reset(&be->memory);
    step_memory_reset(&be->ids_memory[be->step & 1]);
    if (!cpu__adapt_begin(be)) {
        *err = be->error;
        be->batch = NULL;
        return false;
    }
    cpu__kv_forget(be);
    return true;
}

static bool step_end(struct backend *base, struct error *err)
{
    struct cpu_backend *be = cpu__of(base);
    if (!be->failed)
        cpu__kv_remember(be);
    be->batch = NULL;
    if (!be->failed)
        return true;
    *err = be->error;
    return false;
}

static void keep(struct backend *base, struct tensor *x)
{
    struct cpu_backend *be = cpu__of(base);
    if (!x)
        return;
    x->q8 = NULL;
    be->memory.used = x->mark;
}

static bool read_f32(struct backend *base, struct tensor *t, float *dst, size_t n, struct error *err)
{
    (void)base;
    if (!t || !t->f32)
        return error_set(err, ERR_INTERNAL, "The step has no such values to read.");
    if (n != (size_t)t->n_rows * (size_t)t->n_cols)
        return error_set(err, ERR_INTERNAL, "%zu values were asked for; there are %d rows of %d.", n, t->n_rows,
                         t->n_cols);
    memcpy(dst, t->f32, n * sizeof(float));
    return true;
}

/* ---- life ---- */

static const char *describe(const struct backend *base)
{
    return ((const struct cpu_backend *)base)->description;
}

static void backend_free(struct backend *base)
{
    struct cpu_backend *be = cpu__of(base);
    if (!be)
        return;
    if (!be->shares_pool)
        pool_free(be->pool);
    step_memory_release(&be->memory);
    step_memory_release(&be->ids_memory[0]);
    step_memory_release(&be->ids_memory[1]);
    for (int i = 0; i < ROPE_CACHES; i++)
        free(be->ropes[i].cos);
    cpu__kv_drop_sums(be);
    free(be->scratch);
    free(be);
}

static const struct backend_ops cpu_ops = {
    .name = "cpu",
    .describe = describe,
    .free = backend_free,
    .weight_create = cpu__weight_create,
    .weight_free = cpu__weight_free,
    .weight_info = cpu__weight_info,
    .table_create = cpu__table_create,
    .weight_adapt = cpu__weight_adapt,
    .kv_page_tokens = cpu__kv_page_tokens,
    .kv_page_size = cpu__kv_page_size,
    .kv_bind = cpu__kv_bind,
    .kv_copy_page = cpu__kv_copy_page,
    .kv_page = cpu__kv_page,
    .kv_sum = cpu__kv_sum,
    .kv_keep_sums = cpu__kv_keep_sums,
    .step_begin = step_begin,
    .step_end = step_end,
    .keep = keep,
    .embed = cpu__embed,
    .embed_add = cpu__embed_add,
    .rows = cpu__rows,
    .linear = cpu__linear,
    .norm = cpu__norm,
    .add = cpu__add,
    .scale = cpu__scale,
    .softcap = cpu__softcap,
    .rope = cpu__rope,
    .gate = cpu__gate,
    .cut = cpu__cut,
    .join = cpu__join,
    .linear_heads = cpu__linear_heads,
    .multiply = cpu__multiply,
    .add_each = cpu__add_each,
    .activate_mul = cpu__activate_mul,
    .match = cpu__match,
    .stream_predict = cpu__stream_predict,
    .stream_correct = cpu__stream_correct,
    .kv_write = cpu__kv_write,
    .attention = cpu__attention,
    .short_conv = cpu__short_conv,
    .delta_net = cpu__delta_net,
    .mlp_gated = cpu__mlp_gated,
    .mlp = cpu__mlp,
    .moe = cpu__moe,
    .sample = cpu__sample,
    .read_f32 = read_f32,
    .read_samples = cpu__read_samples,
    .scratch_size = cpu__scratch_size,
};

static const struct cpu_kernel_table *choose_kernels(enum cpu_kernels wanted, struct error *err)
{
    struct cpu_features features = sys_cpu_features();
    char here[64] = "";
    for (int i = 0; cpu__tables[i]; i++) {
        const struct cpu_kernel_table *t = cpu__tables[i];
        if ((wanted == CPU_KERNELS_AUTO || t->kind == wanted) && t->usable(&features))
            return t;
        size_t n = strlen(here);
        if (t->usable(&features))
            snprintf(here + n, sizeof(here) - n, "%s%s", n > 0 ? ", " : "", kernels_names[t->kind]);
    }
    error_set(err, ERR_UNSUPPORTED, "This processor cannot run the kernel set '%s'; it has: %s.", kernels_names[wanted],
              here);
    return NULL;
}

struct backend *cpu_backend_create(const struct cpu_backend_options *options, struct error *err)
{
    const struct cpu_kernel_table *kernels = choose_kernels(options->kernels, err);
    if (!kernels)
        return NULL;
    struct cpu_backend *be = aligned_alloc(CPU_ALIGN, (sizeof(*be) + CPU_ALIGN - 1) / CPU_ALIGN * CPU_ALIGN);
    if (!be) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for the cpu backend.");
        return NULL;
    }
    memset(be, 0, sizeof(*be));
    be->base.ops = &cpu_ops;
    be->kernels = kernels;
    struct pool_options pool = {.n_threads = options->n_threads,
                                .spin_us = options->spin_us < 0 ? POOL_DEFAULT_SPIN_US : options->spin_us};
    be->shares_pool = options->threads_of;
    be->pool = options->threads_of ? cpu__of(options->threads_of)->pool : pool_create(&pool, err);
    if (!be->pool) {
        free(be);
        return NULL;
    }
    be->n_threads = pool_threads(be->pool);
    snprintf(be->description, sizeof(be->description), "cpu %s", kernels->name);
    return &be->base;
}
