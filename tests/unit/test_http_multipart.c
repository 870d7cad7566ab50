/* Bodies of forms: what they hold, however they are split; what is refused, and in which words. */
#include "http/multipart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* "name|filename|data;" for each part, then how it ended. */
static void read_all(const char *boundary, struct str input, size_t step, struct buf *out)
{
    struct multipart m;
    struct error err = {0};
    enum multipart_next what = MULTIPART_MORE;
    multipart_init(&m, boundary);
    for (size_t from = 0; from < input.len && what != MULTIPART_ERROR; from += step) {
        struct str piece = str_slice(input, from, from + step), data;
        while ((what = multipart_next(&m, &piece, &data, &err)) != MULTIPART_MORE && what != MULTIPART_ERROR) {
            if (what == MULTIPART_PART) {
                buf_append(out, buf_view(&m.name));
                buf_puts(out, m.has_filename ? "|" : "-");
                buf_append(out, buf_view(&m.filename));
                buf_puts(out, "|");
            } else if (what == MULTIPART_DATA) {
                assert_true(data.len > 0);
                buf_append(out, data);
            } else {
                buf_puts(out, ";");
            }
        }
    }
    buf_puts(out, what == MULTIPART_ERROR ? err.msg : multipart_ended(&m) ? "end" : "cut");
    multipart_release(&m);
}

/* Whole, and at every size of pieces, so that it is split at every byte. */
static void expect(const char *input, const char *expected)
{
    struct str text = str_of(input);
    for (size_t step = text.len; step >= 1; step--) {
        struct buf out;
        buf_init(&out, MIB(1));
        read_all("XyZ", text, step, &out);
        assert_string_equal(out.data, expected);
        buf_release(&out);
    }
}

#define PART(name, data) "--XyZ\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" data "\r\n"

static void test_parts(void **state)
{
    (void)state;
    expect(PART("a", "1") PART("b", "") "--XyZ--\r\n", "a-|1;b-|;end");
    expect("--XyZ--", "end");
    expect("hello\r\n--XyZ--\r\nbye", "end");
    expect(PART("a", "1") "--XyZ--", "a-|1;end");
    expect("preamble\r\n" PART("a", "1") "--XyZ--\r\nepilogue --XyZ", "a-|1;end");
    expect("--XyZ  \r\ncontent-type: text/plain\r\nCONTENT-DISPOSITION: form-data; filename=\"q \\\"x\\\" %22.jsonl\"; "
           "name=file\r\nContent-Transfer-Encoding: binary\r\n\r\n{}\n\r\n--XyZ--",
           "file|q \"x\" \".jsonl|{}\n;end");
}

/* What looks like a boundary for a while is data. */
static void test_near_boundaries(void **state)
{
    (void)state;
    expect(PART("a", "\r\n--Xy\r\n--XyY\r\r\n-\r\n\r\n--X") "--XyZ--", "a-|\r\n--Xy\r\n--XyY\r\r\n-\r\n\r\n--X;end");
    expect(PART("a", "--XyZ") "--XyZ--", "a-|;cut"); /* an empty part, and the head of another one */
    expect(PART("a", "x--XyZ") "--XyZ--", "a-|x--XyZ;end");
    expect(PART("a", "\n--XyZ") "--XyZ--", "a-|\n--XyZ;end");
    expect("--Xy--XyZ", "cut");
}

static void test_refused(void **state)
{
    static const char no_name[] = "A part needs a Content-Disposition: form-data; name=\"...\".";
    (void)state;
    expect("--XyZ\r\n\r\nx", no_name);
    expect("--XyZ\r\nContent-Disposition: form-data\r\n\r\nx", no_name);
    expect("--XyZ\r\nContent-Disposition: form-data; name=\"a\r\n\r\nx", no_name);
    expect("--XyZ\r\nContent-Disposition: attachment; name=a\r\n\r\nx",
           "A part's Content-Disposition must be form-data.");
    expect("--XyZ\r\nContent-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b\r\n\r\nx",
           "A part must have one Content-Disposition.");
    expect("--XyZ\r\nContent-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64\r\n\r\nx",
           "A part's Content-Transfer-Encoding must be binary, not 'base64'.");
    expect("--XyZ\r\nno field\r\n\r\nx", "A header field of a part must be a name, a colon and a value.");
    expect("--XyZ\r\n folded: x\r\n\r\nx", "A header field of a part must be a name, a colon and a value.");
    expect("--XyZ\r\na: x\rb", "A line of a part's head must end with CR LF.");
    expect("--XyZ\r\na: x\n", "A line of a part's head must end with CR LF and have no NUL.");
    expect("--XyZ-\r\n", "A boundary must be followed by CR LF, or by \"--\" at the end of the body.");
}

static void test_bounds(void **state)
{
    struct buf body, out;
    (void)state;
    buf_init(&body, MIB(1));
    buf_init(&out, MIB(1));
    for (int i = 0; i <= MULTIPART_PARTS_MAX; i++) {
        buf_puts(&body, PART("a", "1"));
    }
    read_all("XyZ", buf_view(&body), body.len, &out);
    assert_non_null(strstr(out.data, "a-|1;The body must have at most 32 parts."));
    buf_clear(&body);
    buf_clear(&out);
    buf_puts(&body, "--XyZ\r\nX-Long: ");
    for (size_t i = 0; i < MULTIPART_HEAD_MAX; i++) {
        buf_putc(&body, 'x');
    }
    read_all("XyZ", buf_view(&body), body.len, &out);
    assert_string_equal(out.data, "The header fields of a part must have at most 4096 bytes.");
    buf_clear(&body);
    buf_clear(&out);
    buf_puts(&body, "--XyZ\r\nContent-Disposition: form-data; name=");
    for (size_t i = 0; i <= MULTIPART_NAME_MAX; i++) {
        buf_putc(&body, 'x');
    }
    buf_puts(&body, "\r\n");
    read_all("XyZ", buf_view(&body), body.len, &out);
    assert_string_equal(out.data, "The names of a part must have at most 1024 bytes.");
    buf_release(&body);
    buf_release(&out);
}

static void test_boundary(void **state)
{
    static const struct {
        const char *type, *boundary; /* NULL: refused */
        enum error_code code;
    } cases[] = {
        {"multipart/form-data; boundary=abc", "abc", 0},
        {"Multipart/Form-Data;BOUNDARY=\"a b'(c)\"", "a b'(c)", 0},
        {"multipart/form-data; charset=utf-8; boundary=----WebKit1 ;", "----WebKit1", 0},
        {"multipart/form-data", NULL, ERR_INVALID},
        {"multipart/form-data; boundary=", NULL, ERR_INVALID},
        {"multipart/form-data; boundary=\"\"", NULL, ERR_INVALID},
        {"multipart/form-data; boundary=\"a \"", NULL, ERR_INVALID},
        {"multipart/form-data; boundary=\"a\rb\"", NULL, ERR_INVALID},
        {"multipart/form-data; boundary=01234567890123456789012345678901234567890123456789012345678901234567890", NULL,
         ERR_INVALID},
        {"multipart/mixed; boundary=abc", NULL, ERR_BAD_MEDIA_TYPE},
        {"application/json", NULL, ERR_BAD_MEDIA_TYPE},
        {"", NULL, ERR_BAD_MEDIA_TYPE},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = {0};
        char out[MULTIPART_BOUNDARY_MAX + 1];
        bool ok = multipart_boundary(str_of(cases[i].type), out, &err);
        assert_int_equal(ok, cases[i].boundary != NULL);
        assert_int_equal(err.code, cases[i].code);
        if (ok) {
            assert_string_equal(out, cases[i].boundary);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),  cmocka_unit_test(test_near_boundaries), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bounds), cmocka_unit_test(test_boundary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
