/* Grouped tensors of a folder: .weight (codes), .scales and .biases become one tensor each; so do _blocks and _scales,
 * as gpt-oss has its experts: U8 [..., k / 32, 16] and [..., k / 32], which are the codes and scales of mxfp4 in order.
 *
 * Codes and scales tell bits * group_size only (32 * columns of codes / columns of scales), since nothing here knows
 * how long a row is. config.json's "quantization" decides: its entry of the module when there is one, which has to
 * agree with the shapes; else its defaults, where they agree; else, as mlx-lm takes it from the shapes, other bits in
 * groups of the size stated, then other groups of the bits stated. The float modes need none of it: U8 scales and the
 * product tell them apart. A guess that is wrong shows where the model's shapes are checked. */
#include "tensor/model_folder_internal.h"

#include "base/array.h"
#include "base/utf8.h"

#include <stdio.h>

#define NAME_SIZE (LIMIT_GGUF_NAME + 16) /* a name with another suffix, and its NUL */

struct stated {           /* what config.json says of a module */
    bool binding;         /* by an entry of its own */
    bool excluded;        /* "module": false */
    struct group_quant q; /* bits and group_size 0: not stated */
};

struct grouper {
    struct model_file *f;
    const struct json *quantization; /* NULL: nothing stated */
    const struct json *packed;       /* what is stated of another program's modules; else NULL */
    struct stated defaults;
    struct error *err;
};

struct parts { /* the tensors that become one */
    const struct tensor_view *codes, *scales, *biases;
    char where[160]; /* "the tensor 'x.weight'" */
};

/* ---- what config.json says ---- */

static bool read_number(const struct json *object, const char *key, int *out, const char *what, struct error *err)
{
    const struct json *v = json_get(object, key);
    if (json_is_null(v))
        return true;
    if (json_type(v) != JSON_INT || json_int(v) < 1 || json_int(v) > 1024)
        return error_set(err, ERR_FORMAT, FOLDER_CONFIG ": %s of the quantization of %.96s is no sensible number.", key,
                         what);
    *out = (int)json_int(v);
    return true;
}

static void mode_defaults(enum group_mode mode, struct group_quant *q)
{
    static const struct {
        int bits, group_size;
    } defaults[GROUP_MODE_COUNT] = {
        [GROUP_AFFINE] = {4, 64}, [GROUP_MXFP4] = {4, 32}, [GROUP_MXFP8] = {8, 32}, [GROUP_NVFP4] = {4, 16}};
    q->bits = q->bits ? q->bits : defaults[mode].bits;
    q->group_size = q->group_size ? q->group_size : defaults[mode].group_size;
}

/* what: the module, for messages. */
static bool read_stated(const struct json *object, const char *what, struct group_quant *q, struct error *err)
{
    const struct json *mode = json_get(object, "mode");
    *q = (struct group_quant){.mode = GROUP_AFFINE};
    if (!json_is_null(mode) && (json_type(mode) != JSON_STRING || !group_mode_parse(json_str(mode).ptr, &q->mode)))
        return error_set(err, ERR_UNSUPPORTED, FOLDER_CONFIG ": the quantization mode '%.40s' of %.96s is unknown.",
                         json_type(mode) == JSON_STRING ? json_str(mode).ptr : json_type_name(json_type(mode)), what);
    if (!read_number(object, "bits", &q->bits, what, err) ||
        !read_number(object, "group_size", &q->group_size, what, err))
        return false;
    mode_defaults(q->mode, q);
    return true;
}

/* The module's entry, or the defaults. */
static bool stated_of(const struct grouper *g, const char *module, struct stated *out)
{
    const struct json *entry = json_get(g->quantization, module);
    *out = g->defaults;
    switch (json_type(entry)) {
    case JSON_NULL:
        return true;
    case JSON_BOOL:
        out->binding = true;
        out->excluded = !json_bool(entry);
        return true;
    case JSON_OBJECT:
        out->binding = true;
        return read_stated(entry, module, &out->q, g->err);
    default:
        return error_set(g->err, ERR_FORMAT, FOLDER_CONFIG ": the quantization of %.96s is %s.", module,
                         json_type_name(json_type(entry)));
    }
}

/* MLX writes "quantization", and the same as "quantization_config"; there, quant_method tells of other programs. */
static bool find_quantization(struct grouper *g, const struct json *config)
{
    const struct json *v = json_get(config, "quantization");
    v = v ? v : json_get(config, "quantization_config");
    v = v ? v : json_get(json_get(config, "text_config"), "quantization_config");
    if (json_is_null(v))
        return true;
    if (json_type(v) != JSON_OBJECT)
        return error_set(g->err, ERR_FORMAT, FOLDER_CONFIG ": quantization is %s instead of an object.",
                         json_type_name(json_type(v)));
    const struct json *method = json_get(v, "quant_method");
    if (json_type(method) == JSON_STRING && str_eq(json_str(method), STR("mxfp4")))
        return true; /* of _blocks and _scales, which state themselves */
    if (json_type(method) == JSON_STRING && folder__packs(json_str(method))) {
        g->packed = v;
        return true;
    }
    if (!json_is_null(method))
        return error_set(g->err, ERR_UNSUPPORTED, "Weights quantized by the method '%.60s' are not supported.",
                         json_type(method) == JSON_STRING ? json_str(method).ptr : "?");
    g->quantization = v;
    return read_stated(v, "the model", &g->defaults.q, g->err);
}

/* ---- bits and groups ---- */

static bool is_float_scale(enum dtype type)
{
    return type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16;
}

/* How well q suits: 0 not at all (the scales' type or the product), else more is better. */
static int suits(const struct group_quant *q, const struct stated *stated, uint64_t product, enum dtype scale_type)
{
    bool scales_fit = q->mode == GROUP_AFFINE ? is_float_scale(scale_type) : scale_type == DTYPE_U8;
    if (!group_quant_valid(q) || !scales_fit || product != (uint64_t)q->bits * (uint64_t)q->group_size)
        return 0;
    return 1 + (q->mode == stated->q.mode) + 2 * (q->bits == stated->q.bits) +
           4 * (q->group_size == stated->q.group_size);
}

/* bits 0 when nothing suits, or several equally well. */
static struct group_quant best_of(const struct stated *stated, uint64_t product, enum dtype scale_type)
{
    struct group_quant best = {0};
    int best_suits = 0, n_best = 0;
    for (int mode = 0; mode < GROUP_MODE_COUNT; mode++) {
        for (int bits = 2; bits <= 8; bits++) {
            for (int size = 16; size <= 128; size *= 2) {
                struct group_quant q = {.mode = (enum group_mode)mode, .bits = bits, .group_size = size};
                int fit = suits(&q, stated, product, scale_type);
                n_best = fit > best_suits ? 1 : n_best + (fit == best_suits);
                if (fit > best_suits) {
                    best = q;
                    best_suits = fit;
                }
            }
        }
    }
    return n_best == 1 ? best : (struct group_quant){0};
}

static bool contradiction(const struct parts *p, const struct stated *stated, struct error *err)
{
    return error_set(err, ERR_FORMAT,
                     FOLDER_CONFIG " says %s %d bits in groups of %d, but the codes and scales of %s are not of that.",
                     group_mode_name(stated->q.mode), stated->q.bits, stated->q.group_size, p->where);
}

static bool solve(const struct parts *p, const struct stated *stated, struct group_quant *out, struct error *err)
{
    uint64_t code_bits = 32 * p->codes->shape[p->codes->n_dims - 1]; /* of a row that is mapped: no overflow */
    uint64_t n_groups = p->scales->shape[p->scales->n_dims - 1];
    uint64_t product = code_bits % n_groups == 0 ? code_bits / n_groups : 0;
    if (stated->excluded)
        return error_set(err, ERR_FORMAT, FOLDER_CONFIG " says that %s is not quantized, but it has scales.", p->where);
    if (stated->binding) {
        *out = stated->q;
        if (!suits(out, stated, product, p->scales->type))
            return contradiction(p, stated, err);
    } else {
        *out = best_of(stated, product, p->scales->type);
        if (out->bits == 0)
            return error_set(err, ERR_FORMAT,
                             "The codes and scales of %s fit no bits and group size, or several that " FOLDER_CONFIG
                             " does not decide between.",
                             p->where);
    }
    return true;
}

/* ---- tensors ---- */

/* "module.weight" with another suffix. NULL when there is none of that name. */
static const struct tensor_view *sibling(const struct model_file *f, struct str module, const char *suffix)
{
    char name[NAME_SIZE];
    snprintf(name, sizeof(name), STR_FMT "%s", STR_ARG(module), suffix);
    return model_file_tensor(f, name);
}

/* All axes of a but the last are those of b. */
static bool same_rows(const struct tensor_view *a, const struct tensor_view *b)
{
    bool same = true;
    for (int i = 0; same && i + 1 < a->n_dims; i++)
        same = a->shape[i] == b->shape[i];
    return same;
}

static bool check_parts(const struct parts *p, const struct group_quant *q, struct error *err)
{
    const struct tensor_view *scales = p->scales, *biases = p->biases;
    if (p->codes->n_dims < 2 || p->codes->n_dims != scales->n_dims || !same_rows(p->codes, scales))
        return error_set(err, ERR_FORMAT, "The scales of %s have other rows than its codes.", p->where);
    if ((q->mode == GROUP_AFFINE) != (biases != NULL))
        return error_set(err, ERR_FORMAT, "Biases %s %s, whose mode is %s.", biases ? "lie beside" : "are missing of",
                         p->where, group_mode_name(q->mode));
    if (biases && (biases->type != scales->type || biases->n_dims != scales->n_dims || !same_rows(biases, scales) ||
                   biases->size != scales->size))
        return error_set(err, ERR_FORMAT, "The biases of %s have another type or shape than its scales.", p->where);
    return true;
}

static bool make_grouped(const struct parts *p, const struct group_quant *q, struct tensor_view *out, struct error *err)
{
    int last = p->codes->n_dims - 1;
    uint64_t k = p->scales->shape[last] * (uint64_t)q->group_size; /* as many as there are codes: no overflow */
    *out = *p->codes;
    out->type = DTYPE_GROUPED;
    out->shape[last] = k;
    out->quant = *q;
    out->quant.scale_type = p->scales->type;
    out->quant.scales = p->scales->data;
    out->quant.biases = p->biases ? p->biases->data : NULL;
    if (k % 32 != 0)
        return error_set(err, ERR_UNSUPPORTED, "The rows of %s have %llu elements, not a multiple of 32.", p->where,
                         (unsigned long long)k);
    uint64_t n_rows = p->codes->size / (4 * p->codes->shape[last]);
    if (n_rows * grouped_row_size(q->bits, k) != p->codes->size)
        return error_set(err, ERR_FORMAT, "The codes of %s do not fill its rows.", p->where);
    return true;
}

/* weight: a U32 tensor "module.weight" with scales. */
static bool group_one(const struct grouper *g, struct parts *p, struct str module, struct tensor_view *out)
{
    char name[NAME_SIZE];
    struct str shown = str_slice(p->codes->name, 0, utf8_cut(p->codes->name, 96));
    struct stated stated;
    struct group_quant q;
    snprintf(name, sizeof(name), STR_FMT, STR_ARG(module));
    snprintf(p->where, sizeof(p->where), "the tensor '" STR_FMT "'", STR_ARG(shown));
    if (sibling(g->f, module, ".global_scale"))
        return error_set(g->err, ERR_UNSUPPORTED, "A global_scale, as beside %s, is not supported.", p->where);
    return stated_of(g, name, &stated) && solve(p, &stated, &q, g->err) && check_parts(p, &q, g->err) &&
           make_grouped(p, &q, out, g->err);
}

static bool is_blocks(const struct model_file *f, const struct tensor_view *t, struct parts *out)
{
    const struct str suffix = STR("_blocks");
    if (t->type != DTYPE_U8 || !str_ends(t->name, suffix))
        return false;
    struct str module = str_slice(t->name, 0, t->name.len - suffix.len);
    *out = (struct parts){t, sibling(f, module, "_scales"), NULL, ""};
    return out->scales != NULL;
}

static bool group_blocks(const struct grouper *g, struct parts *p, struct tensor_view *out)
{
    const struct tensor_view *codes = p->codes, *scales = p->scales;
    struct str shown = str_slice(codes->name, 0, utf8_cut(codes->name, 96));
    int last = scales->n_dims - 1;
    snprintf(p->where, sizeof(p->where), "the tensor '" STR_FMT "'", STR_ARG(shown));
    bool fits = scales->type == DTYPE_U8 && codes->n_dims == scales->n_dims + 1 && last >= 1 &&
                codes->shape[last + 1] == 16 && codes->shape[last] == scales->shape[last] && same_rows(scales, codes);
    if (!fits)
        return error_set(g->err, ERR_FORMAT, "The blocks of %s are not 16 bytes for each of its scales.", p->where);
    *out = *codes;
    out->type = DTYPE_GROUPED;
    out->n_dims = scales->n_dims;
    out->shape[last] = 32 * scales->shape[last];
    out->shape[last + 1] = 1;
    out->quant = (struct group_quant){
        .mode = GROUP_MXFP4, .bits = 4, .group_size = 32, .scale_type = DTYPE_U8, .scales = scales->data};
    return true;
}

/* Whether t is one that makes a grouped tensor, with its parts. */
static bool parts_of(const struct model_file *f, const struct tensor_view *t, struct str *module, struct parts *out)
{
    const struct str suffix = STR(".weight");
    if (t->type != DTYPE_U32 || !str_ends(t->name, suffix))
        return false;
    *module = str_slice(t->name, 0, t->name.len - suffix.len);
    *out = (struct parts){t, sibling(f, *module, ".scales"), sibling(f, *module, ".biases"), ""};
    return out->scales != NULL;
}

static bool is_block_scales(const struct model_file *f, const struct tensor_view *t)
{
    const struct str suffix = STR("_scales");
    struct parts parts;
    if (!str_ends(t->name, suffix))
        return false;
    const struct tensor_view *blocks = sibling(f, str_slice(t->name, 0, t->name.len - suffix.len), "_blocks");
    return blocks && is_blocks(f, blocks, &parts);
}

/* Scales and biases of grouped tensors are gone from the list: their names are not those of tensors any more. */
static bool is_part(const struct model_file *f, const struct tensor_view *t)
{
    size_t dot = t->name.len;
    struct str module;
    struct parts parts;
    if (!str_ends(t->name, STR(".scales")) && !str_ends(t->name, STR(".biases")))
        return false;
    while (t->name.ptr[dot - 1] != '.')
        dot--;
    const struct tensor_view *weight = sibling(f, str_slice(t->name, 0, dot - 1), ".weight");
    return weight && parts_of(f, weight, &module, &parts);
}

/* A new list: the old one is what names are looked up in meanwhile. */
static bool group_all(const struct grouper *g, struct tensor_view *list, size_t *n)
{
    for (size_t i = 0; i < g->f->n_tensors; i++) {
        const struct tensor_view *t = &g->f->tensors[i];
        struct parts parts;
        struct str module;
        if (is_part(g->f, t) || is_block_scales(g->f, t))
            continue;
        list[*n] = *t;
        if (is_blocks(g->f, t, &parts) && !group_blocks(g, &parts, &list[*n]))
            return false;
        if (parts_of(g->f, t, &module, &parts) && !group_one(g, &parts, module, &list[*n]))
            return false;
        ++*n;
    }
    return true;
}

bool folder__group(const struct folder *folder, struct error *err)
{
    struct model_file *f = folder->f;
    struct grouper g = {.f = f, .err = err};
    struct tensor_view *list = arena_alloc_array(f->arena, f->n_tensors + 1, sizeof(*list));
    struct name_index names;
    size_t n = 0;
    if (!list || !name_index_init(&names, f->arena, f->n_tensors))
        return arena_full(f->arena, "index of a model folder", err);
    if (!find_quantization(&g, folder->config))
        return false;
    if (g.packed ? !folder__pack(f, g.packed, list, &n, err) : !group_all(&g, list, &n))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!name_index_add(&names, list[i].name, i))
            return error_set(err, ERR_FORMAT, "The model has the tensor '" STR_FMT "' twice.",
                             STR_ARG(str_slice(list[i].name, 0, utf8_cut(list[i].name, 96))));
    }
    f->tensors = list;
    f->n_tensors = n;
    f->names = names;
    return true;
}
