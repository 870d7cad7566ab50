/* The GGUF reader over arbitrary bytes: whatever opens is walked completely, as its users would. */
#include "tensor/gguf_writer.h"

#include "base/limits.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Keeps the optimizer from dropping what is only read. */
static volatile uint64_t sink;

static void touch(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        sink += (uint8_t)s.ptr[i];
}

static void walk_value(const struct meta_value *v)
{
    touch(v->s);
    for (size_t i = 0; i < v->n; i++) {
        int64_t integer = 0;
        double number = 0;
        bool flag = false;
        struct str s = {0};
        bool any = meta_array_int(v, i, &integer) || meta_array_float(v, i, &number) || meta_array_bool(v, i, &flag) ||
                   meta_array_str(v, i, &s);
        if (!any)
            abort(); /* an array of a type that has no access */
        touch(s);
        sink += (uint64_t)integer + flag + (number > 0);
    }
}

static void walk_tensor(const struct tensor_view *t)
{
    float block[256];
    const struct dtype_info *info = dtype_info(t->type);
    dtype_to_f32(t->type, t->data, (size_t)info->block_len, block);
    const uint8_t *last = (const uint8_t *)t->data + t->size - (size_t)info->block_size;
    dtype_to_f32(t->type, last, (size_t)info->block_len, block);
    sink += block[0] > 0;
    touch(t->name);
}

/* Metadata that was read can be written, and read again. */
static void rewrite(const struct model_file *f)
{
    struct error err = {0};
    struct buf out;
    struct gguf_writer *w = gguf_writer_create();
    if (!w)
        return;
    for (size_t i = 0; i < model_file_n_meta(f); i++) {
        struct meta_value v = model_file_meta_at(f, i);
        struct str key = model_file_meta_key(f, i);
        if (!str_starts(key, STR("split."))) /* these count tensors, which are not copied */
            gguf_put_value(w, key, &v);
    }
    buf_init(&out, MIB(16));
    if (gguf_write_buf(w, &out, &err)) {
        struct model_file *again = model_file_open_memory(out.data, out.len, &err);
        if (!again)
            abort();
        model_file_close(again);
    }
    buf_release(&out);
    gguf_writer_free(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct model_file *f = model_file_open_memory(data, size, &err);
    if (!f) {
        if (err.code == ERR_NONE || err.msg[0] == 0)
            abort(); /* a failure has to say why */
        return 0;
    }
    for (size_t i = 0; i < model_file_n_meta(f); i++) {
        struct meta_value v = model_file_meta_at(f, i);
        touch(model_file_meta_key(f, i));
        walk_value(&v);
    }
    for (size_t i = 0; i < model_file_n_tensors(f); i++)
        walk_tensor(model_file_tensor_at(f, i));
    uint8_t digest[32];
    model_file_digest(f, digest);
    rewrite(f);
    int64_t value;
    (void)!meta_int_or(f, "llama.block_count", 1, 1024, 1, &value, &err);
    (void)!model_file_override(f, "llama.block_count=int:3", &err);
    model_file_close(f);
    return 0;
}
