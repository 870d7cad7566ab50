#include "tensor/gguf_writer.h"

#include "tensor/model_file_internal.h"
#include "tensor/tensor_sink.h"

#include "base/array.h"

#include <stdlib.h>

struct pending_tensor {
    struct gguf_tensor spec; /* spec.name is owned */
    size_t size;
    uint64_t offset; /* in the data section */
};

struct gguf_writer {
    struct buf meta; /* serialized keys and values */
    uint64_t n_keys;
    struct pending_tensor *tensors;
    size_t n_tensors, cap;
    uint64_t data_size; /* so far, padded */
    uint64_t alignment;
    struct error err; /* the first failure */
};

struct gguf_writer *gguf_writer_create(void)
{
    struct gguf_writer *w = calloc(1, sizeof(*w));
    if (w) {
        buf_init(&w->meta, LIMIT_GGUF_INDEX);
        w->alignment = GGUF_DEFAULT_ALIGNMENT;
    }
    return w;
}

void gguf_writer_free(struct gguf_writer *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->n_tensors; i++)
        free((char *)w->tensors[i].spec.name);
    free(w->tensors);
    buf_release(&w->meta);
    free(w);
}

/* ---- metadata ---- */

static void append_u32(struct buf *b, uint32_t v)
{
    buf_append_bytes(b, &v, sizeof(v));
}

static void append_u64(struct buf *b, uint64_t v)
{
    buf_append_bytes(b, &v, sizeof(v));
}

static void append_str(struct buf *b, struct str s)
{
    append_u64(b, s.len);
    buf_append(b, s);
}

static struct buf *begin_value(struct gguf_writer *w, struct str key, enum gguf_type type)
{
    w->n_keys++;
    append_str(&w->meta, key);
    append_u32(&w->meta, type);
    return &w->meta;
}

static void put_int(struct gguf_writer *w, struct str key, enum gguf_type type, int64_t v)
{
    buf_append_bytes(begin_value(w, key, type), &v, gguf__type_size(type)); /* little-endian: the low bytes */
}

static void put_float(struct gguf_writer *w, struct str key, enum gguf_type type, double v)
{
    float narrow = (float)v;
    struct buf *b = begin_value(w, key, type);
    if (type == GGUF_F32)
        buf_append_bytes(b, &narrow, sizeof(narrow));
    else
        buf_append_bytes(b, &v, sizeof(v));
}

static void put_array(struct gguf_writer *w, struct str key, enum gguf_type type, const void *items, size_t n)
{
    struct buf *b = begin_value(w, key, GGUF_ARRAY);
    append_u32(b, type);
    append_u64(b, n);
    if (n > 0)
        buf_append_bytes(b, items, n * gguf__type_size(type));
}

static void put_str_array(struct gguf_writer *w, struct str key, const struct str *items, size_t n)
{
    struct buf *b = begin_value(w, key, GGUF_ARRAY);
    append_u32(b, GGUF_STRING);
    append_u64(b, n);
    for (size_t i = 0; i < n; i++)
        append_str(b, items[i]);
}

void gguf_put_int(struct gguf_writer *w, const char *key, enum gguf_type type, int64_t v)
{
    put_int(w, str_of(key), type, v);
}

void gguf_put_float(struct gguf_writer *w, const char *key, enum gguf_type type, double v)
{
    put_float(w, str_of(key), type, v);
}

void gguf_put_bool(struct gguf_writer *w, const char *key, bool v)
{
    put_int(w, str_of(key), GGUF_BOOL, v);
}

void gguf_put_str(struct gguf_writer *w, const char *key, struct str v)
{
    append_str(begin_value(w, str_of(key), GGUF_STRING), v);
}

void gguf_put_array(struct gguf_writer *w, const char *key, enum gguf_type type, const void *items, size_t n)
{
    put_array(w, str_of(key), type, items, n);
}

void gguf_put_str_array(struct gguf_writer *w, const char *key, const struct str *items, size_t n)
{
    put_str_array(w, str_of(key), items, n);
}

void gguf_put_value(struct gguf_writer *w, struct str key, const struct meta_value *v)
{
    enum gguf_type type = (enum gguf_type)v->source_type;
    const struct meta_items *array = v->items;
    switch (v->type) {
    case META_INT:
        put_int(w, key, type, v->i);
        break;
    case META_FLOAT:
        put_float(w, key, type, v->f);
        break;
    case META_BOOL:
        put_int(w, key, type, v->b);
        break;
    case META_STRING:
        append_str(begin_value(w, key, type), v->s);
        break;
    case META_ARRAY:
        if (v->item_type == META_STRING)
            put_str_array(w, key, array->strs, v->n);
        else
            put_array(w, key, array->type, array->data, v->n);
        break;
    case META_NONE:
        break;
    }
}

void gguf_set_alignment(struct gguf_writer *w, uint32_t alignment)
{
    w->alignment = alignment;
    gguf_put_int(w, GGUF_KEY_ALIGNMENT, GGUF_U32, alignment);
}

/* ---- tensors ---- */

static uint64_t padding(uint64_t pos, uint64_t alignment)
{
    return (alignment - pos % alignment) % alignment;
}

static bool add_tensor(struct gguf_writer *w, const struct gguf_tensor *tensor, struct error *err)
{
    struct pending_tensor pending = {.spec = *tensor, .offset = w->data_size};
    if (dtype_info(tensor->type)->gguf_id < 0)
        return error_set(err, ERR_INVALID, "The type %s of the tensor '%.96s' does not exist in GGUF files.",
                         dtype_info(tensor->type)->name, tensor->name);
    if (!tensor_sink__size(tensor, &pending.size, err) ||
        !array_reserve(&w->tensors, &w->cap, w->n_tensors + 1, LIMIT_GGUF_TENSORS, "tensors", err))
        return false;
    uint64_t pad = padding(pending.size, w->alignment);
    if (pending.size > (uint64_t)INT64_MAX - w->data_size - pad)
        return error_set(err, ERR_TOO_LARGE, "The tensors exceed what a file can hold.");
    pending.spec.name = strdup(tensor->name);
    if (!pending.spec.name)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for a tensor's name.");
    w->data_size += pending.size + pad;
    w->tensors[w->n_tensors++] = pending;
    return true;
}

void gguf_add_tensor(struct gguf_writer *w, const struct gguf_tensor *tensor)
{
    if (w->err.code == ERR_NONE && !add_tensor(w, tensor, &w->err))
        w->err.code = w->err.code == ERR_NONE ? ERR_INTERNAL : w->err.code;
}

/* ---- output ---- */

static void append_directory(const struct gguf_writer *w, struct buf *out)
{
    for (size_t i = 0; i < w->n_tensors; i++) {
        const struct gguf_tensor *t = &w->tensors[i].spec;
        append_str(out, str_of(t->name));
        append_u32(out, (uint32_t)t->n_dims);
        for (int d = t->n_dims - 1; d >= 0; d--)
            append_u64(out, t->shape[d]);
        append_u32(out, (uint32_t)dtype_info(t->type)->gguf_id);
        append_u64(out, w->tensors[i].offset);
    }
}

static bool write_head(const struct gguf_writer *w, struct tensor_sink *s)
{
    struct buf head;
    buf_init(&head, LIMIT_GGUF_INDEX);
    buf_puts(&head, GGUF_MAGIC);
    append_u32(&head, GGUF_VERSION);
    append_u64(&head, w->n_tensors);
    append_u64(&head, w->n_keys);
    buf_append(&head, buf_view(&w->meta));
    append_directory(w, &head);
    bool ok = buf_ok(&w->meta, "metadata", s->err) && buf_ok(&head, "metadata and tensor directory", s->err) &&
              tensor_sink__write(s, head.data, head.len) && tensor_sink__pad(s, padding(head.len, w->alignment));
    buf_release(&head);
    return ok;
}

static bool write_all(const void *writer, struct tensor_sink *s)
{
    const struct gguf_writer *w = writer;
    if (w->err.code != ERR_NONE) {
        *s->err = w->err;
        return false;
    }
    if (!write_head(w, s))
        return false;
    for (size_t i = 0; i < w->n_tensors; i++) {
        const struct pending_tensor *t = &w->tensors[i];
        if (!tensor_sink__tensor(s, &t->spec, t->size) || !tensor_sink__pad(s, padding(t->size, w->alignment)))
            return false;
    }
    return true;
}

bool gguf_write_buf(struct gguf_writer *w, struct buf *out, struct error *err)
{
    struct tensor_sink s = {.buf = out, .err = err};
    return write_all(w, &s);
}

bool gguf_write_file(struct gguf_writer *w, const char *path, struct error *err)
{
    return tensor_sink__file(path, write_all, w, err);
}
