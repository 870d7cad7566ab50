/* What the readers of all containers check of a tensor directory. */
#include "tensor/model_file_internal.h"

#include "base/utf8.h"

#include <stdlib.h>

bool tensor__name_valid(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        if ((unsigned char)name.ptr[i] < ' ' || name.ptr[i] == 0x7f)
            return false;
    }
    return name.len > 0 && name.len <= LIMIT_GGUF_NAME && utf8_valid(name);
}

static int compare_spans(const void *a, const void *b)
{
    const struct tensor_span *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

bool tensor__place(struct model_shard *shard, struct tensor_span *spans, uint64_t alignment, struct error *err)
{
    const uint8_t *data = shard->data + shard->data_offset;
    uint64_t data_size = shard->size - shard->data_offset, end = 0;
    qsort(spans, shard->n_tensors, sizeof(*spans), compare_spans);
    for (size_t i = 0; i < shard->n_tensors; i++) {
        struct tensor_view *t = &shard->tensors[spans[i].index];
        struct str name = str_slice(t->name, 0, utf8_cut(t->name, 96));
        uint64_t offset = spans[i].offset;
        if (offset % alignment != 0)
            return error_set(err, ERR_FORMAT, "The tensor '" STR_FMT "' is at offset %llu, not a multiple of %llu.",
                             STR_ARG(name), (unsigned long long)offset, (unsigned long long)alignment);
        if (offset > data_size || t->size > data_size - offset)
            return error_set(err, ERR_FORMAT,
                             "The tensor '" STR_FMT
                             "' needs %zu bytes at offset %llu, but the file has %llu bytes of data.",
                             STR_ARG(name), t->size, (unsigned long long)offset, (unsigned long long)data_size);
        if (offset < end)
            return error_set(err, ERR_FORMAT, "The tensor '" STR_FMT "' overlaps another.", STR_ARG(name));
        t->data = data + offset;
        end = offset + t->size;
    }
    return true;
}
