/* Somebody who waits for a journal: it is asked, and the loop runs until it has answered. For the one file of a test
 * program. */
#ifndef TANDEM_TESTS_SUPPORT_JOURNAL_USER_H
#define TANDEM_TESTS_SUPPORT_JOURNAL_USER_H

#include "gateway/journal.h"
#include "tests/support/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

struct fixture {
    struct temp_dir dir;
    struct loop *loop;
    struct loop_timer *timer;
    struct journal *journal;
    struct journal_options options;
    bool pending;
    struct journal_answer answer; /* the last; its arena is kept until the next */
};

static inline void stop_waiting(void *arg)
{
    loop_stop(arg);
}

/* Its folder is there. */
static inline void start_fixture(struct fixture *f)
{
    struct error err = {0};
    f->loop = loop_create(1, &err);
    assert_non_null(f->loop);
    f->timer = loop_timer_create(f->loop, stop_waiting, f->loop);
    f->options.loop = f->loop;
    f->options.dir = f->dir.path;
}

static inline void end_fixture(struct fixture *f)
{
    journal_close(f->journal);
    f->journal = NULL;
    arena_free(f->answer.arena);
    f->answer = (struct journal_answer){0};
    loop_timer_free(f->timer);
    loop_free(f->loop);
}

static inline bool try_open(struct fixture *f, struct error *err)
{
    f->journal = journal_open(&f->options, err);
    return f->journal != NULL;
}

static inline void open_journal(struct fixture *f)
{
    struct error err = {0};
    if (!try_open(f, &err)) {
        fail_msg("%s", err.msg);
    }
}

static inline void on_done(void *arg, struct journal_answer *answer)
{
    struct fixture *f = arg;
    arena_free(f->answer.arena);
    f->answer = *answer;
    answer->arena = NULL;
    f->pending = false;
    loop_stop(f->loop);
}

static inline struct journal_done done_of(struct fixture *f)
{
    f->pending = true;
    return (struct journal_done){on_done, f};
}

static inline bool wait_done(struct fixture *f)
{
    while (f->pending) {
        loop_run(f->loop);
    }
    return f->answer.ok;
}

/* Lets the journal's own timers run. */
static inline void run_for(struct fixture *f, int64_t ms)
{
    loop_timer_start(f->timer, ms, 0);
    loop_run(f->loop);
}

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    temp_dir_make(&f->dir);
    start_fixture(f);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    end_fixture(f);
    temp_dir_remove(&f->dir);
    free(f);
    return 0;
}

#endif
