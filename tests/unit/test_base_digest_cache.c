/* Values by digest: found and counted, the one that was asked for longest ago goes first; many threads. */
#include "base/digest_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>

struct value {
    atomic_uint n_owners;
    int number;
};

static atomic_int n_alive;

static struct value *make(int number)
{
    struct value *v = calloc(1, sizeof *v);
    assert_non_null(v);
    atomic_init(&v->n_owners, 1);
    v->number = number;
    n_alive++;
    return v;
}

static void retain(void *value)
{
    ((struct value *)value)->n_owners++;
}

static void release(void *value)
{
    struct value *v = value;
    if (v && --v->n_owners == 0) {
        n_alive--;
        free(v);
    }
}

static struct sha256 digest_of(int number)
{
    return sha256_of(&number, sizeof number);
}

static void put(struct digest_cache *c, int number)
{
    struct sha256 digest = digest_of(number);
    struct value *v = make(number);
    digest_cache_put(c, &digest, v);
    release(v);
}

/* -1: it is not there. */
static int get(struct digest_cache *c, int number)
{
    struct sha256 digest = digest_of(number);
    struct value *v = digest_cache_get(c, &digest);
    int found = v ? v->number : -1;
    release(v);
    return found;
}

static void the_one_asked_for_longest_ago_goes_first(void **state)
{
    (void)state;
    struct digest_cache *c = digest_cache_create(3, retain, release);
    assert_int_equal(get(c, 1), -1);
    for (int i = 1; i <= 3; i++) {
        put(c, i);
    }
    assert_int_equal(n_alive, 3);
    assert_int_equal(get(c, 1), 1);
    put(c, 4);
    assert_int_equal(n_alive, 3);
    assert_int_equal(get(c, 2), -1);
    assert_int_equal(get(c, 3), 3);
    put(c, 5);
    assert_int_equal(get(c, 1), -1);
    assert_int_equal(get(c, 4), 4);
    assert_int_equal(get(c, 5), 5);
    digest_cache_free(c);
    digest_cache_free(NULL);
    assert_int_equal(n_alive, 0);
}

static void what_is_held_outlives_its_place(void **state)
{
    (void)state;
    struct digest_cache *c = digest_cache_create(1, retain, release);
    struct sha256 digest = digest_of(1);
    put(c, 1);
    struct value *held = digest_cache_get(c, &digest);
    put(c, 2);
    assert_int_equal(get(c, 1), -1);
    assert_int_equal(n_alive, 2);
    digest_cache_free(c);
    assert_int_equal(n_alive, 1);
    assert_int_equal(held->number, 1);
    release(held);
    assert_int_equal(n_alive, 0);
}

static void *use(void *arg)
{
    struct digest_cache *c = arg;
    size_t n_wrong = 0;
    for (int i = 0; i < 3000; i++) {
        int number = i * 7 % 12, found = get(c, number);
        if (found < 0) {
            put(c, number);
        }
        n_wrong += found >= 0 && found != number;
    }
    return n_wrong ? NULL : arg;
}

static void threads_share_one(void **state)
{
    (void)state;
    pthread_t threads[4];
    struct digest_cache *c = digest_cache_create(8, retain, release);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, use, c), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *right;
        pthread_join(threads[i], &right);
        assert_ptr_equal(right, c);
    }
    digest_cache_free(c);
    assert_int_equal(n_alive, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_one_asked_for_longest_ago_goes_first),
        cmocka_unit_test(what_is_held_outlives_its_place),
        cmocka_unit_test(threads_share_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
