/* Arena: zeroed, aligned, separate memory; bounds; handlers in reverse order. */
#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void memory_is_zeroed_aligned_and_separate(void **state)
{
    (void)state;
    struct arena *a = arena_create((size_t)64 << 20);
    unsigned char *at[2000];
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < 2000; i++) {
            size_t size = i % 97 == 0 ? 300000 : i % 61;
            at[i] = arena_alloc(a, size);
            assert_non_null(at[i]);
            assert_int_equal((uintptr_t)at[i] % _Alignof(max_align_t), 0);
            for (size_t k = 0; k < size; k++) {
                assert_int_equal(at[i][k], 0);
            }
            memset(at[i], (int)(i % 255 + 1), size);
        }
        for (size_t i = 0; i < 2000; i++) {
            size_t size = i % 97 == 0 ? 300000 : i % 61;
            for (size_t k = 0; k < size; k++) {
                assert_int_equal(at[i][k], i % 255 + 1);
            }
        }
        arena_clear(a); /* the second round finds zeroes again */
        assert_int_equal(arena_used(a), 0);
    }
    arena_free(a);
}

static void bound_is_exact(void **state)
{
    (void)state;
    struct error err;
    struct arena *a = arena_create(1024);
    for (int i = 0; i < 64; i++) {
        assert_non_null(arena_alloc(a, 16));
    }
    assert_null(arena_alloc(a, 1));
    assert_false(arena_full(a, "request", &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_non_null(strstr(err.msg, "1024"));
    assert_false(arena_defer(a, free, NULL));
    arena_clear(a);
    assert_null(arena_alloc(a, 1025));
    assert_null(arena_alloc(a, SIZE_MAX));
    assert_null(arena_alloc(a, SIZE_MAX - 8));
    assert_null(arena_alloc_array(a, SIZE_MAX / 2, 3));
    assert_non_null(arena_alloc(a, 1024));
    arena_free(a);
    arena_free(NULL);
}

static void copies_of_strings(void **state)
{
    (void)state;
    struct arena *a = arena_create(4096);
    char text[] = "a\0b";
    struct str copy = arena_str(a, (struct str){text, 3});
    char *c_string = arena_strdup(a, STR("xyz"));
    text[0] = '!';
    assert_true(str_eq(copy, STR("a\0b")));
    assert_int_equal(copy.ptr[3], '\0');
    assert_string_equal(c_string, "xyz");
    assert_string_equal(arena_strdup(a, (struct str){NULL, 0}), "");
    assert_null(arena_str(a, (struct str){text, 5000}).ptr);
    assert_int_equal(arena_str(a, (struct str){text, 5000}).len, 0);
    arena_free(a);
}

struct trace {
    char letters[8];
    size_t n;
};

struct step {
    struct trace *trace;
    char letter;
};

static void record(void *arg)
{
    struct step *step = arg; /* lies in the arena: still there when handlers run */
    step->trace->letters[step->trace->n++] = step->letter;
}

static void handlers_run_in_reverse(void **state)
{
    (void)state;
    struct trace trace = {.n = 0};
    struct arena *a = arena_create(4096);
    for (int round = 0; round < 2; round++) {
        for (char c = 'a'; c <= 'c'; c++) {
            struct step *step = arena_alloc(a, sizeof *step);
            *step = (struct step){&trace, c};
            assert_true(arena_defer(a, record, step));
        }
        if (round == 0) {
            arena_clear(a);
            assert_string_equal(trace.letters, "cba");
        }
    }
    arena_free(a);
    assert_string_equal(trace.letters, "cbacba");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_aligned_and_separate),
        cmocka_unit_test(bound_is_exact),
        cmocka_unit_test(copies_of_strings),
        cmocka_unit_test(handlers_run_in_reverse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
