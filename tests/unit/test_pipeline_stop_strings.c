#include "pipeline/stop_strings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct outcome {
    bool found;
    size_t shown, which;
};

/* What a reader would have been shown when the text came in the pieces that `cuts` says (bit i: a border behind byte
 * i). */
static struct outcome feed(const struct str *stops, size_t n, struct str text, uint32_t cuts)
{
    size_t searched = 0, shown = 0;
    for (size_t end = 1; end <= text.len; end++) {
        if (end < text.len && !(cuts >> (end - 1) & 1)) {
            continue;
        }
        struct str so_far = str_slice(text, 0, end);
        struct stop_match match;
        if (stop_strings_find(stops, n, so_far, 0, searched, &match)) {
            assert_true(match.begin >= shown); /* nothing of it was shown before */
            return (struct outcome){true, match.begin, match.which};
        }
        searched = end;
        size_t safe = stop_strings_safe(stops, n, so_far, 0);
        assert_true(safe >= shown);
        shown = safe;
    }
    return (struct outcome){false, text.len, 0};
}

/* The definition: the match that ends first; among those the one that begins first. */
static struct outcome naive(const struct str *stops, size_t n, struct str text)
{
    for (size_t end = 1; end <= text.len; end++) {
        struct outcome best = {false, 0, 0};
        for (size_t i = 0; i < n; i++) {
            if (stops[i].len <= end && str_ends(str_slice(text, 0, end), stops[i]) &&
                (!best.found || end - stops[i].len < best.shown)) {
                best = (struct outcome){true, end - stops[i].len, i};
            }
        }
        if (best.found) {
            return best;
        }
    }
    return (struct outcome){false, text.len, 0};
}

static void test_any_chunking_gives_the_same(void **state)
{
    (void)state;
    unsigned seed = 1;
    for (int round = 0; round < 20000; round++) {
        char letters[12], stop_text[3][6];
        struct str stops[3], text = {letters, 12};
        for (size_t i = 0; i < sizeof letters; i++) {
            letters[i] = (char)('a' + (seed = seed * 1103515245 + 12345) / 65536 % 2);
        }
        size_t n = 1 + seed / 1000 % 3;
        for (size_t i = 0; i < n; i++) {
            stops[i] = (struct str){stop_text[i], 1 + (seed / 7 + i) % 5};
            for (size_t k = 0; k < stops[i].len; k++) {
                stop_text[i][k] = (char)('a' + (seed = seed * 1103515245 + 12345) / 65536 % 2);
            }
        }
        struct outcome expected = naive(stops, n, text), got = feed(stops, n, text, seed);
        assert_int_equal(got.found, expected.found);
        assert_int_equal(got.shown, expected.shown);
    }
}

static void test_held_back(void **state)
{
    (void)state;
    struct str stops[] = {STR("</end>"), STR("User:")};
    assert_int_equal(stop_strings_safe(stops, 2, STR("hello"), 0), 5);
    assert_int_equal(stop_strings_safe(stops, 2, STR("hello <"), 0), 6);
    assert_int_equal(stop_strings_safe(stops, 2, STR("hello </en"), 0), 6);
    assert_int_equal(stop_strings_safe(stops, 2, STR("hello </enx"), 0), 11);
    assert_int_equal(stop_strings_safe(stops, 2, STR("hello Use"), 0), 6);
    assert_int_equal(stop_strings_safe(stops, 2, STR("<"), 1), 1); /* before `from`: cannot begin there */
    assert_int_equal(stop_strings_safe(NULL, 0, STR("abc"), 0), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_chunking_gives_the_same),
        cmocka_unit_test(test_held_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
