#include "tests/support/engine_bench.h"

#include "engine/scheduler_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

struct scheduler *bench_scheduler(struct toy *toy, const struct engine_config *config, struct toy_mode mode,
                                  struct toy_log **log)
{
    struct error err = {0};
    toy_init_mode(toy, config, mode);
    *log = calloc(1, sizeof **log);
    assert_non_null(*log);
    struct scheduler *s = scheduler_create(config, &toy->base, &err);
    if (!s) {
        fail_msg("%s", err.msg);
    }
    scheduler_set_sink(s, toy_sink, *log);
    toy->pages = s->kv;
    return s;
}

void bench_submit(struct scheduler *s, const struct engine_config *config, const struct job *job)
{
    struct error err = {0};
    struct request *r = request_create(config, job, &err);
    if (!r) {
        fail_msg("%s", err.msg);
    }
    scheduler_accept(s, r);
}

void bench_check(struct scheduler *s, const struct toy_log *log)
{
    struct error err = {0};
    if (!scheduler_check(s, &err)) {
        fail_msg("%s", err.msg);
    }
    if (log->wrong) {
        fail_msg("%s", log->wrong);
    }
}

/* ---- modes ---- */

struct toy_mode bench_mode;

int bench_eager(void **state)
{
    (void)state;
    bench_mode = (struct toy_mode){0};
    return 0;
}

int bench_lazy(void **state)
{
    (void)state;
    bench_mode = (struct toy_mode){.lazy = true, .blind = true};
    return 0;
}

int bench_private(void **state)
{
    (void)state;
    bench_mode = (struct toy_mode){.kv_private = true, .blind = true};
    return 0;
}

int bench_lazy_and_private(void **state)
{
    (void)state;
    bench_mode = (struct toy_mode){.lazy = true, .kv_private = true, .blind = true};
    return 0;
}
