/* The input of a batch over arbitrary bytes: whatever the pieces, the same lines and the same errors; a line within its
 * bound; of every line that is sound, an id within its bound and a body that is an object.
 *
 * The first byte says how many piece sizes follow (0 to 15), each a byte; the pieces repeat over the rest. */
#include "api/batch/batch_lines.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_LINE 300
#define ENDPOINT STR("/v1/completions")

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void look(const struct batch_lines *l, enum batch_line what, struct str line, struct batch_checker *c,
                 struct buf *out)
{
    struct batch_line_view view;
    struct batch_fault fault = {0};
    buf_printf(out, "%llu %d ", (unsigned long long)l->number, what);
    if (what == BATCH_LINE_TOO_LONG) {
        batch_checker_too_long(c, l->number, l->max);
        return;
    }
    check(line.len > 0 && line.len <= MAX_LINE && str_find_char(line, '\n') == STR_NPOS);
    buf_append(out, line);
    if (batch_line_read(line, ENDPOINT, &view, &fault)) {
        check(view.custom_id.len >= 1 && view.custom_id.len <= BATCH_CUSTOM_ID_MAX);
        check(json_type(view.body) == JSON_OBJECT);
        json_free(view.root);
    } else {
        check(fault.code && fault.message[0] && !view.root);
    }
    check(batch_checker_add(c, l->number, line, ENDPOINT));
}

static void read_all(struct str input, const uint8_t *sizes, size_t n_sizes, struct buf *out)
{
    struct batch_lines l;
    struct batch_checker *c = batch_checker_create(4, 3);
    struct str line;
    enum batch_line what;
    batch_lines_init(&l, MAX_LINE);
    for (size_t from = 0, k = 0; c && from < input.len; k++) {
        size_t n = n_sizes ? (size_t)sizes[k % n_sizes] + 1 : input.len;
        struct str piece = str_slice(input, from, from + n);
        from += piece.len;
        while ((what = batch_lines_next(&l, &piece, &line)) != BATCH_LINE_NONE) {
            look(&l, what, line, c, out);
        }
        check(piece.len == 0);
    }
    if (c && (what = batch_lines_end(&l, &line)) != BATCH_LINE_NONE) {
        look(&l, what, line, c, out);
    }
    if (c) {
        bool sound = batch_checker_end(c, out);
        buf_printf(out, "%d %llu", sound, (unsigned long long)batch_checker_n(c));
    }
    batch_checker_free(c);
    batch_lines_release(&l);
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
