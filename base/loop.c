/* The loop over libuv. Workers are threads of our own instead of libuv's pool: their number is chosen by the caller,
 * not by an environment variable, and they run below the kernels' priority.
 *
 * Nothing here may leave a handle behind: libuv frees a handle only in its close callback, so `free` of a timer or
 * signal detaches the callback first and closes second. */
#include "base/loop.h"

#include "base/limits.h"
#include "base/sys_proc.h"

#include <pthread.h>
#include <stdlib.h>
#include <uv.h>

#define LOOP_LARGE_ARENA KIB(16) /* freed in well under a millisecond, whatever is in it */

struct work {
    void (*fn)(void *arg);
    void (*done)(void *arg);
    void *arg;
    struct work *next;
    struct loop *loop;
    bool alone; /* it has a thread, which is joined before done */
    pthread_t thread;
};

struct work_list { /* first in, first out */
    struct work *head, *tail;
};

struct loop {
    uv_loop_t uv;
    uv_async_t work_done; /* a worker has finished something */
    uv_async_t deferred_ready;
    struct work_list deferred; /* the loop's thread only */

    pthread_mutex_t lock; /* covers what follows */
    pthread_cond_t have_work, alone_ended;
    struct work_list first, todo, finished;
    int n_queued; /* in first or todo, or being worked on */
    int n_alone;  /* threads of their own that have not finished */
    bool closing;

    int n_workers;
    pthread_t workers[];
};

static void list_push(struct work_list *list, struct work *w)
{
    w->next = NULL;
    if (list->tail) {
        list->tail->next = w;
    } else {
        list->head = w;
    }
    list->tail = w;
}

static struct work *list_pop(struct work_list *list)
{
    struct work *w = list->head;
    if (w) {
        list->head = w->next;
        list->tail = list->head ? list->tail : NULL;
    }
    return w;
}

static struct work_list list_take(struct work_list *list)
{
    struct work_list taken = *list;
    *list = (struct work_list){0};
    return taken;
}

static void *worker_main(void *arg)
{
    struct loop *l = arg;
    sys_name_thread("tandem-work");
    sys_lower_priority();
    pthread_mutex_lock(&l->lock);
    for (;;) {
        struct work *w = list_pop(&l->first);
        w = w ? w : list_pop(&l->todo);
        if (!w && l->closing) {
            break;
        }
        if (!w) {
            pthread_cond_wait(&l->have_work, &l->lock);
            continue;
        }
        pthread_mutex_unlock(&l->lock);
        w->fn(w->arg);
        pthread_mutex_lock(&l->lock);
        list_push(&l->finished, w);
        l->n_queued--;
        uv_async_send(&l->work_done);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static void run_finished(struct work_list list)
{
    struct work *w;
    while ((w = list_pop(&list))) {
        if (w->alone) {
            pthread_join(w->thread, NULL);
        }
        w->done(w->arg);
        free(w);
    }
}

static void on_work_done(uv_async_t *async)
{
    struct loop *l = async->data;
    pthread_mutex_lock(&l->lock);
    struct work_list finished = list_take(&l->finished);
    pthread_mutex_unlock(&l->lock);
    run_finished(finished);
}

static void on_deferred(uv_async_t *async)
{
    struct loop *l = async->data;
    run_finished(list_take(&l->deferred));
}

static bool start_workers(struct loop *l, int n_workers)
{
    for (; l->n_workers < n_workers; l->n_workers++) {
        if (pthread_create(&l->workers[l->n_workers], NULL, worker_main, l) != 0) {
            return l->n_workers > 0;
        }
    }
    return true;
}

static void stop_workers(struct loop *l)
{
    pthread_mutex_lock(&l->lock);
    l->closing = true;
    pthread_cond_broadcast(&l->have_work);
    while (l->n_alone > 0) {
        pthread_cond_wait(&l->alone_ended, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->n_workers; i++) {
        pthread_join(l->workers[i], NULL);
    }
}

struct loop *loop_create(int n_workers, struct error *err)
{
    struct loop *l = calloc(1, sizeof *l + (size_t)n_workers * sizeof l->workers[0]);
    if (!l || uv_loop_init(&l->uv) != 0) {
        free(l);
        error_set(err, ERR_NO_MEMORY, "the event loop could not be created.");
        return NULL;
    }
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->have_work, NULL);
    pthread_cond_init(&l->alone_ended, NULL);
    l->work_done.data = l->deferred_ready.data = l;
    uv_async_init(&l->uv, &l->work_done, on_work_done);
    uv_async_init(&l->uv, &l->deferred_ready, on_deferred);
    if (!start_workers(l, n_workers)) {
        loop_free(l);
        error_set(err, ERR_NO_MEMORY, "a worker thread could not be started.");
        return NULL;
    }
    return l;
}

void loop_run(struct loop *l)
{
    uv_run(&l->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *l)
{
    uv_stop(&l->uv);
}

void loop_free(struct loop *l)
{
    if (!l) {
        return;
    }
    stop_workers(l);
    run_finished(list_take(&l->finished));
    run_finished(list_take(&l->deferred));
    uv_close((uv_handle_t *)&l->work_done, NULL);
    uv_close((uv_handle_t *)&l->deferred_ready, NULL);
    uv_run(&l->uv, UV_RUN_DEFAULT); /* close callbacks, also of timers and signals freed just before */
    uv_loop_close(&l->uv);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->have_work);
    pthread_cond_destroy(&l->alone_ended);
    free(l);
}

struct uv_loop_s *loop_uv(struct loop *l)
{
    return &l->uv;
}

/* A node is a few words; failing to get it is failing to answer at all, so it panics (STYLE 15: bookkeeping). */
static struct work *work_create(void (*fn)(void *), void (*done)(void *), void *arg)
{
    struct work *w = malloc(sizeof *w);
    if (!w) {
        abort();
    }
    *w = (struct work){.fn = fn, .done = done, .arg = arg};
    return w;
}

static void push_work(struct loop *l, struct work_list *list, struct work *w)
{
    pthread_mutex_lock(&l->lock);
    list_push(list, w);
    l->n_queued++;
    pthread_cond_signal(&l->have_work);
    pthread_mutex_unlock(&l->lock);
}

void loop_work(struct loop *l, void (*fn)(void *arg), void (*done)(void *arg), void *arg)
{
    push_work(l, &l->todo, work_create(fn, done, arg));
}

void loop_work_first(struct loop *l, void (*fn)(void *arg), void (*done)(void *arg), void *arg)
{
    push_work(l, &l->first, work_create(fn, done, arg));
}

static void *alone_main(void *arg)
{
    struct work *w = arg;
    struct loop *l = w->loop;
    sys_name_thread("tandem-alone");
    sys_lower_priority();
    w->fn(w->arg);
    pthread_mutex_lock(&l->lock);
    list_push(&l->finished, w);
    l->n_alone--;
    uv_async_send(&l->work_done);
    pthread_cond_signal(&l->alone_ended);
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

void loop_work_alone(struct loop *l, void (*fn)(void *arg), void (*done)(void *arg), void *arg)
{
    struct work *w = work_create(fn, done, arg);
    w->loop = l;
    w->alone = true;
    pthread_mutex_lock(&l->lock);
    l->n_alone++;
    bool started = pthread_create(&w->thread, NULL, alone_main, w) == 0; /* it cannot finish before the lock is free */
    l->n_alone -= !started;
    pthread_mutex_unlock(&l->lock);
    if (!started) { /* slower for others is better than never */
        w->alone = false;
        push_work(l, &l->todo, w);
    }
}

static void free_arena(void *arg)
{
    arena_free(arg);
}

static void nothing(void *arg)
{
    (void)arg;
}

void loop_free_arena(struct loop *l, struct arena *a)
{
    if (a && arena_used(a) > LOOP_LARGE_ARENA) {
        loop_work(l, free_arena, nothing, a);
    } else {
        arena_free(a);
    }
}

int loop_work_queued(const struct loop *l)
{
    struct loop *locked = (struct loop *)l;
    pthread_mutex_lock(&locked->lock);
    int n = l->n_queued;
    pthread_mutex_unlock(&locked->lock);
    return n;
}

void loop_defer(struct loop *l, void (*fn)(void *arg), void *arg)
{
    list_push(&l->deferred, work_create(NULL, fn, arg));
    uv_async_send(&l->deferred_ready);
}

/* ---- timers ---- */

struct loop_timer {
    uv_timer_t uv;
    void (*fn)(void *arg);
    void *arg;
};

static void on_timer(uv_timer_t *uv)
{
    struct loop_timer *t = uv->data;
    t->fn(t->arg);
}

static void free_handle_data(uv_handle_t *handle)
{
    free(handle->data);
}

struct loop_timer *loop_timer_create(struct loop *l, void (*fn)(void *arg), void *arg)
{
    struct loop_timer *t = calloc(1, sizeof *t);
    if (!t) {
        return NULL;
    }
    uv_timer_init(&l->uv, &t->uv);
    t->uv.data = t;
    t->fn = fn;
    t->arg = arg;
    return t;
}

void loop_timer_start(struct loop_timer *t, int64_t delay_ms, int64_t repeat_ms)
{
    uv_update_time(t->uv.loop); /* the loop's cached time may be as old as the handler that calls us has run */
    uv_timer_start(&t->uv, on_timer, delay_ms > 0 ? (uint64_t)delay_ms : 0, repeat_ms > 0 ? (uint64_t)repeat_ms : 0);
}

void loop_timer_stop(struct loop_timer *t)
{
    uv_timer_stop(&t->uv);
}

void loop_timer_free(struct loop_timer *t)
{
    if (t) {
        uv_timer_stop(&t->uv);
        uv_close((uv_handle_t *)&t->uv, free_handle_data);
    }
}

/* ---- signals ---- */

struct loop_signal {
    uv_async_t uv;
    void (*fn)(void *arg);
    void *arg;
};

static void on_signal(uv_async_t *uv)
{
    struct loop_signal *s = uv->data;
    s->fn(s->arg);
}

struct loop_signal *loop_signal_create(struct loop *l, void (*fn)(void *arg), void *arg)
{
    struct loop_signal *s = calloc(1, sizeof *s);
    if (!s) {
        return NULL;
    }
    if (uv_async_init(&l->uv, &s->uv, on_signal) != 0) {
        free(s);
        return NULL;
    }
    s->uv.data = s;
    s->fn = fn;
    s->arg = arg;
    return s;
}

void loop_signal_send(struct loop_signal *s)
{
    uv_async_send(&s->uv);
}

void loop_signal_free(struct loop_signal *s)
{
    if (s) {
        uv_close((uv_handle_t *)&s->uv, free_handle_data);
    }
}
