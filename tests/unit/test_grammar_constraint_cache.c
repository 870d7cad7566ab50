/* The cache of compiled constraints: what it keeps, what it drops, and many threads at it. */
#include "tests/support/grammar_vocab.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct grammar_vocab vocab;

static struct constraint *get(struct constraint_cache *cache, const char *regex, const char *field, struct error *err)
{
    struct buf spec = grammar_encode(CONSTRAINT_REGEX, regex);
    struct constraint *c = constraint_cache_get(cache, buf_view(&spec), field, err);
    buf_release(&spec);
    return c;
}

static void equal_specs_are_compiled_once(void **state)
{
    (void)state;
    struct error err = {0};
    char regex[32];
    struct constraint_cache *cache = constraint_cache_create(vocab.vocab);
    struct constraint *first = get(cache, "a*", NULL, &err);
    assert_ptr_equal(get(cache, "a*", NULL, &err), first);
    constraint_release(first);
    for (int i = 0; i < CONSTRAINT_CACHE_SIZE; i++) { /* pushes it out, though it is still held */
        snprintf(regex, sizeof regex, "a{%d}", i + 1);
        struct constraint *c = get(cache, regex, NULL, &err);
        assert_non_null(c);
        constraint_release(c);
    }
    struct constraint *second = get(cache, "a*", NULL, &err);
    assert_ptr_not_equal(second, first);
    assert_true(grammar_accepts(first, &vocab, STR("aaa")));
    constraint_release(first);
    constraint_release(second);
    assert_null(get(cache, "a(", "guided_regex", &err));
    assert_string_equal(err.param, "guided_regex");
    assert_null(constraint_cache_get(cache, STR("junk"), NULL, &err));
    assert_int_equal(err.code, ERR_PROTOCOL);
    constraint_cache_free(cache);
}

/* ---- threads ---- */

struct worker {
    struct constraint_cache *cache;
    struct str specs[3];
    size_t n_right;
};

static void *use_cache(void *arg)
{
    struct worker *w = arg;
    for (size_t i = 0; i < 30; i++) {
        struct error err = {0};
        struct constraint *c = constraint_cache_get(w->cache, w->specs[i % 3], NULL, &err);
        w->n_right += c && grammar_accepts(c, &vocab, STR("aaa")) && !grammar_accepts(c, &vocab, STR("aab"));
        constraint_release(c);
    }
    return NULL;
}

static void threads_share_a_cache(void **state)
{
    (void)state;
    pthread_t threads[4];
    struct worker workers[4];
    struct buf bytes[3];
    struct constraint_cache *cache = constraint_cache_create(vocab.vocab);
    for (size_t i = 0; i < 3; i++) {
        bytes[i] = grammar_encode(CONSTRAINT_REGEX, i == 0 ? "a*" : i == 1 ? "a{3}" : "(aa|a)*");
    }
    for (size_t i = 0; i < 4; i++) {
        workers[i] = (struct worker){cache, {buf_view(&bytes[0]), buf_view(&bytes[1]), buf_view(&bytes[2])}, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, use_cache, &workers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].n_right, 30);
    }
    for (size_t i = 0; i < 3; i++) {
        buf_release(&bytes[i]);
    }
    constraint_cache_free(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_specs_are_compiled_once),
        cmocka_unit_test(threads_share_a_cache),
    };
    grammar_vocab_open(&vocab, NULL);
    int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    grammar_vocab_close(&vocab);
    return n_failed;
}
