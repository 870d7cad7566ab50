/* What the fuzzers of model files do with a model that opened: everything its users would. */
#ifndef TANDEM_TESTS_FUZZ_WALK_MODEL_H
#define TANDEM_TESTS_FUZZ_WALK_MODEL_H

#include "tensor/group_packed.h"
#include "tensor/model_file.h"

#include <stdlib.h>

static volatile uint64_t walk_sink; /* keeps the optimizer from dropping what is only read */

static inline void walk_str(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        walk_sink += (uint8_t)s.ptr[i];
}

static inline void walk_value(const struct meta_value *v)
{
    walk_str(v->s);
    for (size_t i = 0; i < v->n; i++) {
        int64_t integer = 0;
        double number = 0;
        bool flag = false;
        struct str s = {0};
        bool any = meta_array_int(v, i, &integer) || meta_array_float(v, i, &number) || meta_array_bool(v, i, &flag) ||
                   meta_array_str(v, i, &s);
        if (!any)
            abort(); /* an array of a type that has no access */
        walk_str(s);
        walk_sink += (uint64_t)integer + flag + (number > 0);
    }
}

/* What backends and writers ask of a packed matrix; row: [k]. */
static inline void walk_packed(const struct tensor_view *m, float *row)
{
    struct error err = {0};
    struct tensor_view view = *m;
    size_t k = (size_t)m->shape[1];
    uint32_t *columns = malloc(k * sizeof(*columns));
    if (!columns || packed_check_groups(&m->quant, m->name, &err) != (err.code == ERR_NONE))
        abort();
    if (packed_can_sort(&m->quant) && packed_sort_columns(&m->quant, columns)) {
        view.quant.columns = columns;
        if (err.code != ERR_NONE || !packed_in_order(&view.quant))
            abort(); /* whole groups, of numbers that were refused */
        tensor_row_to_f32(&view, m->shape[0] - 1, row);
    }
    free(columns);
}

/* The first and the last row, which between them touch the ends of codes, scales and biases. */
static inline void walk_tensor(const struct tensor_view *t)
{
    char name[64];
    struct tensor_view m = tensor_as_matrix(t), last = tensor_rows(&m, m.shape[0] - 1, 1);
    float *row = malloc((size_t)m.shape[1] * sizeof(*row));
    if (!row || last.size == 0 || tensor_type_name(t, name, sizeof(name)) != name)
        abort();
    tensor_row_to_f32(&m, 0, row);
    tensor_row_to_f32(&m, m.shape[0] - 1, row);
    walk_sink += row[0] > 0;
    if (t->type == DTYPE_GROUPED && t->quant.packing)
        walk_packed(&m, row);
    free(row);
    walk_str(t->name);
}

static inline void walk_model(const struct model_file *f)
{
    uint8_t digest[32];
    for (size_t i = 0; i < model_file_n_meta(f); i++) {
        struct meta_value v = model_file_meta_at(f, i);
        walk_str(model_file_meta_key(f, i));
        walk_value(&v);
    }
    for (size_t i = 0; i < model_file_n_tensors(f); i++)
        walk_tensor(model_file_tensor_at(f, i));
    model_file_digest(f, digest);
}

#endif
