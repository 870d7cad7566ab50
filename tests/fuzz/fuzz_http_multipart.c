/* Bodies of forms over arbitrary bytes: whatever the pieces, the same parts, data and error, each name within its
 * bound, and never more data than came.
 * The input has the form of pieces.h; the boundary is "b". */
#include "http/multipart.h"
#include "tests/fuzz/pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(struct str input, struct pieces *pieces, struct buf *out)
{
    struct multipart m;
    struct error err = {0};
    enum multipart_next what = MULTIPART_MORE;
    size_t n_data = 0, most = input.len;
    multipart_init(&m, "b");
    while (input.len > 0 && what != MULTIPART_ERROR) {
        struct str piece = next_piece(pieces, &input), data;
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
    check(n_data <= most && (what == MULTIPART_ERROR) == (err.code != ERR_NONE));
    buf_printf(out, "%d %d %s", what == MULTIPART_ERROR, multipart_ended(&m), err.msg);
    multipart_release(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return whole_and_in_pieces(data, size, read_all);
}
