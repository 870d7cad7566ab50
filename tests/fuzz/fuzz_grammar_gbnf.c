/* GBNF of any kind: an error with a sentence, or a translation. */
#include "grammar/gbnf.h"

#include "base/limits.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf out;
    struct error err = {0};
    buf_init(&out, MIB(4));
    bool ok = gbnf_to_lark((struct str){(const char *)data, size}, &out, &err);
    if (ok ? out.len == 0 : err.msg[0] == '\0') {
        abort();
    }
    buf_release(&out);
    return 0;
}
