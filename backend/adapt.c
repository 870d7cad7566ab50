#include "backend/adapt.h"

#include "base/array.h"

/* ---- parts ---- */

static bool check_number(int adapter, struct error *err)
{
    return (adapter >= 1 && adapter <= BACKEND_MAX_ADAPTERS) ||
           error_set(err, ERR_INTERNAL, "There is no adapter number %d: they are 1 to %d.", adapter,
                     BACKEND_MAX_ADAPTERS);
}

static bool check_shape(const struct tensor_view *v, uint64_t rows, size_t cols, struct error *err)
{
    size_t row_size, size;
    if (v->n_dims != 2 || v->shape[0] != rows || v->shape[1] != cols)
        return error_set(err, ERR_FORMAT, "The tensor '" STR_FMT "' of an adapter has to be %llu by %zu.",
                         STR_ARG(str_slice(v->name, 0, 100)), (unsigned long long)rows, cols);
    if (v->type == DTYPE_GROUPED || !dtype_size(v->type, cols, &row_size) || !size_mul(row_size, (size_t)rows, &size) ||
        size != v->size)
        return error_set(err, ERR_FORMAT, "The tensor '" STR_FMT "' of an adapter has %zu bytes, not its shape's size.",
                         STR_ARG(str_slice(v->name, 0, 100)), v->size);
    return true;
}

bool adapt_check_part(const struct weight_info *w, bool stacked, int adapter, const struct adapter_part *part,
                      struct error *err)
{
    if (!check_number(adapter, err))
        return false;
    if (!part)
        return true;
    if (stacked)
        return error_set(err, ERR_UNSUPPORTED, "A stack of matrices takes no adapter.");
    uint64_t rank = part->a->shape[0];
    if (rank < 1 || rank > BACKEND_MAX_ADAPTER_RANK)
        return error_set(err, ERR_FORMAT, "The tensor '" STR_FMT "' is of rank %llu; 1 to %d are possible.",
                         STR_ARG(str_slice(part->a->name, 0, 100)), (unsigned long long)rank, BACKEND_MAX_ADAPTER_RANK);
    return check_shape(part->a, rank, w->n_in, err) && check_shape(part->b, w->n_out, (size_t)rank, err);
}

/* ---- batches ---- */

bool adapt_check_batch(const struct batch *b, struct error *err)
{
    for (int i = 0; i < b->n_seqs; i++) {
        if (b->seqs[i].adapter != 0 && !check_number(b->seqs[i].adapter, err))
            return false;
    }
    return true;
}

bool adapt_wanted(const struct batch *b)
{
    for (int i = 0; i < b->n_seqs; i++) {
        if (b->seqs[i].adapter != 0)
            return true;
    }
    return false;
}

void adapt_rows(const struct batch *b, int32_t *rows, int32_t *outs)
{
    for (int i = 0; i < b->n_seqs; i++) {
        for (int r = 0; r < b->seqs[i].n_rows; r++)
            rows[b->seqs[i].first_row + r] = b->seqs[i].adapter;
    }
    for (int i = 0; i < b->n_out; i++)
        outs[i] = rows[b->out_rows[i]];
}
