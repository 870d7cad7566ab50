/* Adapters of a model: numbers, users, limits, and what an engine is told, under any order of what happens. */
#include "pipeline/adapter_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SIZE 100

static struct adapter_facts facts_of(uint8_t contents)
{
    return (struct adapter_facts){.rank = 8, .memory_size = SIZE, .digest = {{contents}}};
}

static struct served_adapter *add(struct adapter_set *s, const char *name, uint8_t contents)
{
    struct error err = {0};
    struct adapter_facts facts = facts_of(contents);
    struct served_adapter *a = adapter_set_add(s, str_of(name), "/adapters/x", &facts, &err);
    assert_non_null(a);
    return a;
}

static enum error_code refused(struct adapter_set *s, const char *name, size_t size)
{
    struct error err = {0};
    struct adapter_facts facts = facts_of(1);
    facts.memory_size = size;
    assert_null(adapter_set_add(s, str_of(name), "/adapters/x", &facts, &err));
    return err.code;
}

static void answer(struct adapter_set *s, uint32_t number, enum error_code code)
{
    struct error err = {0};
    struct adapter_done done = {.number = number, .error = {.code = code, .msg = "It does not fit."}};
    assert_true(adapter_set_done(s, &done, &err));
}

static void serve_all(struct adapter_set *s)
{
    struct adapter_order order;
    while (adapter_set_next(s, &order)) {
        answer(s, order.number, ERR_NONE);
    }
}

static void names_and_limits(void **state)
{
    struct adapter_set s = {.max_adapters = 3, .max_size = 2 * SIZE};
    static const char *const bad[] = {"", "a:b", "a/b", ".a", "-a", "a b", "\xc3\xa4"};
    char longest[ADAPTER_NAME_MAX + 2];
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(refused(&s, bad[i], 1), ERR_INVALID);
    }
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(refused(&s, longest, 1), ERR_INVALID);
    longest[sizeof longest - 2] = '\0';
    struct served_adapter *a = add(&s, longest, 1);
    assert_ptr_equal(adapter_set_find(&s, str_of(longest)), a);
    assert_int_equal(refused(&s, longest, 1), ERR_INVALID);
    assert_int_equal(refused(&s, "large", SIZE + 1), ERR_NO_ROOM);
    add(&s, "b", 2);
    assert_int_equal(adapter_set_size(&s), 2 * SIZE);
    struct error err = {0};
    struct adapter_facts none = facts_of(3);
    none.memory_size = 0;
    assert_non_null(adapter_set_add(&s, STR("c"), "/adapters/x", &none, &err));
    assert_int_equal(refused(&s, "d", 0), ERR_INVALID); /* --lora-max */
    assert_int_equal(adapter_set_n_listed(&s), 3);
    assert_null(adapter_set_at(&s, 3));
    adapter_set_release(&s);
}

/* A number is free when nobody has it and the engine has said that it is gone; another of the name has another one. */
static void users_keep_their_adapter(void **state)
{
    struct adapter_set s = {.max_adapters = 8, .max_size = 8 * SIZE};
    struct adapter_order order;
    (void)state;
    struct served_adapter *old = add(&s, "a", 1);
    serve_all(&s);
    assert_true(old->loaded);
    adapter_set_hold(old);
    adapter_set_unlist(&s, old);
    assert_null(adapter_set_find(&s, STR("a")));
    assert_false(adapter_set_next(&s, &order)); /* it is used */
    struct served_adapter *other = add(&s, "a", 2);
    assert_int_not_equal(other->number, old->number);
    serve_all(&s);
    adapter_set_fresh(&s); /* the next engine gets both */
    serve_all(&s);
    assert_true(old->loaded && other->loaded);
    uint32_t number = old->number;
    adapter_set_release_one(&s, old);
    assert_true(adapter_set_next(&s, &order));
    assert_true(order.number == number && order.path[0] == '\0');
    assert_false(adapter_set_next(&s, &order)); /* one at a time */
    assert_int_not_equal(add(&s, "b", 3)->number, number);
    answer(&s, number, ERR_NONE);
    assert_int_equal(add(&s, "c", 4)->number, number);
    adapter_set_release(&s);
}

static void what_engines_refuse(void **state)
{
    struct adapter_set s = {.max_adapters = 8, .max_size = 8 * SIZE};
    struct adapter_order order;
    struct error err = {0};
    (void)state;
    struct served_adapter *a = add(&s, "a", 1);
    assert_true(adapter_set_next(&s, &order));
    assert_memory_equal(&order.digest, &a->facts.digest, sizeof order.digest);
    assert_string_equal(order.path, "/adapters/x");
    answer(&s, a->number, ERR_FORMAT);
    assert_true(a->refused && !a->loaded);
    assert_string_equal(a->failure.msg, "It does not fit.");
    assert_false(adapter_set_next(&s, &order));
    assert_int_equal(adapter_set_size(&s), 0);
    struct adapter_done unasked = {.number = a->number};
    assert_false(adapter_set_done(&s, &unasked, &err));
    assert_int_equal(err.code, ERR_PROTOCOL);
    adapter_set_fresh(&s); /* another engine may take it ... */
    for (int i = 0; i < ADAPTER_LOSSES_MAX; i++) {
        assert_true(adapter_set_next(&s, &order));
        adapter_set_fresh(&s); /* ... and ends */
    }
    assert_true(a->refused);
    assert_false(adapter_set_next(&s, &order));
    adapter_set_fresh(&s);
    assert_false(adapter_set_next(&s, &order));
    adapter_set_unlist(&s, a);
    assert_null(s.items[0]);
    adapter_set_release(&s);
}

static uint32_t draw(uint64_t *seed, uint32_t n)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % n;
}

struct user {
    struct served_adapter *adapter;
    uint32_t number;
    uint8_t contents;
};

/* Whatever happens: a user's number has the contents that it began with, in the set and in the engine. */
static void random_order(void **state)
{
    static const char *const names[] = {"a", "b", "c"};
    struct adapter_set s = {.max_adapters = 6, .max_size = 6 * SIZE};
    struct adapter_order order;
    struct user users[16] = {{0}};
    uint8_t engine[WIRE_MAX_ADAPTERS + 1] = {0}, next = 1;
    bool asked = false;
    uint64_t seed = 7;
    (void)state;
    for (int i = 0; i < 100000; i++) {
        struct str name = str_of(names[draw(&seed, 3)]);
        struct served_adapter *a = adapter_set_find(&s, name);
        struct user *u = &users[draw(&seed, 16)];
        struct error err = {0};
        struct adapter_facts facts = facts_of(next);
        switch (draw(&seed, 6)) {
        case 0:
            next = a || !adapter_set_add(&s, name, "/x", &facts, &err) ? next : (uint8_t)(next % 250 + 1);
            break;
        case 1:
            if (a && draw(&seed, 2)) {
                adapter_set_unlist(&s, a);
            }
            break;
        case 2:
            if (a && a->loaded && !u->adapter) {
                *u = (struct user){a, a->number, a->facts.digest.bytes[0]};
                adapter_set_hold(a);
            }
            break;
        case 3:
            if (u->adapter) {
                adapter_set_release_one(&s, u->adapter);
                u->adapter = NULL;
            }
            break;
        case 4:
            if (!asked) {
                asked = adapter_set_next(&s, &order);
            } else {
                engine[order.number] = order.path[0] ? order.digest.bytes[0] : 0;
                asked = false;
                answer(&s, order.number, ERR_NONE);
            }
            break;
        default:
            if (draw(&seed, 50) == 0 && !(asked && order.path[0])) { /* an engine that is lost while it loads: above */
                memset(engine, 0, sizeof engine);
                asked = false;
                adapter_set_fresh(&s);
            }
        }
        for (size_t k = 0; k < 16; k++) {
            u = &users[k];
            if (u->adapter) {
                assert_ptr_equal(s.items[u->number - 1], u->adapter);
                assert_int_equal(u->adapter->facts.digest.bytes[0], u->contents);
                assert_true(!u->adapter->loaded || engine[u->number] == u->contents);
            }
        }
    }
    adapter_set_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_limits),
        cmocka_unit_test(users_keep_their_adapter),
        cmocka_unit_test(what_engines_refuse),
        cmocka_unit_test(random_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
