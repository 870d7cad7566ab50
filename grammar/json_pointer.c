#include "grammar/json_pointer.h"

void json_pointer_put(struct buf *out, struct str name)
{
    buf_putc(out, '/');
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == '~' || name.ptr[i] == '/') {
            buf_puts(out, name.ptr[i] == '~' ? "~0" : "~1");
        } else {
            buf_putc(out, name.ptr[i]);
        }
    }
}

size_t json_pointer_unescape(char *token, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        bool escape = token[i] == '~' && i + 1 < len && (token[i + 1] == '0' || token[i + 1] == '1');
        token[n++] = escape ? (token[++i] == '0' ? '~' : '/') : token[i];
    }
    return n;
}
