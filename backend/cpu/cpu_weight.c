/* Weights: packed for the kernels, or in place. Matrices that do not pack
 * are used where they lie. */
#include "backend/cpu/cpu_internal.h"
#include "backend/cpu/cpu_pack.h"

#include "base/array.h"
#include "tensor/group_packed.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PARTS 65536 /* matrices of a weight: experts */

static size_t rows_of(const struct tensor_view *v)
{
    return v->n_dims < 2 ? 1 : (size_t)v->shape[0];
}

static size_t cols_of(const struct tensor_view *v)
{
    return (size_t)v->shape[v->n_dims < 2 ? 0 : 1];
}

static bool is_matrix_type(const struct cpu_backend *be, const struct tensor_view *v)
{
    struct pack_format ignored;
    bool packed = be->kernels->pack_rows > 0 && pack_format_of(v, &ignored);
    return packed || be->kernels->linear[v->type] != NULL || cpu__is_decoded(v->type);
}

static bool row_size_of(const struct tensor_view *v, size_t n_in, size_t *size)
{
    if (v->type != DTYPE_GROUPED)
        return dtype_size(v->type, n_in, size);
    *size = grouped_row_size(v->quant.bits, n_in);
    if (v->quant.packing)
        return v->quant.packing->k == n_in && packed_valid(&v->quant, n_in);
    return group_quant_valid(&v->quant) && n_in % (size_t)v->quant.group_size == 0;
}

/* v: a vector or a matrix */
static bool check_view(const struct cpu_backend *be, const struct tensor_view *v, size_t n_in, struct error *err)
{
    size_t row_size, size;
    if (v->n_dims < 1 || v->n_dims > 2 || v->shape[0] == 0 || v->shape[v->n_dims - 1] == 0 ||
        v->shape[0] > INT_MAX / 2 || v->shape[v->n_dims - 1] > INT_MAX / 2)
        return error_set(err, ERR_UNSUPPORTED, "The tensor '" STR_FMT "' of %d axes is no vector or matrix.",
                         STR_ARG(v->name), v->n_dims);
    if (cols_of(v) != n_in)
        return error_set(err, ERR_FORMAT, "The tensor '" STR_FMT "' has %zu columns; %zu were expected.",
                         STR_ARG(v->name), cols_of(v), n_in);
    if (!row_size_of(v, n_in, &row_size) || !size_mul(row_size, rows_of(v), &size) || size != v->size)
        return error_set(err, ERR_FORMAT, "The tensor '" STR_FMT "' has %zu bytes, which is not its shape's size.",
                         STR_ARG(v->name), v->size);
    if (rows_of(v) > 1 && !is_matrix_type(be, v))
        return error_set(err, ERR_UNSUPPORTED, "The tensor '" STR_FMT "' is a matrix of type %s.", STR_ARG(v->name),
                         dtype_info(v->type)->name);
    return true;
}

/* ---- packing ---- */

struct pack_args {
    const struct pack_format *format;
    const struct tensor_view *matrix;
    int rows;
    size_t panel_size, panels_per_tile, n_panels;
    uint8_t *dst;
};

static void pack_tile(void *arg, int tile, int thread)
{
    const struct pack_args *a = arg;
    size_t first = (size_t)tile * a->panels_per_tile, end = first + a->panels_per_tile;
    (void)thread;
    for (size_t i = first; i < end && i < a->n_panels; i++)
        pack_panel(a->format, a->matrix, i * (size_t)a->rows, a->rows, a->dst + i * a->panel_size);
}

/* v: the part's rows [n_rows, n_in] */
static bool pack_part(struct cpu_backend *be, struct weight *w, struct weight_part *part, const struct tensor_view *v,
                      struct error *err)
{
    struct tensor_view matrix = tensor_as_matrix(v);
    int rows = be->kernels->pack_rows;
    size_t panel_size = pack_panel_size(&part->pack, rows, (int)w->n_in);
    size_t n_panels = (part->n_rows + (size_t)rows - 1) / (size_t)rows;
    size_t size;
    uint8_t *panels = NULL;
    if (size_mul(panel_size, n_panels, &size))
        panels = cpu__weight_alloc(be, size, &part->chunk);
    if (!panels)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for a weight of %zu by %zu.", part->n_rows, w->n_in);
    struct pack_args args = {.format = &part->pack,
                             .matrix = &matrix,
                             .rows = rows,
                             .panel_size = panel_size,
                             .panels_per_tile = n_panels / 512 + 1,
                             .n_panels = n_panels,
                             .dst = panels};
    pool_run(be->pool, pack_tile, &args, (int)((n_panels + args.panels_per_tile - 1) / args.panels_per_tile));
    part->data = panels;
    w->info.resident_size += size;
    return true;
}

/* Kernels read numbers where they lie; tensors of safetensors may lie anywhere. */
static bool lies_aligned(const struct tensor_view *v)
{
    const struct dtype_info *info = dtype_info(v->type);
    return info->quantized || info->block_size < 2 || (uintptr_t)v->data % (size_t)info->block_size == 0;
}

static bool copy_part(struct cpu_backend *be, const struct weight *w, struct weight_part *part, size_t size,
                      struct error *err)
{
    void *copy = cpu__weight_alloc(be, size, &part->chunk);
    if (!copy)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for a weight of %zu by %zu.", part->n_rows, w->n_in);
    memcpy(copy, part->data, size);
    part->data = copy;
    return true;
}

/* In MLX's mxfp4 a scale of 255 is infinity, in GGUF's, whose kernel it shares, 2^127. No encoder writes it. */
static bool has_infinite_scale(const struct tensor_view *v)
{
    const struct group_quant *q = &v->quant;
    return v->type == DTYPE_GROUPED && q->mode == GROUP_MXFP4 &&
           memchr(q->scales, 255, group_scales_size(q, rows_of(v), cols_of(v))) != NULL;
}

static bool wants_packing(const struct cpu_backend *be, const struct tensor_view *v, struct pack_format *out)
{
    if (be->kernels->pack_rows > 0 && !has_infinite_scale(v) && pack_format_of(v, out))
        return true;
    *out = (struct pack_format){0};
    return false;
}

/* Where they lie in the file. */
static bool use_in_place(struct cpu_backend *be, struct weight *w, struct weight_part *part,
                         const struct tensor_view *v, struct error *err)
{
    w->info.resident_size += v->size;
    if (v->type == DTYPE_GROUPED)
        w->info.resident_size += group_scales_size(&v->quant, rows_of(v), cols_of(v));
    if (!lies_aligned(v))
        return copy_part(be, w, part, v->size, err);
    w->info.mapped = true;
    return true;
}

/* Columns that are not in the order of their groups are sorted, where panels are made: groups are whole then, and what
 * is multiplied is sorted alike. A matrix whose groups are not of equal size stays as it is, to be decoded. */
static bool sort_columns(const struct cpu_backend *be, struct weight_part *part, size_t n_in, struct tensor_view *v,
                         struct error *err)
{
    if (be->kernels->pack_rows == 0 || v->type != DTYPE_GROUPED || !v->quant.packing || packed_in_order(&v->quant))
        return true;
    part->columns = malloc(n_in * sizeof(*part->columns));
    if (!part->columns)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for the order of %zu columns.", n_in);
    if (packed_sort_columns(&v->quant, part->columns)) {
        v->quant.columns = part->columns;
    } else {
        free(part->columns);
        part->columns = NULL;
    }
    return true;
}

static bool add_part(struct cpu_backend *be, struct weight *w, const struct tensor_view *as_stored, struct error *err)
{
    struct tensor_view sorted = *as_stored, *v = &sorted;
    struct weight_part *part = &w->parts[w->n_parts++];
    *part = (struct weight_part){.type = v->type, .data = v->data, .first_row = w->n_out, .n_rows = rows_of(v)};
    w->n_out += part->n_rows;
    if (!sort_columns(be, part, w->n_in, v, err))
        return false;
    part->quant = v->quant;
    if (part > w->parts)
        part->first_panel = part[-1].first_panel + (part[-1].n_rows + ADAPT_PANEL - 1) / ADAPT_PANEL;
    if (wants_packing(be, v, &part->pack)) {
        be->has_quantized = true;
        return pack_part(be, w, part, v, err);
    }
    return use_in_place(be, w, part, v, err);
}

/* ---- vectors ---- */

static bool are_vectors(const struct tensor_view *const *views, int n_views)
{
    for (int i = 0; i < n_views; i++) {
        if (views[i]->n_dims > 2 || rows_of(views[i]) != 1 || (n_views > 1 && views[i]->n_dims > 1))
            return false;
    }
    return true;
}

/* Of the views one after the other. */
static bool make_vector(const struct cpu_backend *be, struct weight *w, const struct tensor_view *const *views,
                        int n_views, struct error *err)
{
    size_t n = 0;
    for (int i = 0; i < n_views; i++) {
        if (!check_view(be, views[i], cols_of(views[i]), err))
            return false;
        n += cols_of(views[i]);
    }
    size_t size = (n * sizeof(float) + CPU_ALIGN - 1) / CPU_ALIGN * CPU_ALIGN;
    w->vector = aligned_alloc(CPU_ALIGN, size);
    if (!w->vector)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for a vector of %zu.", n);
    w->n_in = 0;
    for (int i = 0; i < n_views; i++) {
        tensor_row_to_f32(views[i], 0, w->vector + w->n_in);
        w->n_in += cols_of(views[i]);
    }
    w->n_out = 1;
    w->n_parts = 1;
    w->parts[0] = (struct weight_part){.type = DTYPE_F32, .data = (const uint8_t *)w->vector, .n_rows = 1};
    w->info.resident_size = w->n_in * sizeof(float);
    return true;
}

/* ---- life ---- */

static void describe(const struct cpu_backend *be, struct weight *w)
{
    const struct weight_part *p = &w->parts[0];
    struct tensor_view type = {.type = p->type, .quant = p->quant};
    char name[48];
    const char *more = w->n_parts > 1 ? " and others" : "";
    tensor_type_name(&type, name, sizeof(name));
    if (w->vector)
        snprintf(w->layout, sizeof(w->layout), "f32 vector");
    else if (cpu__takes_quantized(p))
        snprintf(w->layout, sizeof(w->layout), "%s%s in panels of %d rows%s", name, more, be->kernels->pack_rows,
                 p->columns ? ", columns sorted" : "");
    else
        snprintf(w->layout, sizeof(w->layout), "%s%s in place", name, more);
    w->info.layout = w->layout;
    w->info.n_out = w->n_out;
    w->info.n_in = w->n_in;
}

static bool add_view(struct cpu_backend *be, struct weight *w, const struct tensor_view *v, struct error *err)
{
    if (!check_view(be, v, w->n_in, err))
        return false;
    if (!is_matrix_type(be, v))
        return error_set(err, ERR_UNSUPPORTED, "The tensor '" STR_FMT "' is a matrix of type %s.", STR_ARG(v->name),
                         dtype_info(v->type)->name);
    return add_part(be, w, v, err) || error_wrap(err, "tensor '" STR_FMT "'", STR_ARG(v->name));
}

/* A stack of three axes becomes one part for each of its matrices. */
static bool add_stack(struct cpu_backend *be, struct weight *w, const struct tensor_view *v, struct error *err)
{
    struct tensor_view all = tensor_as_matrix(v);
    if (!check_view(be, &all, w->n_in, err))
        return false;
    w->stacked = true;
    for (uint64_t i = 0; i < v->shape[0]; i++) {
        struct tensor_view one = tensor_rows(v, i, 1);
        struct tensor_view matrix = tensor_as_matrix(&one);
        if (!add_view(be, w, &matrix, err))
            return false;
    }
    return true;
}

static bool build(struct cpu_backend *be, struct weight *w, const struct tensor_view *const *views, int n_views,
                  struct error *err)
{
    w->n_in = (size_t)views[0]->shape[views[0]->n_dims - 1];
    if (are_vectors(views, n_views))
        return make_vector(be, w, views, n_views, err);
    for (int i = 0; i < n_views; i++) {
        if (!(views[i]->n_dims == 3 ? add_stack(be, w, views[i], err) : add_view(be, w, views[i], err)))
            return false;
    }
    return true;
}

/* Parts that the views make; 0 when they are too many. */
static size_t count_parts(const struct tensor_view *const *views, int n_views)
{
    size_t n = 0;
    for (int i = 0; i < n_views; i++) {
        uint64_t own = views[i]->n_dims == 3 ? views[i]->shape[0] : 1;
        if (own > MAX_PARTS || n + own > MAX_PARTS)
            return 0;
        n += (size_t)own;
    }
    return n;
}

struct weight *cpu__weight_create(struct backend *base, const struct tensor_view *const *views, int n_views,
                                  struct error *err)
{
    struct cpu_backend *be = cpu__of(base);
    struct weight *w = calloc(1, sizeof(*w));
    size_t n_parts = count_parts(views, n_views);
    struct weight_part *parts = n_parts > 0 ? calloc(n_parts, sizeof(*parts)) : NULL;
    if (!w || !parts) {
        error_set(err, n_parts > 0 ? ERR_NO_MEMORY : ERR_INTERNAL, "There is no memory for a weight of %d tensors.",
                  n_views);
        free(w);
        free(parts);
        return NULL;
    }
    w->parts = parts;
    if (!build(be, w, views, n_views, err)) {
        cpu__weight_free(base, w);
        return NULL;
    }
    describe(be, w);
    return w;
}

/* Rows are decoded one at a time, whatever their type: nothing is packed. */
struct weight *cpu__table_create(struct backend *base, const struct tensor_view *view, struct error *err)
{
    struct cpu_backend *be = cpu__of(base);
    struct weight *w = calloc(1, sizeof(*w));
    struct weight_part *part = w ? calloc(1, sizeof(*part)) : NULL;
    if (!part) {
        free(w);
        error_set(err, ERR_NO_MEMORY, "There is no memory for a table.");
        return NULL;
    }
    w->parts = part;
    w->n_parts = 1;
    w->n_in = cols_of(view);
    w->n_out = rows_of(view);
    *part = (struct weight_part){.type = view->type, .quant = view->quant, .data = view->data, .n_rows = w->n_out};
    if (!check_view(be, view, w->n_in, err) || !use_in_place(be, w, part, view, err)) {
        cpu__weight_free(base, w);
        return NULL;
    }
    describe(be, w);
    return w;
}

void cpu__weight_free(struct backend *base, struct weight *w)
{
    if (!w)
        return;
    for (int i = 0; i < w->n_parts; i++) {
        cpu__weight_release(cpu__of(base), w->parts[i].chunk);
        free(w->parts[i].columns);
    }
    cpu__weight_drop_adapters(w);
    free(w->vector);
    free(w->parts);
    free(w);
}

const char *cpu_layout_of(const struct tensor_view *t)
{
    if (t->n_dims < 2)
        return "f32 vector";
    struct pack_format ignored;
    if (pack_format_of(t, &ignored))
        return "int8 panels, same codes";
    if (t->type == DTYPE_GROUPED && t->quant.packing && packed_can_sort(&t->quant))
        return "int8 panels, same codes, columns sorted";
    return cpu__is_decoded(t->type) ? "in place, decoded to f32" : "in place";
}

struct weight_info cpu__weight_info(const struct weight *w)
{
    return w->info;
}

const float *cpu__vector(const struct weight *w)
{
    return w ? w->vector : NULL;
}
