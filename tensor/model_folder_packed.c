/* Matrices of a folder that AutoAWQ, AutoGPTQ or GPTQModel, or compressed-tensors has packed: the tensors of a module
 * become one, "module.weight", of type GROUPED. What config.json says of them has to agree with their shapes; what it
 * says of modules that are not quantized is not needed: they have a .weight of their own.
 *
 *     awq                  module.qweight, .qzeros, .scales
 *     gptq                 the same, and .g_idx
 *     compressed-tensors   module.weight_packed, .weight_scale, .weight_zero_point, .weight_g_idx, .weight_shape
 *
 * Fields: transformers' utils/quantization_config.py (AwqConfig, GPTQConfig), GPTQModel's quantization/config.py,
 * compressed-tensors' quantization/quant_config.py and quant_args.py. */
#include "tensor/model_folder_internal.h"

#include "base/array.h"
#include "base/utf8.h"
#include "tensor/group_packed.h"

#include <limits.h>
#include <stdio.h>

#define NAME_SIZE (LIMIT_GGUF_NAME + 32) /* a name with another suffix, and its NUL */
#define SAYS      FOLDER_CONFIG ": quantization_config"

enum packed_part { PART_CODES, PART_SCALES, PART_ZEROS, PART_G_IDX, PART_SHAPE, PART_COUNT };

struct packed_scheme {
    enum packed_order order;
    int bits, group_size; /* group_size 0: one group for each row */
    int zero_add;
    bool zeros, g_idx;        /* there have to be some */
    const char *const *parts; /* [PART_COUNT] suffixes; NULL: no such part */
};

static const char *const awq_parts[PART_COUNT] = {".qweight", ".scales", ".qzeros", NULL, NULL};
static const char *const gptq_parts[PART_COUNT] = {".qweight", ".scales", ".qzeros", ".g_idx", NULL};
static const char *const compressed_parts[PART_COUNT] = {".weight_packed", ".weight_scale", ".weight_zero_point",
                                                         ".weight_g_idx", ".weight_shape"};

/* ---- what config.json says ---- */

static bool int_of(const struct json *object, const char *key, int fallback, int *out, struct error *err)
{
    const struct json *v = json_get(object, key);
    *out = fallback;
    if (json_is_null(v))
        return true;
    if (json_type(v) != JSON_INT || json_int(v) < -1 || json_int(v) > INT_MAX / 2)
        return error_set(err, ERR_FORMAT, SAYS ".%s is no sensible number.", key);
    *out = (int)json_int(v);
    return true;
}

/* The member is absent, or one of the words, whatever their case. */
static bool word_is(const struct json *object, const char *key, const char *const *words, size_t *which,
                    struct error *err)
{
    const struct json *v = json_get(object, key);
    *which = 0;
    if (json_is_null(v))
        return true;
    for (size_t i = 0; json_type(v) == JSON_STRING && words[i]; i++) {
        if (str_eq_nocase(json_str(v), str_of(words[i]))) {
            *which = i;
            return true;
        }
    }
    return error_set(err, ERR_UNSUPPORTED, SAYS ".%s '%.40s' is not supported; '%s' is.", key,
                     json_type(v) == JSON_STRING ? json_str(v).ptr : json_type_name(json_type(v)), words[0]);
}

static bool flag_of(const struct json *object, const char *key, bool fallback, bool *out, struct error *err)
{
    const struct json *v = json_get(object, key);
    *out = json_is_null(v) ? fallback : json_bool(v);
    return json_is_null(v) || json_type(v) == JSON_BOOL ||
           error_set(err, ERR_FORMAT, SAYS ".%s is %s instead of true or false.", key, json_type_name(json_type(v)));
}

/* Groups of -1 columns are whole rows. */
static bool check_numbers(struct packed_scheme *s, const char *bits_key, struct error *err)
{
    if (!packed_bits_valid(s->order, s->bits))
        return error_set(err, ERR_UNSUPPORTED, SAYS ".%s %d is not supported with %s; 4%s.", bits_key, s->bits,
                         packed_order_name(s->order), s->order == PACKED_AWQ ? " is" : " and 8 are");
    if (s->group_size == 0 || (s->group_size > 0 && s->group_size % 32 != 0))
        return error_set(err, ERR_UNSUPPORTED, SAYS ".group_size %d is not supported; -1 and multiples of 32 are.",
                         s->group_size);
    s->group_size = s->group_size < 0 ? 0 : s->group_size;
    return true;
}

static bool read_awq(const struct json *o, struct packed_scheme *s, struct error *err)
{
    static const char *const versions[] = {"gemm", NULL}, *const backends[] = {"autoawq", "auto", NULL};
    size_t ignored;
    *s = (struct packed_scheme){.order = PACKED_AWQ, .parts = awq_parts};
    if (!int_of(o, "bits", 4, &s->bits, err) || !int_of(o, "group_size", 128, &s->group_size, err) ||
        !flag_of(o, "zero_point", true, &s->zeros, err) || !word_is(o, "version", versions, &ignored, err) ||
        !word_is(o, "format", versions, &ignored, err) || !word_is(o, "checkpoint_format", versions, &ignored, err) ||
        !word_is(o, "backend", backends, &ignored, err))
        return false;
    if (!s->zeros)
        return error_set(err, ERR_UNSUPPORTED, SAYS ".zero_point false is not supported; true is.");
    return check_numbers(s, "bits", err);
}

/* GPTQModel's rules for modules: those that leave some out ("-:...") need nothing of us. */
static bool check_dynamic(const struct json *dynamic, struct error *err)
{
    struct json_iter it = json_members(dynamic);
    while (json_type(dynamic) == JSON_OBJECT && json_next(&it)) {
        if (!str_starts(it.key, STR("-:")))
            return error_set(err, ERR_UNSUPPORTED,
                             SAYS ".dynamic '%.60s': other numbers for some modules are not "
                                  "supported.",
                             it.key.ptr);
    }
    return true;
}

static bool read_gptq(const struct json *o, struct packed_scheme *s, struct error *err)
{
    static const char *const formats[] = {"gptq", "gptq_v2", NULL}, *const words[] = {"int32", NULL};
    size_t format, also, ignored;
    bool marlin;
    *s = (struct packed_scheme){.order = PACKED_GPTQ, .zeros = true, .parts = gptq_parts};
    if (!int_of(o, "bits", 4, &s->bits, err) || !int_of(o, "group_size", 128, &s->group_size, err) ||
        !word_is(o, "checkpoint_format", formats, &format, err) || !word_is(o, "format", formats, &also, err) ||
        !flag_of(o, "desc_act", false, &s->g_idx, err) || !word_is(o, "pack_dtype", words, &ignored, err) ||
        !flag_of(o, "is_marlin_format", false, &marlin, err) || !check_dynamic(json_get(o, "dynamic"), err))
        return false;
    if (marlin)
        return error_set(err, ERR_UNSUPPORTED, SAYS ".is_marlin_format true is not supported.");
    s->zero_add = format == 0 && also == 0;
    s->g_idx = s->g_idx && s->group_size != -1; /* one group has all columns */
    return check_numbers(s, "bits", err);
}

static bool read_compressed(const struct json *o, struct packed_scheme *s, struct error *err)
{
    static const char *const formats[] = {"pack-quantized", NULL}, *const types[] = {"int", NULL};
    static const char *const strategies[] = {"group", "channel", NULL};
    struct json_iter groups = json_members(json_get(o, "config_groups"));
    size_t strategy, ignored;
    bool symmetric;
    *s = (struct packed_scheme){.order = PACKED_ROWS, .parts = compressed_parts};
    if (!word_is(o, "format", formats, &ignored, err))
        return false;
    if (json_type(json_get(o, "config_groups")) != JSON_OBJECT || json_len(json_get(o, "config_groups")) != 1 ||
        !json_next(&groups))
        return error_set(err, ERR_UNSUPPORTED, SAYS ".config_groups: one group of modules is supported.");
    const struct json *weights = json_get(groups.value, "weights");
    if (!json_is_null(json_get(groups.value, "input_activations")))
        return error_set(err, ERR_UNSUPPORTED, SAYS ".config_groups: input_activations are not supported.");
    if (!int_of(weights, "num_bits", 0, &s->bits, err) || !int_of(weights, "group_size", -1, &s->group_size, err) ||
        !word_is(weights, "type", types, &ignored, err) || !word_is(weights, "strategy", strategies, &strategy, err) ||
        !flag_of(weights, "symmetric", true, &symmetric, err))
        return false;
    s->zeros = !symmetric;
    s->group_size = strategy == 1 ? -1 : s->group_size;
    return check_numbers(s, "num_bits", err);
}

struct packed_method {
    const char *name;
    bool (*read)(const struct json *object, struct packed_scheme *out, struct error *err);
};

/* NULL: none of that name is read. */
static const struct packed_method *method_of(struct str name)
{
    static const struct packed_method methods[] = {
        {"awq", read_awq}, {"gptq", read_gptq}, {"compressed-tensors", read_compressed}};
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (str_eq(name, str_of(methods[i].name)))
            return &methods[i];
    }
    return NULL;
}

bool folder__packs(struct str quant_method)
{
    return method_of(quant_method) != NULL;
}

/* ---- modules ---- */

struct packer {
    struct model_file *f;
    struct packed_scheme scheme;
    struct error *err;
};

struct module { /* whose tensors become one */
    struct str name;
    const struct tensor_view *parts[PART_COUNT]; /* NULL: it has none */
    uint64_t n, k, n_groups;
};

static const struct tensor_view *sibling(const struct model_file *f, struct str module, const char *suffix)
{
    char name[NAME_SIZE];
    if (!suffix)
        return NULL;
    snprintf(name, sizeof(name), STR_FMT "%s", STR_ARG(module), suffix);
    return model_file_tensor(f, name);
}

static bool wrong(const struct packer *p, const struct module *m, enum packed_part part, const char *what)
{
    struct str shown = str_slice(m->name, 0, utf8_cut(m->name, 96));
    return error_set(p->err, ERR_FORMAT, "The tensor '" STR_FMT "%s' %s.", STR_ARG(shown), p->scheme.parts[part], what);
}

/* rows by cols of words, or of scales, or a vector (rows 0) of numbers. */
static bool check_part(const struct packer *p, const struct module *m, enum packed_part part, uint64_t rows,
                       uint64_t cols)
{
    const struct tensor_view *t = m->parts[part];
    bool vector = part == PART_G_IDX, floats = part == PART_SCALES;
    char what[160];
    if (!t)
        return wrong(p, m, part, "is missing");
    if (floats ? t->type != DTYPE_F16 && t->type != DTYPE_BF16 : t->type != DTYPE_I32) {
        snprintf(what, sizeof(what), "is of the type %s; %s was expected", dtype_info(t->type)->name,
                 floats ? "F16 or BF16" : "I32");
        return wrong(p, m, part, what);
    }
    if (t->n_dims == (vector ? 1 : 2) && (vector ? t->shape[0] == cols : t->shape[0] == rows && t->shape[1] == cols))
        return true;
    snprintf(what, sizeof(what), "has %d axes, the first of %llu, the second of %llu; %llu by %llu was expected",
             t->n_dims, (unsigned long long)t->shape[0], (unsigned long long)t->shape[1],
             (unsigned long long)(vector ? 1 : rows), (unsigned long long)cols);
    return wrong(p, m, part, what);
}

/* n and k, from the codes. */
static bool measure(const struct packer *p, struct module *m)
{
    const struct packed_scheme *s = &p->scheme;
    const struct tensor_view *codes = m->parts[PART_CODES];
    uint64_t per_word = 32 / (uint64_t)s->bits, size = (uint64_t)s->group_size;
    char what[128];
    if (codes->type != DTYPE_I32 || codes->n_dims != 2)
        return check_part(p, m, PART_CODES, codes->shape[0], codes->shape[1]);
    m->n = codes->shape[s->order == PACKED_ROWS ? 0 : 1] * (s->order == PACKED_AWQ ? per_word : 1);
    m->k = codes->shape[s->order == PACKED_ROWS ? 1 : 0] * (s->order == PACKED_AWQ ? 1 : per_word);
    size = size ? size : m->k;
    if (m->k == 0 || m->n == 0 || m->k % 32 != 0 || m->k % size != 0 || m->n % per_word != 0 || m->k > INT_MAX / 2) {
        snprintf(what, sizeof(what), "has %llu rows of %llu columns, which are no groups of %llu",
                 (unsigned long long)m->n, (unsigned long long)m->k, (unsigned long long)size);
        return wrong(p, m, PART_CODES, what);
    }
    m->n_groups = m->k / size;
    return true;
}

static bool check_module(const struct packer *p, struct module *m)
{
    const struct packed_scheme *s = &p->scheme;
    uint64_t n_words = 0;
    if (!measure(p, m))
        return false;
    n_words = m->n * (uint64_t)s->bits / 32;
    bool rows = s->order == PACKED_ROWS;
    if (!check_part(p, m, PART_SCALES, rows ? m->n : m->n_groups, rows ? m->n_groups : m->n))
        return false;
    if (s->zeros && !check_part(p, m, PART_ZEROS, rows ? n_words : m->n_groups, rows ? m->n_groups : n_words))
        return false;
    return (!m->parts[PART_G_IDX] && !s->g_idx) || check_part(p, m, PART_G_IDX, 0, m->k);
}

static bool make_packed(const struct packer *p, const struct module *m, struct tensor_view *out)
{
    const struct packed_scheme *s = &p->scheme;
    struct arena *arena = p->f->arena;
    struct group_packing *packing = arena_alloc(arena, sizeof(*packing));
    char name[NAME_SIZE];
    int len = snprintf(name, sizeof(name), STR_FMT ".weight", STR_ARG(m->name));
    struct str copy = arena_str(arena, (struct str){name, (size_t)len});
    if (!packing || !copy.ptr)
        return arena_full(arena, "index of a model folder", p->err);
    *packing = (struct group_packing){.order = s->order, .n = m->n, .k = m->k, .zero_add = s->zero_add};
    packing->zeros = s->zeros ? m->parts[PART_ZEROS]->data : NULL;
    packing->g_idx = m->parts[PART_G_IDX] ? m->parts[PART_G_IDX]->data : NULL;
    *out = *m->parts[PART_CODES];
    out->name = copy;
    out->type = DTYPE_GROUPED;
    out->shape[0] = m->n;
    out->shape[1] = m->k;
    out->quant = (struct group_quant){.mode = GROUP_AFFINE,
                                      .bits = s->bits,
                                      .group_size = (int)(m->k / m->n_groups),
                                      .scale_type = m->parts[PART_SCALES]->type,
                                      .scales = m->parts[PART_SCALES]->data,
                                      .packing = packing};
    return true;
}

/* Which part of a module the tensor is; PART_COUNT: none. */
static enum packed_part part_of(const struct packer *p, const struct tensor_view *t, struct str *module)
{
    for (int i = 0; i < PART_COUNT; i++) {
        const char *suffix = p->scheme.parts[i];
        if (!suffix || !str_ends(t->name, str_of(suffix)))
            continue;
        *module = str_slice(t->name, 0, t->name.len - strlen(suffix));
        if (sibling(p->f, *module, p->scheme.parts[PART_CODES]))
            return (enum packed_part)i;
    }
    return PART_COUNT;
}

static bool add_tensor(const struct packer *p, const struct tensor_view *t, struct tensor_view *list, size_t *n)
{
    struct module m = {0};
    enum packed_part part = part_of(p, t, &m.name);
    if (part == PART_COUNT)
        list[(*n)++] = *t;
    if (part != PART_CODES)
        return true;
    for (int i = 0; i < PART_COUNT; i++)
        m.parts[i] = sibling(p->f, m.name, p->scheme.parts[i]);
    return check_module(p, &m) && make_packed(p, &m, &list[(*n)++]);
}

bool folder__pack(struct model_file *f, const struct json *quantization, struct tensor_view *list, size_t *n,
                  struct error *err)
{
    struct packer p = {.f = f, .err = err};
    const struct packed_method *method = method_of(json_str(json_get(quantization, "quant_method")));
    if (!method->read(quantization, &p.scheme, err))
        return false;
    for (size_t i = 0; i < f->n_tensors; i++) {
        if (!add_tensor(&p, &f->tensors[i], list, n))
            return false;
    }
    return true;
}
