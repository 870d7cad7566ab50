/* A server's reply as bench-serve reads it: the same answer whatever the pieces, within bounds, and a message that a
 * terminal can show.
 *
 * The first byte: bit 0 a stream, bit 1 a status other than 200; the second: the size of the pieces. */
#include "base/utf8.h"
#include "cli/loadgen_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) {
        __builtin_trap();
    }
}

static void check_shown(const char *text)
{
    check(utf8_valid(str_of(text)));
    for (; *text; text++) {
        check((unsigned char)*text >= 0x20 && *text != 0x7f);
    }
}

static void read_reply(struct str bytes, size_t piece, uint8_t flags, struct loadgen_answer *a)
{
    struct loadgen_reply r;
    loadgen_reply_init(&r);
    r.is_stream = true;
    r.status = flags & 2 ? 500 : 200;
    for (size_t from = 0; from < bytes.len; from += piece) {
        check(loadgen_reply_add(&r, str_slice(bytes, from, from + piece), 1 + (int64_t)from));
    }
    loadgen_answer_read(&r, flags & 1, a);
    loadgen_reply_release(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct str bytes = {(const char *)data + 2, size - 2};
    struct loadgen_answer whole, pieces;
    read_reply(bytes, bytes.len + 1, data[0], &whole);
    read_reply(bytes, (size_t)data[1] + 1, data[0], &pieces);
    check(whole.outcome == pieces.outcome && strcmp(whole.message, pieces.message) == 0);
    check(whole.n_events == pieces.n_events && whole.n_gaps == pieces.n_gaps);
    check(str_eq(buf_view(&whole.text), buf_view(&pieces.text)));
    check(strcmp(whole.finish_reason, pieces.finish_reason) == 0);
    check(whole.completion_tokens == pieces.completion_tokens && whole.prompt_tokens == pieces.prompt_tokens);
    check(whole.n_events == 0 || whole.n_gaps == whole.n_events - 1);
    for (size_t i = 0; i < pieces.n_gaps; i++) {
        check(pieces.gaps[i] >= 0);
    }
    check(pieces.first_ns <= pieces.last_ns);
    check_shown(whole.message);
    check_shown(whole.finish_reason);
    check_shown(whole.fingerprint);
    loadgen_answer_release(&whole);
    loadgen_answer_release(&pieces);
    return 0;
}
