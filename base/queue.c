#include "base/queue.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/sys_cond.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t not_empty;
    size_t item_size, capacity, head, n;
    bool closed;
    char items[]; /* ring of [capacity] items */
};

struct queue *queue_create(size_t item_size, size_t capacity)
{
    size_t size;
    if (!size_mul(item_size, capacity, &size) || !size_add(size, sizeof(struct queue), &size)) {
        return NULL;
    }
    struct queue *q = calloc(1, size);
    if (!q) {
        return NULL;
    }
    q->item_size = item_size;
    q->capacity = capacity;
    pthread_mutex_init(&q->lock, NULL);
    sys_cond_init(&q->not_empty);
    return q;
}

void queue_free(struct queue *q)
{
    if (q) {
        pthread_mutex_destroy(&q->lock);
        pthread_cond_destroy(&q->not_empty);
        free(q);
    }
}

bool queue_push(struct queue *q, const void *item)
{
    pthread_mutex_lock(&q->lock);
    bool ok = !q->closed && q->n < q->capacity;
    if (ok) {
        size_t at = (q->head + q->n++) % q->capacity;
        memcpy(q->items + at * q->item_size, item, q->item_size);
        pthread_cond_signal(&q->not_empty);
    }
    pthread_mutex_unlock(&q->lock);
    return ok;
}

static bool take(struct queue *q, void *item)
{
    if (q->n == 0) {
        return false;
    }
    memcpy(item, q->items + q->head * q->item_size, q->item_size);
    q->head = (q->head + 1) % q->capacity;
    q->n--;
    return true;
}

bool queue_pop(struct queue *q, void *item)
{
    pthread_mutex_lock(&q->lock);
    bool ok = take(q, item);
    pthread_mutex_unlock(&q->lock);
    return ok;
}

#define QUEUE_MAX_WAIT_MS ((int64_t)1 << 40) /* decades; keeps the sum of times in range */

bool queue_wait(struct queue *q, void *item, int64_t timeout_ms)
{
    int64_t wait_ms = timeout_ms < QUEUE_MAX_WAIT_MS ? timeout_ms : QUEUE_MAX_WAIT_MS;
    int64_t until_ns = timeout_ms > 0 ? clock_ns() + wait_ms * 1000000 : 0;
    pthread_mutex_lock(&q->lock);
    bool late = false;
    while (q->n == 0 && !q->closed && !late) {
        if (timeout_ms < 0) {
            pthread_cond_wait(&q->not_empty, &q->lock);
        } else {
            late = !sys_cond_wait_until(&q->not_empty, &q->lock, until_ns);
        }
    }
    bool ok = take(q, item);
    pthread_mutex_unlock(&q->lock);
    return ok;
}

void queue_close(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    pthread_cond_broadcast(&q->not_empty);
    pthread_mutex_unlock(&q->lock);
}

size_t queue_len(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    size_t n = q->n;
    pthread_mutex_unlock(&q->lock);
    return n;
}

bool queue_closed(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    bool closed = q->closed;
    pthread_mutex_unlock(&q->lock);
    return closed;
}
