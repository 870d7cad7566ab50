/* Files of adapters: two containers, one list of pairs. */
#include "model/adapter_internal.h"

#include "base/array.h"
#include "base/sys_file.h"
#include "base/utf8.h"
#include "tensor/model_folder.h"
#include "tensor/model_paths.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* How a container names the halves of a pair. */
struct naming {
    const char *prefix, *a, *b;
};
static const struct naming peft_naming = {"base_model.model.", ".lora_A.weight", ".lora_B.weight"};
static const struct naming gguf_naming = {"", ".lora_a", ".lora_b"};

/* Tensors that say of themselves what is not done. */
static const struct {
    const char *part, *what;
} refused[] = {
    {".lora_embedding_", "a trained embedding"},
    {".lora_magnitude_vector", "a magnitude of DoRA"},
    {".lora_A.bias", "a bias"},
    {".lora_B.bias", "a bias"},
    {".modules_to_save.", "a module saved as a whole"},
};

static bool wrong_name(struct str name, struct error *err)
{
    struct str shown = str_slice(name, 0, utf8_cut(name, 100));
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        if (str_find(name, str_of(refused[i].part)) != STR_NPOS)
            return error_set(err, ERR_UNSUPPORTED, "The adapter's tensor '" STR_FMT "' is %s, which is not supported.",
                             STR_ARG(shown), refused[i].what);
    }
    return error_set(err, ERR_UNSUPPORTED,
                     "The adapter's tensor '" STR_FMT
                     "' is no half of a low-rank change, and nothing else is supported.",
                     STR_ARG(shown));
}

/* ---- pairs ---- */

static bool cut(struct str name, const struct naming *n, const char *suffix, struct str *out)
{
    struct str head = str_of(n->prefix), tail = str_of(suffix);
    if (!str_starts(name, head) || !str_ends(name, tail) || name.len <= head.len + tail.len)
        return false;
    *out = str_slice(name, head.len, name.len - tail.len);
    return true;
}

static const struct tensor_view *half_of(const struct adapter_file *f, const struct naming *n, struct str base,
                                         const char *suffix)
{
    char name[512]; /* names of tensors are shorter than 256 */
    int len = snprintf(name, sizeof(name), "%s" STR_FMT "%s", n->prefix, STR_ARG(base), suffix);
    return len > 0 && (size_t)len < sizeof(name) ? model_file_tensor(f->tensors, name) : NULL;
}

static bool check_pair(const struct adapter_pair *p, struct error *err)
{
    struct str shown = str_slice(p->name, 0, utf8_cut(p->name, 100));
    uint64_t rank = p->a->shape[0];
    if (p->a->n_dims != 2 || p->b->n_dims != 2 || p->b->shape[1] != rank)
        return error_set(err, ERR_FORMAT,
                         "The halves of the adapter's part '" STR_FMT "' are no matrices of one rank: %llu by %llu and "
                         "%llu by %llu.",
                         STR_ARG(shown), (unsigned long long)rank, (unsigned long long)p->a->shape[1],
                         (unsigned long long)p->b->shape[0], (unsigned long long)p->b->shape[1]);
    if (rank > BACKEND_MAX_ADAPTER_RANK)
        return error_set(err, ERR_FORMAT, "The adapter's part '" STR_FMT "' is of rank %llu; at most %d is possible.",
                         STR_ARG(shown), (unsigned long long)rank, BACKEND_MAX_ADAPTER_RANK);
    return true;
}

/* PEFT saves the base model's own matrix too where an adapter changes the output head. */
static bool is_base_weight(const struct adapter_file *f, struct str name)
{
    return !f->facts.gguf && str_ends(name, STR(".base_layer.weight"));
}

/* Tensors without a partner, and such that are no half, are found on the way. */
static bool collect_pairs(struct adapter_file *f, const struct naming *n, struct error *err)
{
    size_t n_tensors = model_file_n_tensors(f->tensors);
    f->pairs = calloc(n_tensors / 2 + 1, sizeof(*f->pairs));
    if (!f->pairs)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for an adapter of %zu tensors.", n_tensors);
    for (size_t i = 0; i < n_tensors; i++) {
        const struct tensor_view *t = model_file_tensor_at(f->tensors, i), *other;
        struct str base;
        if (is_base_weight(f, t->name))
            continue;
        bool is_a = cut(t->name, n, n->a, &base);
        if (!is_a && !cut(t->name, n, n->b, &base))
            return wrong_name(t->name, err);
        other = half_of(f, n, base, is_a ? n->b : n->a);
        if (!other)
            return error_set(err, ERR_FORMAT, "The adapter's tensor '" STR_FMT "' lacks its other half.",
                             STR_ARG(str_slice(t->name, 0, utf8_cut(t->name, 100))));
        if (!is_a)
            continue;
        struct adapter_pair *p = &f->pairs[f->facts.n_parts++];
        *p = (struct adapter_pair){.name = base, .a = t, .b = other};
        if (!check_pair(p, err))
            return false;
    }
    return f->facts.n_parts > 0 || error_set(err, ERR_FORMAT, "The adapter holds no tensors.");
}

static float scale_of(double alpha, uint64_t rank, bool rslora)
{
    return (float)(alpha / (rslora ? sqrt((double)rank) : (double)rank));
}

static void digest_pair(struct sha256_ctx *ctx, const struct adapter_pair *p)
{
    uint64_t numbers[] = {p->name.len, p->a->shape[0], p->a->shape[1], p->b->shape[0],
                          p->a->type,  p->b->type,     p->a->size,     p->b->size};
    sha256_update(ctx, numbers, sizeof(numbers));
    sha256_update(ctx, p->name.ptr, p->name.len);
    sha256_update(ctx, &p->scale, sizeof(p->scale));
    sha256_update(ctx, p->a->data, p->a->size);
    sha256_update(ctx, p->b->data, p->b->size);
}

static bool sum_up(struct adapter_file *f, struct error *err)
{
    struct sha256_ctx *ctx = sha256_try_create();
    if (!ctx)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for the digest of an adapter.");
    for (size_t i = 0; i < f->facts.n_parts; i++) {
        const struct adapter_pair *p = &f->pairs[i];
        uint64_t rank = p->a->shape[0];
        digest_pair(ctx, p);
        f->facts.rank = (int)rank > f->facts.rank ? (int)rank : f->facts.rank;
        f->facts.memory_size += (size_t)(rank * (p->a->shape[1] + p->b->shape[0])) * sizeof(uint16_t);
    }
    f->facts.digest = sha256_finish(ctx);
    sha256_free(ctx);
    return true;
}

/* ---- PEFT ---- */

static bool finish_peft(struct adapter_file *f, struct error *err)
{
    struct adapter_config c;
    if (!adapter__read_config(f->config, &c, err) || !collect_pairs(f, &peft_naming, err))
        return false;
    f->facts.alpha = c.alpha;
    f->facts.rslora = c.rslora;
    for (size_t i = 0; i < f->facts.n_parts; i++) {
        struct adapter_pair *p = &f->pairs[i];
        double rank = adapter__pattern_of(c.rank_pattern, p->name, c.rank);
        if ((double)p->a->shape[0] != rank)
            return error_set(
                err, ERR_FORMAT, "The adapter's part '" STR_FMT "' is of rank %llu, but " ADAPTER_CONFIG " says %g.",
                STR_ARG(str_slice(p->name, 0, utf8_cut(p->name, 100))), (unsigned long long)p->a->shape[0], rank);
        p->scale = scale_of(adapter__pattern_of(c.alpha_pattern, p->name, c.alpha), p->a->shape[0], c.rslora);
    }
    return true;
}

static bool parse_config(struct adapter_file *f, struct str text, struct error *err)
{
    f->config = json_parse_bounded(text, 0, ADAPTER_MAX_VALUES, err);
    if (f->config)
        return true;
    err->code = err->code == ERR_NO_MEMORY ? ERR_NO_MEMORY : ERR_FORMAT;
    return error_wrap(err, ADAPTER_CONFIG);
}

static bool open_folder(struct adapter_file *f, const char *path, struct error *err)
{
    char name[4096];
    struct buf text;
    int len = snprintf(name, sizeof(name), "%s/" ADAPTER_CONFIG, path);
    if (len < 0 || (size_t)len >= sizeof(name) - sizeof(ADAPTER_WEIGHTS))
        return error_set(err, ERR_INVALID, "The adapter's path is too long.");
    if (!file_exists(name))
        return error_set(err, ERR_NOT_FOUND, "The folder holds no " ADAPTER_CONFIG ".");
    if (!file_read(name, ADAPTER_MAX_CONFIG, &text, err))
        return false;
    bool ok = parse_config(f, buf_view(&text), err);
    buf_release(&text);
    if (!ok)
        return false;
    snprintf(name, sizeof(name), "%s/" ADAPTER_WEIGHTS, path);
    if (!file_exists(name))
        return error_set(err, ERR_NOT_FOUND, "The folder holds no " ADAPTER_WEIGHTS ".");
    f->tensors = safetensors_open(name, err);
    return f->tensors && finish_peft(f, err);
}

/* ---- GGUF ---- */

#define KEY_INVOCATION "adapter.alora.invocation_tokens"

static bool finish_gguf(struct adapter_file *f, struct error *err)
{
    struct str type = meta_str_or(f->tensors, "general.type", STR("model"));
    struct str kind = meta_str_or(f->tensors, "adapter.type", STR(""));
    if (!str_eq(type, STR("adapter")))
        return error_set(err, ERR_FORMAT, "The GGUF file is no adapter: general.type is '" STR_FMT "'.",
                         STR_ARG(str_slice(type, 0, utf8_cut(type, 40))));
    if (!str_eq(kind, STR("lora")))
        return error_set(err, ERR_UNSUPPORTED, "adapter.type: '" STR_FMT "' is not supported; lora is.",
                         STR_ARG(str_slice(kind, 0, utf8_cut(kind, 40))));
    if (meta_get(f->tensors, KEY_INVOCATION).type != META_NONE)
        return error_set(err, ERR_UNSUPPORTED,
                         KEY_INVOCATION ": Adapters that begin with a token (aLoRA) are not supported.");
    if (!meta_str(f->tensors, "general.architecture", &f->arch, err) ||
        !meta_float_or(f->tensors, "adapter.lora.alpha", 0, &f->facts.alpha, err))
        return false;
    if (!(fabs(f->facts.alpha) <= ADAPTER_MAX_ALPHA))
        return error_set(err, ERR_FORMAT, "adapter.lora.alpha has to be a number from %g to %g.", -ADAPTER_MAX_ALPHA,
                         ADAPTER_MAX_ALPHA);
    f->facts.gguf = true;
    if (!collect_pairs(f, &gguf_naming, err))
        return false;
    for (size_t i = 0; i < f->facts.n_parts; i++) { /* 0 means a scale of 1, as llama.cpp takes it */
        uint64_t rank = f->pairs[i].a->shape[0];
        f->pairs[i].scale = f->facts.alpha == 0 ? 1 : scale_of(f->facts.alpha, rank, false);
    }
    return true;
}

/* ---- opening ---- */

static struct adapter_file *create(struct error *err)
{
    struct adapter_file *f = calloc(1, sizeof(*f));
    if (!f)
        error_set(err, ERR_NO_MEMORY, "There is no memory to open an adapter.");
    return f;
}

static struct adapter_file *finish(struct adapter_file *f, bool ok, struct error *err)
{
    json_free(f->config); /* what it says is in the pairs */
    f->config = NULL;
    if (ok && sum_up(f, err))
        return f;
    adapter_file_close(f);
    return NULL;
}

void adapter_paths_each(const char *path, void (*each)(void *arg, const char *path), void *arg)
{
    static const char *const files[] = {ADAPTER_CONFIG, ADAPTER_WEIGHTS};
    char name[PATH_MAX];
    if (!dir_exists(path)) {
        model_paths_each(path, each, arg);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        int len = snprintf(name, sizeof(name), "%s/%s", path, files[i]);
        if (len > 0 && (size_t)len < sizeof(name)) /* else it cannot be opened either */
            each(arg, name);
    }
}

struct adapter_file *adapter_file_open(const char *path, struct error *err)
{
    struct adapter_file *f = create(err);
    bool ok;
    if (!f)
        return NULL;
    if (dir_exists(path)) {
        ok = open_folder(f, path, err);
    } else {
        f->tensors = model_file_open(path, err);
        ok = f->tensors && finish_gguf(f, err);
    }
    struct str name = str_path_name(str_of(path));
    return finish(f, ok || error_wrap(err, "adapter '" STR_FMT "'", STR_ARG(str_slice(name, 0, utf8_cut(name, 60)))),
                  err);
}

struct adapter_file *adapter_file_open_memory(struct str config, const void *data, size_t size, struct error *err)
{
    struct adapter_file *f = create(err);
    bool ok;
    if (!f)
        return NULL;
    if (config.len == 0) {
        f->tensors = model_file_open_memory(data, size, err);
        ok = f->tensors && finish_gguf(f, err);
    } else if (config.len > ADAPTER_MAX_CONFIG) {
        ok = error_set(err, ERR_TOO_LARGE, ADAPTER_CONFIG " has %zu bytes; %zu are the maximum.", config.len,
                       ADAPTER_MAX_CONFIG);
    } else {
        ok = parse_config(f, config, err);
        f->tensors = ok ? safetensors_open_memory(data, size, err) : NULL;
        ok = f->tensors && finish_peft(f, err);
    }
    return finish(f, ok, err);
}

void adapter_file_close(struct adapter_file *f)
{
    if (!f)
        return;
    model_file_close(f->tensors);
    json_free(f->config);
    free(f->pairs);
    free(f);
}

const struct adapter_facts *adapter_file_facts(const struct adapter_file *f)
{
    return &f->facts;
}
