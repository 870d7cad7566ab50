/* The length of a GGUF head: one answer or an error, from however few bytes. Where the head ends, more bytes do not
 * change the answer. */
#include "tensor/gguf_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    uint64_t needed = 0, again = 0;
    if (!gguf_head_size(data, size, &needed, &err)) {
        if (err.code == ERR_NONE || !err.msg[0]) {
            __builtin_trap();
        }
        return 0;
    }
    if (needed <= size && (!gguf_head_size(data, (size_t)needed, &again, &err) || again != needed)) {
        __builtin_trap();
    }
    return 0;
}
