/* Warm prompts: texts whose K and V are computed before anybody asks, so that requests that begin with them find them
 * in the prefix cache. Of a conversation that is what every request with these messages begins with, whatever the user
 * says next; of both, whole pages. They are prefilled one by one, as jobs of the lowest priority through the model's
 * pipeline, whenever an engine becomes ready.
 *
 * They are kept: while the engine evicts pages, all of them are asked for again, at most every WARM_AGAIN_MS. That
 * makes them the last used, and computes again what went all the same. Together they may hold half of the KV pool; what
 * does not fit is named in the log and left out. Everything on the loop's thread. */
#ifndef TANDEM_GATEWAY_WARM_H
#define TANDEM_GATEWAY_WARM_H

#include "base/loop.h"
#include "pipeline/generation.h"

#define WARM_AGAIN_MS 10000

struct warm_prompt {
    int line; /* of the file, for messages */
    /* A conversation: an array of messages that were checked; array and object or NULL. */
    const struct json *messages, *tools, *kwargs;
    struct str text; /* messages NULL: a prompt as it is */
};

struct warm_list {
    struct arena *arena;       /* owns everything here */
    struct warm_prompt *items; /* [n] */
    size_t n;
};
void warm_list_release(struct warm_list *list); /* fine when zeroed */

struct warmer;

struct warmer_options {
    struct loop *loop;
    struct pipeline *pipeline; /* outlive it */
    const struct warm_list *list;
    const char *model; /* its name, for the log */
};

/* Renders and tokenizes every prompt once. INVALID, UNSUPPORTED, CONTEXT_EXCEEDED: one of them can never run; the line
 * is named. */
NODISCARD struct warmer *warmer_create(const struct warmer_options *options, struct error *err);
/* Ends what runs. on_closed(arg) from the loop, once no worker reads anything of it any more; then free it. */
void warmer_close(struct warmer *w, void (*on_closed)(void *arg), void *arg);
void warmer_free(struct warmer *w); /* NULL is fine */

/* An engine is ready: everything is to be prefilled. pool_tokens: what its KV pool holds. */
void warmer_begin(struct warmer *w, uint64_t pool_tokens);
void warmer_end(struct warmer *w);                                          /* there is no engine, or no more work */
void warmer_note_stats(struct warmer *w, const struct engine_stats *stats); /* tells when pages are evicted */

struct warmer_status {
    size_t n, n_done, n_left_out; /* prompts; of them prefilled in this round, or the last; and not possible */
    uint64_t n_tokens;            /* kept for requests, in all */
    uint64_t n_computed;          /* tokens prefilled for it since the start */
    uint64_t n_rounds;            /* that have ended */
    bool running;
};
struct warmer_status warmer_status(const struct warmer *w);

#endif
