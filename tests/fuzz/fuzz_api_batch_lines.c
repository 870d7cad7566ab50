/* The input of a batch over arbitrary bytes: whatever the pieces, the same lines and the same errors; a line within its
 * bound; of every line that is sound, an id within its bound and a body that is an object.
 * The input has the form of pieces.h. */
#include "api/batch/batch_lines.h"
#include "tests/fuzz/pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_LINE 300
#define ENDPOINT STR("/v1/completions")

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

static void read_all(struct str input, struct pieces *pieces, struct buf *out)
{
    struct batch_lines l;
    struct batch_checker *c = batch_checker_create(4, 3);
    struct str line;
    enum batch_line what;
    batch_lines_init(&l, MAX_LINE);
    while (c && input.len > 0) {
        struct str piece = next_piece(pieces, &input);
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
    return whole_and_in_pieces(data, size, read_all);
}
