/* The GGUF reader over arbitrary bytes: whatever opens is walked completely, as its users would. */
#include "tensor/gguf_writer.h"

#include "base/limits.h"
#include "tests/fuzz/walk_model.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
    walk_model(f);
    rewrite(f);
    int64_t value;
    (void)!meta_int_or(f, "llama.block_count", 1, 1024, 1, &value, &err);
    (void)!model_file_override(f, "llama.block_count=int:3", &err);
    model_file_close(f);
    return 0;
}
