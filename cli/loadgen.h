/* One run of `tandem bench-serve`: requests to one target at one load, and what became of each.
 *
 *     struct loadgen *load = loadgen_create(&options, err);
 *     bool ok = loadgen_run(load, &run, err);     runs the loop until every answer is read
 *     loadgen_free(load);
 *     ... loadgen_run_release(&run)
 *
 * Loads: closed (so many requests in flight; one that ends is followed by the next at once), Poisson (requests leave at
 * random moments of a given mean rate, whatever is in flight), replay (at the times of the workload's lines). Requests
 * take the workload's indexes from first_index on.
 *
 * While answers stream in, their bytes are only gathered with their times; they are read on the loop's worker, below
 * normal priority, so that reading one does not delay the time of another. Everything here is called on the loop's
 * thread. */
#ifndef TANDEM_CLI_LOADGEN_H
#define TANDEM_CLI_LOADGEN_H

#include "base/loop.h"
#include "cli/loadgen_answer.h"
#include "cli/loadgen_workload.h"
#include "http/client.h"

#define LOADGEN_MAX_REQUESTS 10000000 /* of a run */
#define LOADGEN_MAX_FAILURES 16       /* kinds of failures told apart */
#define LOADGEN_MAX_EXAMPLES 5        /* failed checks shown with their text */

enum loadgen_mode { LOADGEN_CLOSED, LOADGEN_POISSON, LOADGEN_REPLAY };

struct loadgen_point {
    enum loadgen_mode mode;
    double load; /* requests in flight, or a second; 0 for a replay */
};

struct loadgen_progress {
    uint64_t n_done, n_total; /* n_total 0: not known */
    uint64_t n_failed, n_in_flight, n_tokens;
    double elapsed_s, duration_s; /* duration_s 0: no limit */
};

struct loadgen_options {
    struct loop *loop;
    struct http_client *client;
    const struct loadgen_target *target; /* with its model */
    const struct loadgen_workload *workload;
    struct loadgen_point point;
    uint64_t first_index;
    uint64_t n_requests; /* 0: until duration_ns */
    int64_t duration_ns; /* no request is started after it; 0: no limit */
    uint64_t seed;       /* of Poisson arrivals */
    int64_t timeout_ms;  /* of one request */
    bool stream;
    void (*on_progress)(void *arg, const struct loadgen_progress *p); /* every 100 ms; may be NULL */
    void *arg;
};

enum loadgen_verdict { LOADGEN_NO_CHECK, LOADGEN_PASSED, LOADGEN_FAILED };

struct loadgen_sample {                         /* one request; times in ns from the run's start */
    uint64_t index;                             /* in the workload */
    int64_t due_ns;                             /* when it was to be sent */
    int64_t sent_ns, first_ns, last_ns, end_ns; /* first and last token event (0: no stream), end of the answer */
    size_t gaps_at, n_gaps;                     /* in the run's gaps */
    uint64_t prompt_tokens, completion_tokens, cached_tokens;
    bool has_usage;
    enum loadgen_outcome outcome;
    enum loadgen_verdict verdict; /* of its check */
    int status;
};

struct loadgen_failure { /* equal ones together */
    enum loadgen_outcome outcome;
    int status;
    char message[160];
    uint64_t n;
};

struct loadgen_example { /* a failed check */
    uint64_t line;       /* which of the workload's requests, from 1 */
    char complaint[200], text[600];
};

struct loadgen_run {
    struct loadgen_sample *samples; /* [n_samples] in the order they were sent; the interrupted ones are left out */
    size_t n_samples, samples_cap;
    int64_t *gaps; /* [n_gaps] ns between token events of one answer, answer by answer */
    size_t n_gaps, gaps_cap;
    int64_t duration_ns; /* from the start to the end of the last answer, or to the interruption */
    double client_cpu_s; /* of this process, reading included */
    struct loadgen_failure failures[LOADGEN_MAX_FAILURES]; /* [n_failures]; the last also counts what had no place */
    int n_failures;
    struct loadgen_example examples[LOADGEN_MAX_EXAMPLES]; /* [n_examples] */
    int n_examples;
    char fingerprint[80]; /* of the last answer */
    char server[80];      /* Server header of the last reply */
    bool interrupted;     /* by loadgen_stop */
    bool gave_up;         /* nobody answers the door any more */
};

struct loadgen;

NODISCARD struct loadgen *loadgen_create(const struct loadgen_options *options, struct error *err);
void loadgen_free(struct loadgen *load); /* not while it runs; NULL is fine */

/* Fills *run (loadgen_run_release, in any case). False: memory fails. Requests that fail are in the run, and no error.
 */
NODISCARD bool loadgen_run(struct loadgen *load, struct loadgen_run *run, struct error *err);
void loadgen_stop(struct loadgen *load); /* from a callback: ends the run, without what is in flight */

void loadgen_run_release(struct loadgen_run *run);

/* When request i of a Poisson run leaves, in seconds: sums of exponential gaps of mean 1/rate. With n_requests they are
 * scaled so that the last one leaves at n_requests/rate. For tests; loadgen_run draws the same. */
void loadgen_poisson_times(uint64_t seed, double rate, uint64_t n_requests, double *out, size_t n);

#endif
