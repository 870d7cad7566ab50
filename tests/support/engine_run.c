#include "tests/support/engine_run.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/sys_file.h"
#include "tests/support/random_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define WAIT_LIMIT_MS 250000

char *engine_random_model(const struct temp_dir *dir, const char *name)
{
    char json[512], file[64];
    struct buf config;
    struct error err = {0};
    snprintf(json, sizeof json, "%s/parity/%s.json", TEST_DATA_DIR, name);
    snprintf(file, sizeof file, "%s.gguf", name);
    char *path = temp_dir_file(dir, file);
    if (!file_read(json, MIB(4), &config, &err)) {
        fail_msg("%s", err.msg);
    }
    struct random_model *m = random_model_create(buf_view(&config), NULL, &err);
    if (!m || !gguf_write_file(random_model_writer(m), path, &err)) {
        fail_msg("%s", err.msg);
    }
    random_model_free(m);
    buf_release(&config);
    return path;
}

void engine_run_start(struct engine_run *r, struct engine *engine)
{
    struct error err = {0};
    r->engine = engine;
    r->log = calloc(1, sizeof *r->log);
    if (!engine_start(engine, toy_sink, r->log, &err)) {
        fail_msg("%s", err.msg);
    }
}

void engine_run_open(struct engine_run *r, const struct engine_options *options)
{
    struct error err = {0};
    struct engine *engine = engine_create(options, &err);
    if (!engine) {
        fail_msg("%s", err.msg);
    }
    engine_run_start(r, engine);
}

void engine_run_submit(struct engine_run *r, const struct job *job)
{
    struct error err = {0};
    r->log->jobs[job->id].n_choices = job->n_choices;
    if (!engine_submit(r->engine, job, &err)) {
        fail_msg("%s", err.msg);
    }
}

void engine_run_wait(struct engine_run *r, uint32_t n_jobs)
{
    int64_t until_ms = clock_ms() + WAIT_LIMIT_MS;
    while (atomic_load(&r->log->n_jobs_ended) < n_jobs) {
        if (clock_ms() > until_ms) {
            fail_msg("%u of %u jobs ended", atomic_load(&r->log->n_jobs_ended), n_jobs);
        }
        clock_sleep_ms(1);
    }
}

void engine_run_close(struct engine_run *r)
{
    engine_free(r->engine);
    r->engine = NULL;
    if (r->log->wrong) {
        fail_msg("%s", r->log->wrong);
    }
}

void engine_run_release(struct engine_run *r)
{
    if (r->engine) {
        engine_run_close(r);
    }
    toy_log_release(r->log);
    free(r->log);
}
