#include "model/precision_choice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define G ((uint64_t)1 << 30)

/* 8 GiB of bf16; 2 GiB of KV wanted, half a GiB for one sequence, half a GiB besides. */
static struct precision_question question(uint64_t memory)
{
    return (struct precision_question){.full = 8 * G,
                                       .bits8 = 4 * G + G / 4,
                                       .bits4 = 2 * G + G / 2,
                                       .kv_wanted = 2 * G,
                                       .kv_least = G / 2,
                                       .other = G / 2,
                                       .memory = memory,
                                       .memory_from = "--memory"};
}

static struct precision_answer ask(uint64_t memory)
{
    struct precision_question q = question(memory);
    struct precision_answer a = precision_choose(&q);
    if (a.fits && memory)
        assert_true(a.weights + a.kv + q.other <= memory);
    assert_true(a.kv >= q.kv_least);
    assert_true(strlen(a.why) > 20 && a.why[strlen(a.why) - 1] == '.');
    return a;
}

static void by_fit(void **state)
{
    (void)state;
    assert_int_equal(ask(0).bits, 0);
    assert_int_equal(ask(10 * G + G / 2).bits, 0); /* to the byte */
    assert_int_equal(ask(10 * G + G / 2 - 1).bits, 8);
    assert_int_equal(ask(7 * G).bits, 8);
    assert_int_equal(ask(6 * G).bits, 4);
    assert_int_equal(ask(5 * G).bits, 4);
}

/* Fewer sequences, rather than nothing. */
static void with_one_sequence(void **state)
{
    (void)state;
    struct precision_answer a = ask(4 * G);
    assert_int_equal(a.bits, 4);
    assert_true(a.fits && a.kv == G);
    a = ask(3 * G);
    assert_int_equal(a.bits, 4);
    assert_false(a.fits);
    assert_non_null(strstr(a.why, "Not even 4 bits"));
}

static void by_speed(void **state)
{
    (void)state;
    struct precision_question q = question(64 * G);
    q.bandwidth = 50.0 * (double)G;
    assert_int_equal(precision_choose(&q).bits, 0); /* 6.25 a second */
    q.bandwidth = 30.0 * (double)G;
    assert_int_equal(precision_choose(&q).bits, 8);
    q.bandwidth = 15.0 * (double)G;
    assert_int_equal(precision_choose(&q).bits, 4);
    q.bandwidth = 1.0 * (double)G; /* all are slow: the fastest */
    struct precision_answer a = precision_choose(&q);
    assert_int_equal(a.bits, 4);
    assert_non_null(strstr(a.why, "tokens a second"));
}

static void quantized_stays(void **state)
{
    (void)state;
    struct precision_question q = question(4 * G);
    q.quantized = true;
    struct precision_answer a = precision_choose(&q);
    assert_int_equal(a.bits, 0);
    assert_false(a.fits);
    assert_non_null(
        strstr(a.why, "8.00 GiB of weights, 0.50 GiB of KV for one sequence and 0.50 GiB besides")); /* why not */
    q.memory = 20 * G;
    a = precision_choose(&q);
    assert_true(a.fits);
    assert_string_equal(a.why, "As it is: the weights are quantized already.");
    q.stays = "Nobody writes that.";
    assert_string_equal(precision_choose(&q).why, "As it is: Nobody writes that.");
}

static void huge_numbers(void **state)
{
    (void)state;
    struct precision_question q = question(5 * G);
    q.memory += G / 4;
    q.full = q.kv_wanted = UINT64_MAX;
    assert_int_equal(precision_choose(&q).bits, 8); /* 4.25 and one sequence: none has room for all */
    q.other = UINT64_MAX;
    assert_false(precision_choose(&q).fits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_fit),          cmocka_unit_test(with_one_sequence), cmocka_unit_test(by_speed),
        cmocka_unit_test(quantized_stays), cmocka_unit_test(huge_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
