/* One request's line of time: what is known at each point of it. */
#include "pipeline/gen_clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void expect(struct gen_timings t, int64_t prepare, int64_t queue, int64_t prefill, int64_t decode, int64_t ttft,
                   int64_t total)
{
    assert_int_equal(t.prepare_us, prepare);
    assert_int_equal(t.queue_us, queue);
    assert_int_equal(t.prefill_us, prefill);
    assert_int_equal(t.decode_us, decode);
    assert_int_equal(t.ttft_us, ttft);
    assert_int_equal(t.total_us, total);
}

static void each_phase_ends_where_the_next_begins(void **state)
{
    struct gen_clock c;
    (void)state;
    gen_clock_start(&c, 1000, 1300, 1);
    expect(gen_clock_read(&c, 1500), 300, 200, -1, -1, -1, 500); /* still waiting */
    gen_clock_admitted(&c, 5000, 400);                           /* heard of much later, with the first step's end */
    expect(gen_clock_read(&c, 5000), 300, 400, 3300, -1, -1, 4000);
    gen_clock_tokens(&c, 5500, 1, true);
    expect(gen_clock_read(&c, 6000), 300, 400, 3800, 0, 4500, 5000);
    gen_clock_tokens(&c, 7500, 1, false);
    gen_clock_end(&c, 7600);
    gen_clock_end(&c, 9999); /* only once */
    expect(gen_clock_read(&c, 20000), 300, 400, 3800, 2000, 4500, 6600);
}

static void a_second_admission_changes_nothing(void **state)
{
    struct gen_clock c;
    (void)state;
    gen_clock_start(&c, 1000, 1000, 2);
    gen_clock_admitted(&c, 3000, 500);
    gen_clock_admitted(&c, 4000, 2500); /* of its other prompt, or of an engine that resumes it */
    assert_int_equal(gen_clock_read(&c, 5000).queue_us, 500);
}

static void prefill_ends_with_the_last_prompt(void **state)
{
    struct gen_clock c;
    (void)state;
    gen_clock_start(&c, 1000, 1000, 2);
    gen_clock_admitted(&c, 1200, 100);
    gen_clock_tokens(&c, 2000, 1, true);
    gen_clock_tokens(&c, 2500, 1, false);
    assert_int_equal(gen_clock_read(&c, 2600).prefill_us, 1500); /* goes on */
    gen_clock_tokens(&c, 3000, 1, true);
    gen_clock_tokens(&c, 4000, 1, false);
    expect(gen_clock_read(&c, 4000), 0, 100, 1900, 2000, 1000, 3000);
}

static void clocks_that_disagree_do_no_harm(void **state)
{
    struct gen_clock c;
    (void)state;
    gen_clock_start(&c, 9000, 1000, 1); /* received after it was submitted, or never */
    assert_int_equal(gen_clock_read(&c, 1000).prepare_us, 0);
    gen_clock_admitted(&c, 2000, UINT64_MAX); /* waited longer than it is known */
    expect(gen_clock_read(&c, 2000), 0, 1000, 0, -1, -1, 1000);
    gen_clock_end(&c, 2500);
    expect(gen_clock_read(&c, 9000), 0, 1000, 500, -1, -1, 1500); /* ended without a token */
}

static void the_rate_is_that_of_now(void **state)
{
    struct gen_clock c;
    int64_t now = 1000;
    (void)state;
    gen_clock_start(&c, now, now, 1);
    assert_true(gen_clock_rate(&c, now) == 0);
    gen_clock_admitted(&c, now, 0);
    gen_clock_tokens(&c, now, 1, true);
    assert_true(gen_clock_rate(&c, now) == 0);
    for (int i = 0; i < 500; i++) { /* 10 a second */
        gen_clock_tokens(&c, now += 100000, 1, false);
    }
    assert_float_equal(gen_clock_rate(&c, now), 10, 0.01);
    for (int i = 0; i < 500; i++) { /* 200 a second, in pairs */
        gen_clock_tokens(&c, now += 10000, 2, false);
    }
    assert_float_equal(gen_clock_rate(&c, now), 200, 0.01);
    assert_true(gen_clock_rate(&c, now + 60 * GEN_RATE_US) < 10); /* it stands still */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_phase_ends_where_the_next_begins),
        cmocka_unit_test(a_second_admission_changes_nothing),
        cmocka_unit_test(prefill_ends_with_the_last_prompt),
        cmocka_unit_test(clocks_that_disagree_do_no_harm),
        cmocka_unit_test(the_rate_is_that_of_now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
