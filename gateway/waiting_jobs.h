/* Jobs that wait for an engine to be ready, in the order they came: copies of their own. A job that is taken out has
 * only the rest of its time left; whose time is over is taken out by its generation's deadline (pipeline/deadlines.h),
 * which cancels it. The loop's thread; zero-initialised is empty. */
#ifndef TANDEM_GATEWAY_WAITING_JOBS_H
#define TANDEM_GATEWAY_WAITING_JOBS_H

#include "wire/job.h"

struct waiting_job;

struct waiting_jobs {
    struct waiting_job *first, *last;
    uint32_t n;
    uint32_t n_rows; /* of them: nobody waits for their answers (JOB_PRIORITY_IDLE) */
    size_t size;     /* of the jobs' frames, or a little less */
};

/* Bytes that the job would add to size. */
size_t waiting_jobs_size_of(const struct job *job);
/* Copies the job to the end; NO_MEMORY. */
NODISCARD bool waiting_jobs_push(struct waiting_jobs *w, const struct job *job, int64_t now_ms, struct error *err);
/* The first one, free() it; NULL: none is left. Its timeout_ms is what is left of it, at least 1; its waited_us counts
 * the time here. */
struct job *waiting_jobs_pop(struct waiting_jobs *w, int64_t now_ms);
void waiting_jobs_remove(struct waiting_jobs *w, uint64_t id); /* of a job that does not wait here: nothing */
void waiting_jobs_clear(struct waiting_jobs *w);

#endif
