/* An engine in its thread with a log of its events; models for it. Failures end the test. */
#ifndef TANDEM_TESTS_SUPPORT_ENGINE_RUN_H
#define TANDEM_TESTS_SUPPORT_ENGINE_RUN_H

#include "tests/support/engine_toy.h"
#include "tests/support/temp_dir.h"

/* tests/data/parity/NAME.json as a file in dir; free(). */
char *engine_random_model(const struct temp_dir *dir, const char *name);

struct engine_run {
    struct engine *engine;
    struct toy_log *log;
};

/* Takes the engine and starts it. */
void engine_run_start(struct engine_run *r, struct engine *engine);
/* engine_create with these options. */
void engine_run_open(struct engine_run *r, const struct engine_options *options);
void engine_run_submit(struct engine_run *r, const struct job *job);
void engine_run_wait(struct engine_run *r, uint32_t n_jobs); /* until so many of the submitted have ended */
void engine_run_close(struct engine_run *r);                 /* frees the engine; the log stays */
void engine_run_release(struct engine_run *r);

#endif
