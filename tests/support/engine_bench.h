/* What tests of the scheduler on the toy model do again and again; a failure is one of the running test. And setups of
 * cmocka for executors of every kind. */
#ifndef TANDEM_TESTS_SUPPORT_ENGINE_BENCH_H
#define TANDEM_TESTS_SUPPORT_ENGINE_BENCH_H

#include "engine/scheduler.h"
#include "tests/support/engine_toy.h"

/* On a toy of the config's, which has its events in a new log. The log is the caller's to release and free, like
 * the toy, after the scheduler. */
struct scheduler *bench_scheduler(struct toy *toy, const struct engine_config *config, struct toy_mode mode,
                                  struct toy_log **log);
void bench_submit(struct scheduler *s, const struct engine_config *config, const struct job *job);
void bench_check(struct scheduler *s, const struct toy_log *log); /* a recount, and that all events made sense */

extern struct toy_mode bench_mode; /* of the executors that the running test makes */
int bench_eager(void **state);
int bench_lazy(void **state);
int bench_private(void **state);
int bench_lazy_and_private(void **state);

#define IN_OTHER_MODES(test)                                               \
    cmocka_unit_test_setup_teardown(test, bench_lazy, bench_eager),        \
        cmocka_unit_test_setup_teardown(test, bench_private, bench_eager), \
        cmocka_unit_test_setup_teardown(test, bench_lazy_and_private, bench_eager)

#endif
