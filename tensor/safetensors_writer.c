#include "tensor/safetensors_writer.h"

#include "base/json.h"
#include "tensor/safetensors_format.h"
#include "tensor/tensor_sink.h"

#include <stdlib.h>

#define HEADER_ALIGNMENT 8 /* of the data in the file; as the reference implementation pads, with blanks */

struct added_tensor {
    struct gguf_tensor spec; /* spec.name is owned */
    size_t size;
};

struct safetensors_writer {
    struct buf metadata; /* members of the object, as JSON */
    struct json_writer metadata_json;
    struct added_tensor *tensors;
    size_t n_tensors, cap;
    uint64_t data_size; /* so far */
    struct error err;   /* the first failure */
};

struct safetensors_writer *safetensors_writer_create(void)
{
    struct safetensors_writer *w = calloc(1, sizeof(*w));
    if (w) {
        buf_init(&w->metadata, LIMIT_SAFETENSORS_HEAD);
        w->metadata_json = json_writer(&w->metadata);
    }
    return w;
}

void safetensors_writer_free(struct safetensors_writer *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->n_tensors; i++)
        free((char *)w->tensors[i].spec.name);
    free(w->tensors);
    buf_release(&w->metadata);
    free(w);
}

void safetensors_put_metadata(struct safetensors_writer *w, const char *key, const char *value)
{
    json_member_cstr(&w->metadata_json, key, value);
}

static bool add_tensor(struct safetensors_writer *w, const struct gguf_tensor *tensor, struct error *err)
{
    struct added_tensor added = {.spec = *tensor};
    if (!safetensors__type_name(tensor->type))
        return error_set(err, ERR_INVALID, "The type %s of the tensor '%.96s' does not exist in safetensors files.",
                         dtype_info(tensor->type)->name, tensor->name);
    if (!tensor_sink__size(tensor, &added.size, err) ||
        !array_reserve(&w->tensors, &w->cap, w->n_tensors + 1, LIMIT_FOLDER_TENSORS, "tensors", err))
        return false;
    if (added.size > (uint64_t)INT64_MAX - w->data_size)
        return error_set(err, ERR_TOO_LARGE, "The tensors exceed what a file can hold.");
    added.spec.name = strdup(tensor->name);
    if (!added.spec.name)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for a tensor's name.");
    w->data_size += added.size;
    w->tensors[w->n_tensors++] = added;
    return true;
}

void safetensors_add_tensor(struct safetensors_writer *w, const struct gguf_tensor *tensor)
{
    if (w->err.code == ERR_NONE && !add_tensor(w, tensor, &w->err))
        w->err.code = w->err.code == ERR_NONE ? ERR_INTERNAL : w->err.code;
}

/* ---- output ---- */

static void append_entry(struct json_writer *json, const struct added_tensor *t, uint64_t offset)
{
    json_key(json, t->spec.name);
    json_begin_object(json);
    json_member_cstr(json, "dtype", safetensors__type_name(t->spec.type));
    json_key(json, "shape");
    json_begin_array(json);
    for (int i = 0; i < t->spec.n_dims; i++)
        json_put_uint(json, t->spec.shape[i]);
    json_end_array(json);
    json_key(json, "data_offsets");
    json_begin_array(json);
    json_put_uint(json, offset);
    json_put_uint(json, offset + t->size);
    json_end_array(json);
    json_end_object(json);
}

static void append_header(const struct safetensors_writer *w, struct buf *out)
{
    struct json_writer json = json_writer(out);
    uint64_t offset = 0;
    json_begin_object(&json);
    if (w->metadata.len > 0) {
        json_key(&json, SAFETENSORS_METADATA);
        json_begin_object(&json);
        json_put_raw(&json, buf_view(&w->metadata));
        json_end_object(&json);
    }
    for (size_t i = 0; i < w->n_tensors; i++) {
        append_entry(&json, &w->tensors[i], offset);
        offset += w->tensors[i].size;
    }
    json_end_object(&json);
    while (!out->failed && out->len % HEADER_ALIGNMENT != 0)
        buf_putc(out, ' ');
}

static bool write_head(const struct safetensors_writer *w, struct tensor_sink *s)
{
    struct buf head;
    buf_init(&head, LIMIT_SAFETENSORS_HEAD);
    append_header(w, &head);
    uint64_t len = head.len;
    bool ok = buf_ok(&w->metadata, "metadata", s->err) && buf_ok(&head, "safetensors header", s->err) &&
              tensor_sink__write(s, &len, sizeof(len)) && tensor_sink__write(s, head.data, head.len);
    buf_release(&head);
    return ok;
}

static bool write_all(const void *writer, struct tensor_sink *s)
{
    const struct safetensors_writer *w = writer;
    if (w->err.code != ERR_NONE) {
        *s->err = w->err;
        return false;
    }
    if (!write_head(w, s))
        return false;
    for (size_t i = 0; i < w->n_tensors; i++) {
        if (!tensor_sink__tensor(s, &w->tensors[i].spec, w->tensors[i].size))
            return false;
    }
    return true;
}

bool safetensors_write_buf(struct safetensors_writer *w, struct buf *out, struct error *err)
{
    struct tensor_sink s = {.buf = out, .err = err};
    return write_all(w, &s);
}

bool safetensors_write_file(struct safetensors_writer *w, const char *path, struct error *err)
{
    return tensor_sink__file(path, write_all, w, err);
}
