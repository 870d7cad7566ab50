/* When an engine counts as stopped or hung, when the next one is started, and how losses are told apart. */
#include "gateway/engine_loss.h"
#include "gateway/engine_memory.h"
#include "gateway/restart.h"
#include "gateway/watchdog.h"

#include "base/limits.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define POLL WATCHDOG_POLL_MS
#define HANG 10000

static const struct watchdog_limits limits = {.stopped_ms = WATCHDOG_STOPPED_MS, .hang_ms = HANG};

struct bench {
    struct watchdog dog;
    struct engine_watch words;
    int64_t now_ms;
};

static struct bench begin(void)
{
    struct bench b = {.now_ms = 1000000};
    watchdog_start(&b.dog, false, b.now_ms);
    return b;
}

/* ms pass; the words that are set change with every look. The first verdict that is not ALIVE, if any. */
static enum watchdog_verdict pass(struct bench *b, int64_t ms, bool beats, bool turns)
{
    for (int64_t t = 0; t < ms; t += POLL) {
        b->now_ms += POLL;
        b->words.heartbeats += beats;
        b->words.turns += turns;
        enum watchdog_verdict verdict = watchdog_look(&b->dog, &b->words, &limits, b->now_ms);
        if (verdict != WATCHDOG_ALIVE) {
            return verdict;
        }
    }
    return WATCHDOG_ALIVE;
}

static void a_heartbeat_is_life(void **state)
{
    (void)state;
    struct bench b = begin();
    assert_int_equal(pass(&b, 60000, true, false), WATCHDOG_ALIVE); /* idle */
    assert_int_equal(pass(&b, WATCHDOG_STOPPED_MS, false, false), WATCHDOG_ALIVE);
    assert_int_equal(pass(&b, POLL, false, false), WATCHDOG_STOPPED);
    assert_int_equal(watchdog_silence_ms(&b.dog, WATCHDOG_STOPPED), WATCHDOG_STOPPED_MS + POLL);
}

static void a_busy_engine_must_turn(void **state)
{
    (void)state;
    struct bench b = begin();
    atomic_store(&b.words.busy, 1);
    assert_int_equal(pass(&b, 60000, true, true), WATCHDOG_ALIVE);
    assert_int_equal(pass(&b, HANG, true, false), WATCHDOG_ALIVE);
    assert_int_equal(pass(&b, POLL, true, false), WATCHDOG_HUNG);
    assert_int_equal(watchdog_silence_ms(&b.dog, WATCHDOG_HUNG), HANG + POLL);
}

static void a_step_that_was_expected_to_take_long_may(void **state)
{
    (void)state;
    struct bench b = begin();
    atomic_store(&b.words.busy, 1);
    atomic_store(&b.words.expected_ns, 2000 * (uint64_t)1000000);
    assert_int_equal(pass(&b, 2000 * WATCHDOG_PATIENCE, true, false), WATCHDOG_ALIVE);
    assert_int_equal(pass(&b, POLL, true, false), WATCHDOG_HUNG);
    b = begin();
    atomic_store(&b.words.busy, 1);
    atomic_store(&b.words.expected_ns, UINT64_MAX); /* nonsense does not buy for ever */
    assert_int_equal(pass(&b, (int64_t)HANG * WATCHDOG_PATIENCE * WATCHDOG_PATIENCE + POLL, true, false),
                     WATCHDOG_HUNG);
}

static void who_hung_again_was_perhaps_slow(void **state)
{
    (void)state;
    struct bench b = begin();
    for (int hung = 1; hung <= WATCHDOG_DOUBLINGS + 2; hung++) {
        watchdog_start(&b.dog, true, b.now_ms);
        atomic_store(&b.words.busy, 1);
        int64_t patience = (int64_t)HANG << (hung < WATCHDOG_DOUBLINGS ? hung : WATCHDOG_DOUBLINGS);
        assert_int_equal(pass(&b, patience, true, false), WATCHDOG_ALIVE);
        assert_int_equal(pass(&b, POLL, true, false), WATCHDOG_HUNG);
    }
    watchdog_start(&b.dog, false, b.now_ms);
    assert_int_equal(pass(&b, HANG, true, false), WATCHDOG_ALIVE);
    assert_int_equal(pass(&b, POLL, true, false), WATCHDOG_HUNG);
}

static void a_gateway_that_slept_forgives(void **state)
{
    (void)state;
    struct bench b = begin();
    atomic_store(&b.words.busy, 1);
    assert_int_equal(pass(&b, 500, true, true), WATCHDOG_ALIVE);
    b.now_ms += 3600000; /* the lid was closed */
    assert_int_equal(pass(&b, WATCHDOG_STOPPED_MS, false, false), WATCHDOG_ALIVE);
    assert_int_equal(pass(&b, 2 * POLL, false, false), WATCHDOG_STOPPED);
}

/* ---- restarts ---- */

static const struct restart_policy policy = {
    .initial_ms = 200, .max_ms = 1000, .multiplier = 2, .limit = 4, .window_ms = 60000, .retry_ms = 30000};

static void waits_grow_up_to_a_limit(void **state)
{
    (void)state;
    static const int64_t most[] = {0, 200, 400, 800};
    struct restart r = {0};
    bool failed;
    for (int i = 0; i < 4; i++) {
        int64_t wait = restart_after(&r, &policy, i, false, false, (uint64_t)most[i], &failed);
        assert_int_equal(wait, most[i]);
        assert_false(failed);
        struct restart again = r;
        again.step = i;
        again.n_losses = 0;
        wait = restart_after(&again, &policy, i, false, false, (uint64_t)most[i] + 1, &failed);
        assert_int_equal(wait, 0); /* full jitter: from 0 to the limit */
    }
    assert_int_equal(restart_after(&r, &policy, 5, true, false, 0, &failed), policy.retry_ms);
    assert_true(failed);
    r.step = 9;
    assert_int_equal(restart_after(&r, &policy, 70000, false, false, 1000, &failed), 1000); /* max_ms */
    assert_false(failed);
    assert_int_equal(restart_after(&r, &policy, 140000, true, false, 7, &failed), 0); /* it had worked */
    assert_int_equal(restart_after(&r, &policy, 210000, false, true, 7, &failed), policy.retry_ms);
    assert_true(failed);
}

/* ---- losses ---- */

static void losses_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        struct engine_end end;
        enum engine_loss loss;
    } cases[] = {
        {{.was_ready = true, .given_up = LOSS_COUNT}, LOSS_EXIT},
        {{.was_ready = true, .signal = SIGSEGV, .given_up = LOSS_COUNT}, LOSS_SIGNAL},
        {{.was_ready = true, .signal = SIGKILL, .given_up = LOSS_COUNT}, LOSS_SIGNAL},
        {{.was_ready = true, .signal = SIGKILL, .out_of_memory = true, .given_up = LOSS_COUNT}, LOSS_MEMORY},
        {{.was_ready = true, .signal = SIGSEGV, .out_of_memory = true, .given_up = LOSS_COUNT}, LOSS_SIGNAL},
        {{.was_ready = true, .signal = SIGKILL, .given_up = LOSS_HUNG}, LOSS_HUNG},
        {{.was_ready = true, .signal = SIGKILL, .out_of_memory = true, .given_up = LOSS_PROTOCOL}, LOSS_PROTOCOL},
        {{.was_ready = true, .said_fatal = true, .given_up = LOSS_COUNT}, LOSS_DEVICE},
        {{.said_fatal = true, .given_up = LOSS_COUNT}, LOSS_START},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(engine_loss_of(&cases[i].end), cases[i].loss);
    }
    assert_false(engine_loss_info(LOSS_START)->resumed);
    assert_true(engine_loss_info(LOSS_MEMORY)->shrinks);
}

static void pages_are_forgotten(void **state)
{
    (void)state;
    struct engine_memory m;
    struct error err = {0};
    assert_true(engine_memory_create(&m, MIB(1), &err));
    ((char *)m.seals.data)[5] = 'x';
    engine_memory_forget_pages(&m);
    assert_int_equal(((char *)m.seals.data)[5], 0);
    engine_memory_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_heartbeat_is_life),
        cmocka_unit_test(a_busy_engine_must_turn),
        cmocka_unit_test(a_step_that_was_expected_to_take_long_may),
        cmocka_unit_test(who_hung_again_was_perhaps_slow),
        cmocka_unit_test(a_gateway_that_slept_forgives),
        cmocka_unit_test(waits_grow_up_to_a_limit),
        cmocka_unit_test(losses_are_told_apart),
        cmocka_unit_test(pages_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
