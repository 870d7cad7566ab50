#include "lib/local_adapters.h"

#include "base/queue.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LISTED ((uint64_t)1 << 63) /* requests find it; the other bits count those who have it */

struct entry {
    _Atomic uint64_t word;
    bool taken; /* the loop's thread: the entry is a user of the set's adapter */
    /* Written while the word is 0. */
    char name[ADAPTER_NAME_MAX + 1];
    struct adapter_facts facts;
};

struct local_adapters {
    struct local_port *port;
    struct loop_signal *signal;
    struct queue *done;                      /* of struct adapter_done: one order at a time */
    struct entry entries[WIRE_MAX_ADAPTERS]; /* [.] by number - 1 */
    /* The loop's thread. */
    struct adapter_set set;
    struct adapter_load *first, **last; /* that wait for their turn */
    struct adapter_load *loading;       /* whose order is, or comes next */
};

static const struct adapter_words words = {
    .name = "name", .path = "path", .max_adapters = "Tandem", .max_size = "Tandem"};

/* ---- the table, any thread ---- */

/* Counted, if requests find it. */
static bool enter(struct entry *e)
{
    uint64_t word = atomic_load(&e->word);
    while (word & LISTED) {
        if (atomic_compare_exchange_weak(&e->word, &word, word + 1)) {
            return true;
        }
    }
    return false;
}

static void leave(struct local_adapters *a, struct entry *e)
{
    if (atomic_fetch_sub(&e->word, 1) == 1) { /* unlisted, and the last */
        loop_signal_send(a->signal);
    }
}

uint32_t local_adapters_hold(struct local_adapters *a, struct str name, struct sha256 *digest)
{
    for (uint32_t i = 0; i < WIRE_MAX_ADAPTERS; i++) {
        struct entry *e = &a->entries[i];
        if (!enter(e)) {
            continue;
        }
        if (str_eq(str_of(e->name), name)) {
            *digest = e->facts.digest;
            return i + 1;
        }
        leave(a, e);
    }
    return 0;
}

void local_adapters_release(struct local_adapters *a, uint32_t number)
{
    if (number) {
        leave(a, &a->entries[number - 1]);
    }
}

bool local_adapters_unload(struct local_adapters *a, struct str name)
{
    struct sha256 ignored;
    uint32_t number = local_adapters_hold(a, name, &ignored);
    if (!number) {
        return false;
    }
    bool was_listed = atomic_fetch_and(&a->entries[number - 1].word, ~LISTED) & LISTED; /* else another was quicker */
    local_adapters_release(a, number);
    return was_listed;
}

bool local_adapters_get(struct local_adapters *a, uint32_t index, struct local_adapter *out)
{
    for (uint32_t i = 0; i < WIRE_MAX_ADAPTERS; i++) {
        struct entry *e = &a->entries[i];
        if (!enter(e)) {
            continue;
        }
        bool wanted = index-- == 0;
        if (wanted) {
            *out =
                (struct local_adapter){.facts = e->facts, .n_users = (uint32_t)(atomic_load(&e->word) & ~LISTED) - 1};
            memcpy(out->name, e->name, sizeof out->name);
        }
        leave(a, e);
        if (wanted) {
            return true;
        }
    }
    return false;
}

/* ---- the loop's thread ---- */

static void publish(struct local_adapters *a, struct served_adapter *s)
{
    struct entry *e = &a->entries[s->number - 1];
    adapter_set_hold(s);
    e->taken = true;
    e->facts = s->facts;
    memcpy(e->name, s->name, sizeof e->name);
    atomic_store(&e->word, LISTED);
}

/* What was unloaded is so in the set too, and goes from the table with its last user. */
static void look_at_table(struct local_adapters *a)
{
    for (uint32_t i = 0; i < WIRE_MAX_ADAPTERS; i++) {
        struct entry *e = &a->entries[i];
        uint64_t word = e->taken ? atomic_load(&e->word) : LISTED;
        if (word & LISTED) {
            continue;
        }
        if (a->set.items[i]->listed) {
            adapter_set_unlist(&a->set, a->set.items[i]);
        }
        if (word == 0) {
            e->taken = false;
            adapter_set_release_one(&a->set, a->set.items[i]);
        }
    }
}

/* The engine has done what it was told, or could not be told. */
static void take_done(struct local_adapters *a, const struct adapter_done *done)
{
    struct served_adapter *s = a->set.items[done->number - 1];
    struct adapter_load *load = a->loading;
    bool loads = a->set.loading;
    struct error ignored = {0};
    if (!adapter_set_done(&a->set, done, &ignored) || !loads) { /* it is the order that is under way */
        return;
    }
    a->loading = NULL;
    if (done->error.code) {
        adapter_set_unlist(&a->set, s);
    } else {
        publish(a, s);
    }
    load->fn(load->arg, &done->error);
}

/* Threads of the engine. */
static void on_done(void *arg, uint32_t number, const struct error *err)
{
    struct local_adapters *a = arg;
    (void)!queue_push(a->done, &(struct adapter_done){.number = number, .error = *err});
    loop_signal_send(a->signal);
}

static void give_order(struct local_adapters *a, const struct adapter_order *order)
{
    struct adapter_done failed = {.number = order->number};
    if (!local_port_adapt(a->port, order, on_done, a, &failed.error)) {
        take_done(a, &failed);
    }
}

/* The next of those that wait is one of the set. False: none waits. */
static bool add_next(struct local_adapters *a)
{
    struct adapter_load *load = a->first;
    struct error err = {0};
    if (!load) {
        return false;
    }
    a->first = load->next;
    a->last = a->first ? a->last : &a->first;
    if (adapter_set_add(&a->set, str_of(load->name), load->path, &load->facts, &err)) {
        a->loading = load;
    } else {
        load->fn(load->arg, &err);
    }
    return true;
}

/* What goes, goes first: the next one may want its number or its name. */
static void advance(struct local_adapters *a)
{
    struct adapter_order order;
    while (!a->set.under_way) {
        look_at_table(a);
        if (adapter_set_next(&a->set, &order)) {
            give_order(a, &order);
        } else if (!add_next(a)) {
            break;
        }
    }
}

static void on_signal(void *arg)
{
    struct local_adapters *a = arg;
    struct adapter_done done;
    if (queue_pop(a->done, &done)) {
        take_done(a, &done);
    }
    advance(a);
}

void local_adapters_load(struct local_adapters *a, struct adapter_load *load)
{
    load->next = NULL;
    *a->last = load;
    a->last = &load->next;
    advance(a);
}

/* ---- life ---- */

struct local_adapters *local_adapters_create(struct loop *loop, struct local_port *port, struct error *err)
{
    struct local_adapters *a = calloc(1, sizeof *a);
    if (!a) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for the adapters of a model.");
        return NULL;
    }
    a->port = port;
    a->last = &a->first;
    a->set = (struct adapter_set){.words = &words, .max_adapters = WIRE_MAX_ADAPTERS, .max_size = UINT64_MAX};
    a->done = queue_create(sizeof(struct adapter_done), 1);
    a->signal = loop_signal_create(loop, on_signal, a);
    if (!a->done || !a->signal) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for the adapters of a model.");
        local_adapters_free(a);
        return NULL;
    }
    return a;
}

static void cancel(struct adapter_load *load)
{
    struct error err = {0};
    error_set(&err, ERR_CANCELLED, "The model is being freed.");
    load->fn(load->arg, &err);
}

void local_adapters_free(struct local_adapters *a)
{
    if (!a) {
        return;
    }
    if (a->loading) {
        cancel(a->loading);
    }
    for (struct adapter_load *load = a->first, *next; load; load = next) {
        next = load->next;
        cancel(load);
    }
    adapter_set_release(&a->set);
    queue_free(a->done);
    if (a->signal) {
        loop_signal_free(a->signal);
    }
    free(a);
}
