/* Files of a model that is written anew. Scales and biases of groups are made with their codes and kept until the
 * writer asks for them, which is next. */
#include "model/export_internal.h"

#include "base/array.h"
#include "base/limits.h"
#include "base/sys_file.h"
#include "tensor/safetensors_writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool fill(void *user, uint64_t first, uint64_t n, void *dst, struct error *err)
{
    struct target *t = user;
    if (!export__fill_rows(t, first, n, dst, err))
        return false;
    if (first + n == t->n_rows) {
        for (int i = 0; i < t->n_segments; i++)
            model_file_drop(t->x->file, &t->segments[i].view);
    }
    return true;
}

/* Codes first: their scales are kept until they are asked for. */
static bool fill_codes(void *user, uint64_t first, uint64_t n, void *dst, struct error *err)
{
    struct target *t = user;
    struct exporter *x = t->x;
    if (first == 0) {
        x->scales = malloc((size_t)t->n_rows * export__scales_row(t));
        x->biases = malloc((size_t)t->n_rows * export__scales_row(t));
    }
    if (!x->scales || !x->biases)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for the scales of %s.", t->name);
    return fill(user, first, n, dst, err);
}

static bool fill_scales(void *user, uint64_t first, uint64_t n, void *dst, struct error *err)
{
    const struct target *t = user;
    (void)err;
    memcpy(dst, t->x->scales + first * export__scales_row(t), (size_t)n * export__scales_row(t));
    return true;
}

static bool fill_biases(void *user, uint64_t first, uint64_t n, void *dst, struct error *err)
{
    const struct target *t = user;
    struct exporter *x = t->x;
    (void)err;
    memcpy(dst, x->biases + first * export__scales_row(t), (size_t)n * export__scales_row(t));
    if (first + n == t->n_rows) {
        free(x->scales);
        free(x->biases);
        x->scales = x->biases = NULL;
    }
    return true;
}

/* ---- writing ---- */

static struct gguf_tensor describe(const struct target *t)
{
    struct gguf_tensor out = {.name = t->name,
                              .type = t->choice.type,
                              .n_dims = t->n_dims,
                              .data = t->vector,
                              .fill = t->vector ? NULL : fill,
                              .user = (void *)t};
    memcpy(out.shape, t->shape, sizeof(out.shape));
    return out;
}

static const struct {
    enum dtype type;
    int file_type;
} file_types[] = {{DTYPE_F32, 0},   {DTYPE_F16, 1},   {DTYPE_Q4_0, 2}, {DTYPE_Q4_1, 3},
                  {DTYPE_Q8_0, 7},  {DTYPE_Q5_0, 8},  {DTYPE_Q5_1, 9}, {DTYPE_Q4_K, 15},
                  {DTYPE_Q5_K, 17}, {DTYPE_Q6_K, 18}, {DTYPE_BF16, 32}};

/* llama.cpp's number for what most of the matrices are. */
static int file_type_of(const struct exporter *x)
{
    uint64_t elements[DTYPE_COUNT] = {0};
    size_t best = 0;
    for (const struct target *t = x->first; t; t = t->next)
        elements[t->choice.type] += t->n_rows * t->k;
    for (size_t i = 0; i < ARRAY_LEN(file_types); i++)
        best = elements[file_types[i].type] > elements[file_types[best].type] ? i : best;
    return file_types[best].file_type;
}

static void copy_metadata(const struct exporter *x, struct gguf_writer *w)
{
    static const char *const skipped[] = {"general.file_type", "general.quantization_version", GGUF_KEY_ALIGNMENT};
    for (size_t i = 0; i < model_file_n_meta(x->file); i++) {
        struct str key = model_file_meta_key(x->file, i);
        struct meta_value v = model_file_meta_at(x->file, i);
        bool skip = str_starts(key, STR("split."));
        for (size_t k = 0; k < ARRAY_LEN(skipped); k++)
            skip = skip || str_eq(key, str_of(skipped[k]));
        if (!skip)
            gguf_put_value(w, key, &v);
    }
}

/* Tensors outside the parts that a GGUF file has: RoPE's divisors. */
static bool copy_rest(const struct exporter *x, struct gguf_writer *w)
{
    static const char *const rest[] = {ROPE_FREQS_TENSOR, ROPE_LONG_TENSOR, ROPE_SHORT_TENSOR};
    for (size_t i = 0; i < ARRAY_LEN(rest); i++) {
        const struct tensor_view *v = model_file_tensor(x->file, rest[i]);
        struct gguf_tensor t = {.name = rest[i], .n_dims = 1};
        if (!v)
            continue;
        t.type = v->type;
        t.shape[0] = v->shape[0];
        t.data = v->data;
        gguf_add_tensor(w, &t);
    }
    return true;
}

static bool add_divisors(struct exporter *x, struct gguf_writer *w)
{
    const struct rope_scaling *s = &x->config.rope.scaling;
    int n = x->config.rot_dim / 2, got;
    bool longrope = s->kind == ROPE_SCALING_LONGROPE;
    if (x->same)
        return copy_rest(x, w);
    if (!longrope && s->kind != ROPE_SCALING_LLAMA3)
        return true;
    for (int i = 0; i < (longrope ? 2 : 1); i++) {
        float *out = arena_alloc_array(x->arena, EXPORT_MAX_DIVISORS, sizeof(*out));
        const char *name = !longrope ? ROPE_FREQS_TENSOR : i ? ROPE_SHORT_TENSOR : ROPE_LONG_TENSOR;
        if (!out)
            return arena_full(x->arena, "divisors", x->err);
        if (!longrope)
            export__llama3_divisors(&x->config.rope, x->config.rot_dim, out);
        else if (!rope_divisors(&x->config, x->file, i ? 1 : s->original_context + 1, out, &got, x->err))
            return false;
        gguf_add_tensor(w, &(struct gguf_tensor){
                               .name = name, .type = DTYPE_F32, .n_dims = 1, .shape = {(uint64_t)n}, .data = out});
    }
    return true;
}

/* ---- that nothing was lost ---- */

/* What the containers say differently of the same model is made alike. */
static void normalize(struct decoder_config *c)
{
    c->arch = NULL;
    c->rope_kind = ROPE_NEOX;
    c->norm_weight_offset = 0;
    c->n_layer_vocab = 0; /* GGUF has per-layer inputs of all tokens */
    bool by_divisors = c->rope_freq_factors || c->rope.scaling.kind == ROPE_SCALING_LLAMA3;
    if (by_divisors)
        c->rope.scaling = (struct rope_scaling){.kind = ROPE_SCALING_LLAMA3};
    if (c->rope.scaling.kind == ROPE_SCALING_NONE)
        c->rope.scaling = (struct rope_scaling){.kind = ROPE_SCALING_NONE};
    if (c->rope.scaling.kind == ROPE_SCALING_LINEAR)
        c->rope.scaling.original_context = 0;
    if (c->rope.scaling.kind == ROPE_SCALING_LONGROPE)
        c->rope.scaling.factor = 0;
    c->rope_freq_factors = false;
    double *doubles[] = {&c->rope.base,
                         &c->rope_local.base,
                         &c->rope.scaling.factor,
                         &c->rope.scaling.beta_fast,
                         &c->rope.scaling.beta_slow,
                         &c->rope.scaling.ext_factor,
                         &c->rope.scaling.attn_factor};
    for (size_t i = 0; i < ARRAY_LEN(doubles); i++)
        *doubles[i] = (double)(float)*doubles[i];
    for (int i = 0; i < c->n_layers; i++)
        c->layer_windowed[i] = c->window > 0 && c->layer_windowed[i];
}

static bool same_model(const struct exporter *x, const struct decoder_config *got)
{
    struct decoder_config a = x->config, b = *got;
    normalize(&a);
    normalize(&b);
    return memcmp(&a, &b, sizeof(a)) == 0 ||
           error_set(x->err, ERR_UNSUPPORTED,
                     "This %s model has settings that a %s cannot say: what would be written is not the same model.",
                     x->config.arch, x->o->container == EXPORT_GGUF ? "GGUF file" : "folder's config.json");
}

/* Reads the written metadata back, from a file whose tensors are there. */
static bool check_written(const struct exporter *x, const char *path)
{
    struct decoder_config got;
    struct model_file *back = model_file_open(path, x->err);
    bool ok = back && decoder_config_read(back, &got, x->err);
    if (!ok)
        error_wrap(x->err, "what was written to %.100s", path);
    ok = ok && same_model(x, &got);
    model_file_close(back);
    return ok;
}

/* What is there under the name stays until the new file has been checked. */
static bool write_checked(const struct exporter *x, struct gguf_writer *w, const char *path)
{
    char unchecked[4096];
    int n = snprintf(unchecked, sizeof(unchecked), "%s.unchecked", path);
    if (n < 0 || (size_t)n >= sizeof(unchecked))
        return error_set(x->err, ERR_INVALID, "The path of the output is too long.");
    if (!gguf_write_file(w, unchecked, x->err))
        return false;
    bool ok = check_written(x, unchecked);
    if (ok && rename(unchecked, path) != 0)
        ok = error_set(x->err, ERR_IO, "'%.120s' cannot be renamed to its name: %s.", unchecked, strerror(errno));
    if (!ok)
        remove(unchecked);
    return ok;
}

bool export__write_gguf(struct exporter *x, const char *path)
{
    struct gguf_writer *w = gguf_writer_create();
    bool ok = w || error_set(x->err, ERR_NO_MEMORY, "There is no memory to write a model.");
    if (ok && x->same)
        copy_metadata(x, w);
    else
        ok = ok && export__gguf_metadata(x->file, &x->config, x->family, w, x->err) &&
             x->o->tokenizer(x->o->arg, w, x->config.n_vocab, x->err);
    if (ok) {
        gguf_put_int(w, "general.file_type", GGUF_U32, file_type_of(x));
        gguf_put_int(w, "general.quantization_version", GGUF_U32, 2);
    }
    for (const struct target *t = x->first; ok && t; t = t->next) {
        struct gguf_tensor tensor = describe(t);
        gguf_add_tensor(w, &tensor);
    }
    ok = ok && add_divisors(x, w) && (x->same ? gguf_write_file(w, path, x->err) : write_checked(x, w, path));
    gguf_writer_free(w);
    return ok;
}

/* ---- folders ---- */

static void add_grouped(struct safetensors_writer *w, const struct target *t)
{
    struct gguf_tensor tensor = describe(t);
    char name[EXPORT_NAME_SIZE + 8];
    static const struct {
        const char *suffix;
        gguf_fill_fn *fill;
    } parts[] = {{"weight", fill_codes}, {"scales", fill_scales}, {"biases", fill_biases}};
    int stem = (int)strlen(t->name) - (int)strlen("weight");
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        snprintf(name, sizeof(name), "%.*s%s", stem, t->name, parts[i].suffix);
        tensor.name = name;
        tensor.fill = parts[i].fill;
        tensor.type = i == 0 ? DTYPE_U32 : t->x->floats;
        tensor.shape[t->n_dims - 1] =
            i == 0 ? t->k * (uint64_t)t->choice.bits / 32 : t->k / (uint64_t)t->choice.group_size;
        safetensors_add_tensor(w, &tensor);
    }
}

static struct export_module *list_modules(const struct exporter *x, size_t *n)
{
    size_t max = 0;
    for (const struct target *t = x->first; t; t = t->next)
        max++;
    struct export_module *out = arena_alloc_array(x->arena, max + 1, sizeof(*out));
    *n = 0;
    for (const struct target *t = x->first; out && t; t = t->next) {
        struct str module = str_of(t->name);
        module.len -= str_ends(module, STR(".weight")) ? strlen(".weight") : 0;
        char *name = t->choice.type == DTYPE_GROUPED ? arena_strdup(x->arena, module) : NULL;
        if (name)
            out[(*n)++] = (struct export_module){name, t->choice.bits, t->choice.group_size};
    }
    return out;
}

static bool has_groups(const struct exporter *x)
{
    const struct target *t = x->first;
    while (t && t->choice.type != DTYPE_GROUPED)
        t = t->next;
    return t != NULL;
}

static bool write_config(const struct exporter *x, const char *folder)
{
    char path[4096];
    size_t n;
    struct buf json;
    struct export_module *modules = list_modules(x, &n);
    buf_init(&json, LIMIT_FOLDER_JSON);
    bool ok = modules || arena_full(x->arena, "modules", x->err);
    snprintf(path, sizeof(path), "%s/config.json", folder);
    ok = ok && export__config_json(x->file, &x->config, x->family, x->floats, modules, n, &json, x->err) &&
         file_write_atomic(path, buf_view(&json), x->err);
    buf_release(&json);
    return ok;
}

bool export__write_folder(struct exporter *x, const char *folder)
{
    char path[4096];
    struct safetensors_writer *w = safetensors_writer_create();
    bool ok = w || error_set(x->err, ERR_NO_MEMORY, "There is no memory to write a model.");
    snprintf(path, sizeof(path), "%s/model.safetensors", folder);
    if (ok)
        safetensors_put_metadata(w, "format", has_groups(x) ? "mlx" : "pt");
    for (const struct target *t = x->first; ok && t; t = t->next) {
        struct gguf_tensor tensor = describe(t);
        if (t->choice.type == DTYPE_GROUPED)
            add_grouped(w, t);
        else
            safetensors_add_tensor(w, &tensor);
    }
    ok = ok && write_config(x, folder) && safetensors_write_file(w, path, x->err);
    safetensors_writer_free(w);
    return ok && check_written(x, folder);
}
