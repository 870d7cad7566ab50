#include "gateway/waiting_jobs.h"

#include <stdlib.h>

struct waiting_job {
    struct job *job; /* owned */
    size_t size;
    int64_t since_ms, deadline_ms; /* INT64_MAX: none */
    struct waiting_job *next;
};

size_t waiting_jobs_size_of(const struct job *job)
{
    size_t n_ids = (size_t)job->n_prompt + job->n_stop_ids + job->n_dry_breakers;
    for (uint32_t i = 0; job->accepted && i < job->n_choices; i++) {
        n_ids += job->accepted[i].n;
    }
    return sizeof *job + n_ids * sizeof(int32_t) + job->n_bias * sizeof *job->bias + job->constraint_size;
}

bool waiting_jobs_push(struct waiting_jobs *w, const struct job *job, int64_t now_ms, struct error *err)
{
    struct waiting_job *j = calloc(1, sizeof *j);
    if (!j || !(j->job = job_copy(job))) {
        free(j);
        return error_set(err, ERR_NO_MEMORY, "no memory to keep a request while the model loads.");
    }
    j->size = waiting_jobs_size_of(job);
    j->since_ms = now_ms;
    j->deadline_ms = job->timeout_ms ? now_ms + job->timeout_ms : INT64_MAX;
    if (w->last) {
        w->last->next = j;
    } else {
        w->first = j;
    }
    w->last = j;
    w->n++;
    w->n_rows += job->priority >= JOB_PRIORITY_IDLE;
    w->size += j->size;
    return true;
}

/* Unlinks and frees the node behind `previous` (NULL: the first); its job is the caller's. */
static struct job *take_behind(struct waiting_jobs *w, struct waiting_job *previous)
{
    struct waiting_job *j = previous ? previous->next : w->first;
    struct job *job = j->job;
    if (previous) {
        previous->next = j->next;
    } else {
        w->first = j->next;
    }
    w->last = j->next ? w->last : previous;
    w->n--;
    w->n_rows -= job->priority >= JOB_PRIORITY_IDLE;
    w->size -= j->size;
    free(j);
    return job;
}

struct job *waiting_jobs_pop(struct waiting_jobs *w, int64_t now_ms)
{
    if (!w->first) {
        return NULL;
    }
    int64_t deadline_ms = w->first->deadline_ms, waited_ms = now_ms - w->first->since_ms;
    struct job *job = take_behind(w, NULL);
    job->waited_us += waited_ms > 0 ? (uint64_t)waited_ms * 1000 : 0;
    if (deadline_ms != INT64_MAX) {
        job->timeout_ms = deadline_ms > now_ms ? (uint32_t)(deadline_ms - now_ms) : 1;
    }
    return job;
}

void waiting_jobs_remove(struct waiting_jobs *w, uint64_t id)
{
    for (struct waiting_job *j = w->first, *previous = NULL; j; previous = j, j = j->next) {
        if (j->job->id == id) {
            free(take_behind(w, previous));
            return;
        }
    }
}

void waiting_jobs_clear(struct waiting_jobs *w)
{
    while (w->first) {
        free(take_behind(w, NULL));
    }
}
