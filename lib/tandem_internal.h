/* Shared by the files of the library (include/tandem.h) only.
 *
 *   any thread                               the model's event thread
 *   tandem_generate: prepare --inbox-->      start, pull events, call back
 *   cancel: flag, signal ------------->      look at the flags of what runs
 *   wait, free <--- `done` is closed --      END was taken
 *
 * No lock of its own: what crosses threads are queues, atomic flags and the loop's signal. */
#ifndef TANDEM_LIB_TANDEM_INTERNAL_H
#define TANDEM_LIB_TANDEM_INTERNAL_H

#include "base/loop.h"
#include "base/queue.h"
#include "include/tandem.h"
#include "lib/local_adapters.h"
#include "pipeline/generation.h"

#include <pthread.h>
#include <stdatomic.h>

#define MODEL_INBOX   4096 /* generations that the event thread has not yet begun with */
#define ADAPTER_INBOX 64   /* adapters likewise: one for each thread that waits for one */

struct tandem_model {
    struct tandem_model_options options; /* its texts live as long as tandem_model_load runs */
    const char *path;                    /* likewise */
    void *locale;                        /* of what is done inside; see base/sys_locale.h */
    void *locale_outside;                /* of callbacks: the thread's own */
    struct queue *loaded;                /* of struct load_result: one */
    struct queue *inbox;                 /* of struct tandem_generation *, each with the loop's count */
    struct queue *adapter_inbox;         /* of struct adapter_load *, whose callers wait */
    pthread_t thread;
    atomic_int n_owners; /* its handle, and those of its generations: this struct, the queues, the loop, the signal */
    struct loop *loop;   /* the loop, the signal and the rest are made by the thread, which frees what is below */
    struct loop_signal *signal;
    atomic_bool closing;
    struct model_file *file;
    struct tokenizer *tokenizer;
    struct chat_template *chat;
    struct output_formats formats;
    struct local_port *port;
    struct local_adapters *adapters;
    struct pipeline *pipeline;
    struct tandem_generation *first; /* that run; the thread's */
};

struct tandem_generation {
    struct tandem_model *model; /* owned, with others; what the thread frees of it only while this runs */
    struct gen_request request; /* its arena is the generation's once it runs */
    tandem_event_fn *on_event;
    void *arg;
    atomic_int n_owners;  /* the handle and the event thread */
    atomic_bool stopped;  /* it is to be cancelled */
    atomic_bool released; /* nobody wants its events */
    atomic_bool calling;  /* a callback runs, unless it sees that it is released */
    struct queue *done;   /* closed behind END; nothing is ever in it */
    /* the event thread's: */
    struct generation *running; /* NULL: not begun, or ended */
    bool pulling, cancelled;
    struct buf text; /* of the event at hand, NUL-terminated */
    struct tandem_generation *prev, *next;
};

bool model__is_own_thread(const struct tandem_model *m);
void model__release(struct tandem_model *m); /* one owner fewer */

/* The event thread: takes g over. */
void generation__begin_here(struct tandem_generation *g);
void generation__cancel_here(struct tandem_generation *g);

/* A request as the pipeline takes it, in its own arena; r->arena is the caller's also when it fails. NULL arena: there
 * is none. Its adapter is held, also when it fails: adapter__release. */
NODISCARD bool request__read(const struct tandem_model *m, const struct tandem_request *from, struct gen_request *r,
                             struct error *err);

/* ---- adapters (tandem_adapter.c) ---- */

/* NULL is fine, and is none. NOT_FOUND. */
NODISCARD bool adapter__hold(const struct tandem_model *m, const char *name, struct gen_request *r, struct error *err);
void adapter__release(const struct tandem_model *m, struct gen_request *r); /* once; later ones do nothing */
void adapter__take_orders(struct tandem_model *m);                          /* the event thread: what is in the inbox */
void adapter__refuse_orders(struct tandem_model *m);                        /* likewise, when the model goes */

/* ---- structs that grow (tandem_options.c) ---- */

/* *to has the defaults; what the caller's struct of *from bytes says comes over them. INVALID: it says something that
 * this library does not know. */
NODISCARD bool options__take(void *to, size_t known, const void *from, size_t size, const char *name,
                             struct error *err);
/* As many bytes as the caller's struct has, 0 where this library knows of nothing; its first member stays. */
void options__give(void *to, size_t size, const void *from, size_t known);

enum tandem_code error__code(enum error_code code);
void error__give(struct tandem_error *to, const struct error *from); /* to: NULL is fine */

#endif
