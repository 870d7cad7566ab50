/* The length of a GGUF head, from every beginning of a file. */
#include "base/buf.h"
#include "base/limits.h"
#include "tensor/gguf_head.h"
#include "tensor/model_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void put_u32(struct buf *b, uint32_t v)
{
    buf_append_bytes(b, &v, sizeof v);
}

static void put_u64(struct buf *b, uint64_t v)
{
    buf_append_bytes(b, &v, sizeof v);
}

static void put_str(struct buf *b, const char *s)
{
    put_u64(b, strlen(s));
    buf_puts(b, s);
}

/* Every kind of value, and two tensors; *head gets where the directory ends. */
static void make_file(struct buf *b, size_t *head)
{
    buf_init(b, MIB(1));
    buf_puts(b, "GGUF");
    put_u32(b, 3);
    put_u64(b, 2);
    put_u64(b, 4);
    put_str(b, "general.architecture");
    put_u32(b, 8);
    put_str(b, "llama");
    put_str(b, "a.number");
    put_u32(b, 4);
    put_u32(b, 7);
    put_str(b, "a.strings");
    put_u32(b, 9);
    put_u32(b, 8);
    put_u64(b, 3);
    put_str(b, "");
    put_str(b, "xyz");
    put_str(b, "x");
    put_str(b, "a.numbers");
    put_u32(b, 9);
    put_u32(b, 6);
    put_u64(b, 2);
    put_u64(b, 0);
    for (uint64_t i = 0; i < 2; i++) {
        put_str(b, i ? "second" : "first");
        put_u32(b, 1);
        put_u64(b, 8);
        put_u32(b, 0); /* F32 */
        put_u64(b, 32 * i);
    }
    *head = b->len;
    while (b->len % 32) {
        buf_putc(b, 0);
    }
    for (int i = 0; i < 64; i++) {
        buf_putc(b, 0);
    }
}

static void every_beginning_says_what_it_needs(void **state)
{
    struct buf b;
    struct error err = {0};
    size_t head;
    uint64_t needed;
    (void)state;
    make_file(&b, &head);
    struct model_file *file = model_file_open_memory(b.data, b.len, &err);
    assert_non_null(file); /* the reader takes it */
    model_file_close(file);
    for (size_t n = 0; n <= b.len; n++) {
        char *copy = malloc(n ? n : 1); /* so that a sanitizer sees the end */
        memcpy(copy, b.data, n);
        if (!gguf_head_size(copy, n, &needed, &err)) {
            fail_msg("%zu: %s", n, err.msg);
        }
        assert_true(n < head ? needed > n && needed <= head : needed == head);
        free(copy);
    }
    buf_release(&b);
}

static void what_is_no_head(void **state)
{
    struct buf b;
    struct error err = {0};
    size_t head;
    uint64_t needed, huge = UINT64_MAX;
    (void)state;
    make_file(&b, &head);
    assert_false(gguf_head_size("GGML", 4, &needed, &err));
    memcpy(b.data + 8, &huge, 8); /* tensors */
    assert_false(gguf_head_size(b.data, b.len, &needed, &err));
    buf_release(&b);
    make_file(&b, &head);
    memcpy(b.data + 24, &huge, 8); /* the first key's length: more than any file has */
    assert_true(gguf_head_size(b.data, b.len, &needed, &err));
    assert_true(needed > b.len);
    b.data[24] = 20;
    memset(b.data + 25, 0, 7);
    b.data[24 + 8 + 20] = 99; /* its type */
    assert_false(gguf_head_size(b.data, b.len, &needed, &err));
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_beginning_says_what_it_needs),
        cmocka_unit_test(what_is_no_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
