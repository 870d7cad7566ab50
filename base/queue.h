/* Bounded queue between threads: many producers, one or many consumers, fixed item size, first in first out.
 * Locks live here and in base/pool only. */
#ifndef TANDEM_BASE_QUEUE_H
#define TANDEM_BASE_QUEUE_H

#include "base/error.h"

#include <stddef.h>

struct queue;

struct queue *queue_create(size_t item_size, size_t capacity); /* NULL when memory fails */
void queue_free(struct queue *q); /* items left are dropped: drain first if they own anything */

bool queue_push(struct queue *q, const void *item); /* false when full or closed; never blocks */
bool queue_pop(struct queue *q, void *item);        /* false when empty; never blocks */
bool queue_wait(struct queue *q, void *item,
                int64_t timeout_ms); /* -1 waits for ever; false: time out, or closed and empty */
void queue_close(struct queue *q);   /* pushes fail, waiters wake; items left can be popped */
size_t queue_len(struct queue *q);
bool queue_closed(struct queue *q);

#endif
