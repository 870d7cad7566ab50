/* Compiling a grammar takes a thread of its own: for its stack, since llguidance goes down into rules, references and
 * groups by recursion, as deep as a text has them; and for its time, since it cannot be interrupted. One that is too
 * late is left behind: it ends within its fuel and frees what it made. How many there are is bounded. */
#include "grammar/constraint_internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/sys_cond.h"

#include <pthread.h>
#include <stdlib.h>

#define MAX_COMPILING 8 /* at once, those left behind included */

/* At most about 400 bytes of stack per byte of text were seen. Untouched stack costs address space only. In whole
 * pages, as macOS wants it. */
#define STACK_SIZE(text_len) (MIB(16) + ((512 * (size_t)(text_len)) | (KIB(64) - 1)) + 1)

struct compile_gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int n_compiling;
};

struct compiling {
    struct compile_gate *gate;
    const struct constraint_vocab *vocab;
    const char *type;
    char *text;
    uint32_t *mask; /* [n_words] scratch */
    struct LlgMatcher *matcher;
    bool ok;
    bool finished, left_behind; /* under the gate's lock; who comes second frees */
};

struct compile_gate *constraint__gate_create(void)
{
    struct compile_gate *g = calloc(1, sizeof *g);
    if (g) {
        pthread_mutex_init(&g->lock, NULL);
        sys_cond_init(&g->changed);
    }
    return g;
}

void constraint__gate_free(struct compile_gate *g)
{
    if (g) {
        pthread_mutex_lock(&g->lock);
        while (g->n_compiling > 0) {
            pthread_cond_wait(&g->changed, &g->lock);
        }
        pthread_mutex_unlock(&g->lock);
        pthread_cond_destroy(&g->changed);
        pthread_mutex_destroy(&g->lock);
        free(g);
    }
}

static void free_job(struct compiling *job)
{
    if (job) {
        if (job->matcher) {
            llg_free_matcher(job->matcher);
        }
        free(job->mask);
        free(job->text);
        free(job);
    }
}

static void leave(struct compile_gate *g)
{
    g->n_compiling--;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

/* The first mask is computed here too: a grammar that nothing can begin, or that costs too much from the start, is
 * found before anything is decoded; what it took to compute is cloned with the matcher. */
static void *compile(void *arg)
{
    struct compiling *job = arg;
    struct compile_gate *g = job->gate;
    struct LlgConstraintInit init = constraint__init(job->vocab);
    struct LlgMatcher *m = llg_new_matcher(&init, job->type, job->text);
    bool ok = !llg_matcher_is_error(m) &&
              llg_matcher_compute_mask_into(m, job->mask, job->vocab->n_words * sizeof *job->mask) == 0;
    pthread_mutex_lock(&g->lock);
    job->matcher = m;
    job->ok = ok;
    job->finished = true;
    if (job->left_behind) {
        pthread_mutex_unlock(&g->lock);
        free_job(job);
        pthread_mutex_lock(&g->lock);
    }
    leave(g);
    return NULL;
}

static bool start_thread(struct compiling *job, size_t stack)
{
    pthread_attr_t attr;
    pthread_t thread;
    if (pthread_attr_init(&attr) != 0) {
        return false;
    }
    bool ok = pthread_attr_setstacksize(&attr, stack) == 0 &&
              pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0 &&
              pthread_create(&thread, &attr, compile, job) == 0;
    pthread_attr_destroy(&attr);
    return ok;
}

static bool enter(struct compile_gate *g)
{
    pthread_mutex_lock(&g->lock);
    bool ok = g->n_compiling < MAX_COMPILING;
    g->n_compiling += ok;
    pthread_mutex_unlock(&g->lock);
    return ok;
}

/* True when it is finished; else it is left behind. */
static bool wait_for(struct compiling *job, uint32_t ms)
{
    struct compile_gate *g = job->gate;
    int64_t until_ns = clock_ns() + (int64_t)ms * 1000000;
    pthread_mutex_lock(&g->lock);
    while (!job->finished && sys_cond_wait_until(&g->changed, &g->lock, until_ns)) {
    }
    bool finished = job->finished;
    job->left_behind = !finished;
    pthread_mutex_unlock(&g->lock);
    return finished;
}

enum gate_result constraint__gate_compile(const struct constraint_vocab *v, const char *type, struct buf *text,
                                          struct LlgMatcher **out)
{
    size_t len;
    struct compiling *job = calloc(1, sizeof *job);
    if (!job) {
        return GATE_NO_MEMORY;
    }
    *job = (struct compiling){.gate = v->gate, .vocab = v, .type = type, .text = buf_take(text, &len)};
    job->mask = malloc(v->n_words * sizeof *job->mask);
    if (!job->text || !job->mask) {
        free_job(job);
        return GATE_NO_MEMORY;
    }
    if (!enter(v->gate)) {
        free_job(job);
        return GATE_BUSY;
    }
    if (!start_thread(job, STACK_SIZE(len))) {
        free_job(job);
        pthread_mutex_lock(&v->gate->lock);
        leave(v->gate);
        return GATE_NO_MEMORY;
    }
    if (!wait_for(job, v->limits.compile_ms)) {
        return GATE_LATE;
    }
    enum gate_result result = job->ok ? GATE_COMPILED : GATE_REFUSED;
    *out = job->matcher;
    job->matcher = NULL;
    free_job(job);
    return result;
}
