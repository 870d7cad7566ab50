/* Server-sent events as a reader sees them: the standard's rules, and the same events however the bytes are split. */
#include "http/sse_reader.h"

#include "base/array.h"
#include "http/sse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define MAX_EVENT 1000

/* Appends "name|data|id\n" for each event of s, which comes in pieces of this size; a copy of each piece, so that a
 * reader that keeps pointers into it is found out. */
static enum sse_read read_all(struct sse_reader *r, struct str s, size_t piece, struct buf *out, struct error *err)
{
    enum sse_read what = SSE_READ_MORE;
    for (size_t from = 0; from < s.len && what != SSE_READ_ERROR; from += piece) {
        struct str bytes = str_slice(s, from, from + piece), event_bytes;
        char *copy = malloc(bytes.len);
        memcpy(copy, bytes.ptr, bytes.len);
        event_bytes = (struct str){copy, bytes.len};
        struct sse_incoming event;
        while ((what = sse_reader_next(r, &event_bytes, &event, err)) == SSE_READ_EVENT) {
            buf_append(out, event.name);
            buf_putc(out, '|');
            buf_append(out, event.data);
            buf_putc(out, '|');
            buf_append(out, event.id);
            buf_putc(out, '\n');
        }
        assert_true(what == SSE_READ_ERROR || event_bytes.len == 0);
        free(copy);
    }
    return what;
}

static void expect(struct str stream, struct str events)
{
    for (size_t piece = 1; piece <= stream.len + 1; piece++) {
        struct sse_reader r;
        struct buf out;
        struct error err = {0};
        sse_reader_init(&r, MAX_EVENT);
        buf_init(&out, 100000);
        assert_int_equal(read_all(&r, stream, piece, &out, &err), SSE_READ_MORE);
        if (!str_eq(buf_view(&out), events)) {
            fail_msg("in pieces of %zu: '%s' becomes '%s', not '%s'", piece, stream.ptr, out.data ? out.data : "",
                     events.ptr);
        }
        buf_release(&out);
        sse_reader_release(&r);
    }
}

static void events_by_the_standard(void **state)
{
    (void)state;
    static const struct {
        struct str stream, events;
    } cases[] = {
        {STR("data: x\n\n"), STR("message|x|\n")},
        {STR("data:x\n\n"), STR("message|x|\n")},
        {STR("data:  x \n\n"), STR("message| x |\n")}, /* one blank only */
        {STR("data\n\n"), STR("message||\n")},
        {STR("data:\n\n"), STR("message||\n")},
        {STR("data: a\ndata: b\ndata:\n\n"), STR("message|a\nb\n|\n")},
        {STR("data: a\r\ndata: b\r\n\r\n"), STR("message|a\nb|\n")},
        {STR("data: a\rdata: b\r\r"), STR("message|a\nb|\n")},
        {STR("data: a\r\r\ndata: b\n\r"), STR("message|a|\nmessage|b|\n")}, /* CR, then CR LF; LF, then CR */
        {STR("data: a\n\n\n\n\ndata: b\n\n"), STR("message|a|\nmessage|b|\n")},
        {STR("event: add\ndata: 1\n\ndata: 2\n\n"), STR("add|1|\nmessage|2|\n")},
        {STR("event: add\n\ndata: 2\n\n"), STR("message|2|\n")}, /* no data: no event, and the name is forgotten */
        {STR("event: a\nevent: b\ndata: 1\n\n"), STR("b|1|\n")},
        {STR("event\ndata: 1\n\n"), STR("message|1|\n")},
        {STR("id: 7\ndata: 1\n\ndata: 2\n\nid\ndata: 3\n\n"), STR("message|1|7\nmessage|2|7\nmessage|3|\n")},
        {STR("id: 7\n\ndata: 1\n\n"), STR("message|1|7\n")}, /* an id counts without data too */
        {STR("id: a\0b\ndata: 1\n\n"), STR("message|1|\n")},
        {STR(": comment\ndata: 1\n:\n: data: 2\n\n"), STR("message|1|\n")},
        {STR("Data: 1\nfoo: bar\n data: 2\ndata : 3\ndata: 4\n\n"), STR("message|4|\n")},
        {STR("data: a: b\n\n"), STR("message|a: b|\n")},
        {STR("\xef\xbb\xbf"
             "data: 1\n\n"),
         STR("message|1|\n")},
        {STR("\xef\xbb\xbf\xef\xbb\xbf"
             "data: 1\n\n"),
         STR("")}, /* only one mark */
        {STR("\xef\xbb"
             "data: 1\n\ndata: 2\n\n"),
         STR("message|2|\n")},
        {STR("\n\xef\xbb\xbf"
             "data: 1\n\n"),
         STR("")},                                          /* only at the start */
        {STR("data: 1\n\ndata: 2\n"), STR("message|1|\n")}, /* incomplete at the end */
        {STR("data: 1\n\ndata: 2"), STR("message|1|\n")},
        {STR("data: \xff\x00\xc3\n\n"), STR("message|\xff\x00\xc3|\n")},
        {STR(""), STR("")},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        expect(cases[i].stream, cases[i].events);
    }
}

static void an_event_comes_with_its_last_byte(void **state)
{
    (void)state;
    static const char *const ends[] = {"\n", "\r", "\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        struct sse_reader r;
        struct sse_incoming event;
        struct error err = {0};
        struct str line = STR("data: x"), end = str_of(ends[i]), first = {ends[i], 1};
        sse_reader_init(&r, MAX_EVENT);
        assert_int_equal(sse_reader_next(&r, &line, &event, &err), SSE_READ_MORE);
        assert_int_equal(sse_reader_next(&r, &end, &event, &err), SSE_READ_MORE);
        assert_int_equal(sse_reader_next(&r, &first, &event, &err), SSE_READ_EVENT); /* with the CR, without its LF */
        assert_true(str_eq(event.data, STR("x")));
        sse_reader_release(&r);
    }
}

static void retry_is_a_number(void **state)
{
    (void)state;
    static const struct {
        const char *stream;
        int64_t ms;
    } cases[] = {
        {"data: x\n\n", -1},
        {"retry: 1500\n\n", 1500},
        {"retry: 1500\nretry: -1\nretry: 1e3\nretry:\nretry:  5\nretry: 0x10\nretry: 99999999999999999999\n\n", 1500},
        {"retry:0\n", 0},
        {"retry: 0010\n", 10},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sse_reader r;
        struct buf out;
        struct error err = {0};
        sse_reader_init(&r, MAX_EVENT);
        buf_init(&out, 1000);
        assert_int_equal(read_all(&r, str_of(cases[i].stream), 3, &out, &err), SSE_READ_MORE);
        assert_int_equal(r.retry_ms, cases[i].ms);
        buf_release(&out);
        sse_reader_release(&r);
    }
}

static void events_are_bounded(void **state)
{
    (void)state;
    static const struct {
        const char *before; /* then bytes x, then two line ends */
        int lines;          /* so often */
        size_t x;
        bool fits;
    } cases[] = {
        {"data:", 1, MAX_EVENT - 5, true},  {"data:", 1, MAX_EVENT - 4, false}, {"data:", 4, MAX_EVENT / 4 - 1, true},
        {"data:", 4, MAX_EVENT / 4, false}, {":", 1, MAX_EVENT, false},         {":", 50, MAX_EVENT - 1, true},
        {"id:", 9, MAX_EVENT - 3, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sse_reader r;
        struct buf stream, out;
        struct error err = {0};
        sse_reader_init(&r, MAX_EVENT);
        buf_init(&stream, SIZE_MAX);
        buf_init(&out, SIZE_MAX);
        for (int k = 0; k < cases[i].lines; k++) {
            buf_puts(&stream, cases[i].before);
            memset(buf_extend(&stream, cases[i].x), 'x', cases[i].x);
            buf_putc(&stream, '\n');
        }
        buf_putc(&stream, '\n');
        enum sse_read what = read_all(&r, buf_view(&stream), 100, &out, &err);
        assert_int_equal(what, cases[i].fits ? SSE_READ_MORE : SSE_READ_ERROR);
        assert_int_equal(err.code, cases[i].fits ? ERR_NONE : ERR_TOO_LARGE);
        buf_release(&stream);
        buf_release(&out);
        sse_reader_release(&r);
    }
}

/* Whatever the writer of http/sse.h is given comes out of the reader, its line ends as LF. */
static void the_writers_events_are_read_back(void **state)
{
    (void)state;
    struct buf stream;
    buf_init(&stream, 10000);
    sse_event(&stream, "message_stop", STR("{\"a\": 1}"));
    sse_comment(&stream, STR("keep\ndata: alive"));
    sse_data(&stream, STR("a\nb\r\nc\rd\n"));
    sse_data(&stream, STR(""));
    sse_data(&stream, STR(" [DONE]"));
    expect(buf_view(&stream), STR("message_stop|{\"a\": 1}|\nmessage|a\nb\nc\nd\n|\nmessage||\nmessage| [DONE]|\n"));
    buf_release(&stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_by_the_standard),
        cmocka_unit_test(an_event_comes_with_its_last_byte),
        cmocka_unit_test(retry_is_a_number),
        cmocka_unit_test(events_are_bounded),
        cmocka_unit_test(the_writers_events_are_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
