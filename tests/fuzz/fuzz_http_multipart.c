/* Bodies of forms over arbitrary bytes: whatever the pieces, the same parts, data and error, each name within its
 * bound, and never more data than came.
 *
 * The first byte says how many piece sizes follow (0 to 15), each a byte; the pieces repeat over the rest. The boundary
 * is "b". */
#include "http/multipart.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void read_all(struct str input, const uint8_t *sizes, size_t n_sizes, struct buf *out)
{
    struct multipart m;
    struct error err = {0};
    enum multipart_next what = MULTIPART_MORE;
    size_t n_data = 0;
    multipart_init(&m, "b");
    for (size_t from = 0, k = 0; from < input.len && what != MULTIPART_ERROR; k++) {
        size_t n = n_sizes ? (size_t)sizes[k % n_sizes] + 1 : input.len;
        struct str piece = str_slice(input, from, from + n), data;
        from += piece.len;
        while ((what = multipart_next(&m, &piece, &data, &err)) != MULTIPART_MORE && what != MULTIPART_ERROR) {
            if (what == MULTIPART_PART) {
                check(m.name.len <= MULTIPART_NAME_MAX && m.filename.len <= MULTIPART_NAME_MAX);
                buf_printf(out, "%zu %d %zu ", m.name.len, m.has_filename, m.filename.len);
                buf_append(out, buf_view(&m.name));
                buf_append(out, buf_view(&m.filename));
            } else if (what == MULTIPART_DATA) {
                check(data.len > 0);
                n_data += data.len;
                buf_append(out, data);
            } else {
                buf_puts(out, ";");
            }
        }
        check(what == MULTIPART_ERROR || piece.len == 0);
    }
    check(n_data <= input.len && (what == MULTIPART_ERROR) == (err.code != ERR_NONE));
    buf_printf(out, "%d %d %s", what == MULTIPART_ERROR, multipart_ended(&m), err.msg);
    multipart_release(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n = size ? data[0] % 16 : 0;
    if (size < n + 1) {
        return 0;
    }
    struct str input = {(const char *)data + 1 + n, size - 1 - n};
    struct buf whole, pieces;
    buf_init(&whole, SIZE_MAX);
    buf_init(&pieces, SIZE_MAX);
    read_all(input, NULL, 0, &whole);
    read_all(input, data + 1, n, &pieces);
    check(str_eq(buf_view(&whole), buf_view(&pieces)));
    buf_release(&whole);
    buf_release(&pieces);
    return 0;
}
