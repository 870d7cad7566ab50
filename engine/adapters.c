#include "engine/adapters.h"

#include "base/sys_proc.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static_assert(WIRE_MAX_ADAPTERS <= BACKEND_MAX_ADAPTERS, "a number that jobs name is one that backends know");

struct adapter_change {
    struct adapters *adapters;
    struct loaded_adapter adapter;
    struct adapter_file *file; /* owned; NULL: it is dropped, or loaded by now */
    adapters_done *done;
    void *arg;
};

void adapters_init(struct adapters *a, struct executor *x, bool (*push)(void *arg, struct adapter_change *change),
                   void *arg)
{
    *a = (struct adapters){.executor = x, .push = push, .arg = arg};
}

static void join_reader(struct adapters *a)
{
    if (a->reading) {
        pthread_join(a->reader, NULL);
        a->reading = false;
    }
}

void adapters_drop_change(struct adapter_change *change)
{
    if (change) {
        adapter_file_close(change->file);
        free(change);
    }
}

void adapters_release(struct adapters *a)
{
    join_reader(a);
    for (size_t i = 0; i <= WIRE_MAX_ADAPTERS; i++) {
        adapters_drop_change(a->loaded[i]);
        a->loaded[i] = NULL;
    }
}

/* ---- reading ---- */

/* The gateway has looked at it before; what lies there now may be something else. */
static bool open_file(struct adapter_change *c, struct error *err)
{
    c->file = adapter_file_open(c->adapter.order.path, err);
    if (!c->file) {
        return false;
    }
    const struct adapter_facts *facts = adapter_file_facts(c->file);
    c->adapter.memory_size = facts->memory_size;
    return sha256_equal(&facts->digest, &c->adapter.order.digest) ||
           error_set(err, ERR_FORMAT, "its file is not what it was when the adapter was added: load it again.");
}

static void *read_file(void *arg)
{
    struct adapter_change *c = arg;
    struct error err = {0};
    sys_name_thread("adapter");
    if (!open_file(c, &err)) {
        c->done(c->arg, c->adapter.order.number, &err);
        adapters_drop_change(c);
    } else if (!c->adapters->push(c->adapters->arg, c)) {
        adapters_drop_change(c);
    }
    return NULL;
}

bool adapters_order(struct adapters *a, const struct adapter_order *order, adapters_done *done, void *arg,
                    struct error *err)
{
    if (!a->executor->ops->load_adapter) {
        return error_set(err, ERR_UNSUPPORTED, "an engine that runs a script has no weights to adapt.");
    }
    join_reader(a); /* it has ended, or is about to */
    struct adapter_change *c = calloc(1, sizeof *c);
    if (!c) {
        return error_set(err, ERR_NO_MEMORY, "no memory for an adapter.");
    }
    *c = (struct adapter_change){.adapters = a, .adapter.order = *order, .done = done, .arg = arg};
    if (!order->path[0]) {
        if (!a->push(a->arg, c)) {
            adapters_drop_change(c);
        }
        return true;
    }
    int rc = pthread_create(&a->reader, NULL, read_file, c);
    a->reading = rc == 0;
    if (rc != 0) {
        adapters_drop_change(c);
        return error_set(err, ERR_NO_MEMORY, "the thread that reads adapters could not be started: %s.", strerror(rc));
    }
    return true;
}

/* ---- the engine's thread ---- */

uint32_t adapters_leaving(const struct adapter_change *change)
{
    uint32_t number = change->adapter.order.number;
    return change->adapters->loaded[number] ? number : 0;
}

void adapters_apply(struct adapters *a, struct adapter_change *change)
{
    uint32_t number = change->adapter.order.number;
    struct error err = {0};
    if (a->loaded[number]) {
        a->executor->ops->drop_adapter(a->executor, (int)number);
        adapters_drop_change(a->loaded[number]);
        a->loaded[number] = NULL;
    }
    bool loaded = change->file && a->executor->ops->load_adapter(a->executor, change->file, (int)number, &err);
    adapter_file_close(change->file);
    change->file = NULL;
    a->loaded[number] = loaded ? change : NULL;
    change->done(change->arg, number, &err);
    adapters_drop_change(loaded ? NULL : change);
}

const struct loaded_adapter *adapters_find(const struct adapters *a, uint32_t number)
{
    return a->loaded[number] ? &a->loaded[number]->adapter : NULL;
}

bool adapters_check(const struct adapters *a, const struct job *job, struct error *err)
{
    const struct loaded_adapter *loaded = adapters_find(a, job->adapter);
    return job->adapter == 0 || (loaded && sha256_equal(&loaded->order.digest, &job->adapter_digest)) ||
           error_set_param(err, ERR_MODEL_NOT_FOUND, "model", "The adapter of this request is not loaded any more.");
}
