/* Requests that are kept: "background" and "detach" ones, from the journal's first word of them to its last.
 *
 * A kept request owns its generation and the call that it came by; whoever wants its answer follows it (a reader), and
 * may leave. Ten times a second what is new of all of them goes into the journal in one transaction. A reader that came
 * by /v1/requests sees what is saved, so that what it has seen is true after a crash too; the client that sent the
 * request sees its tokens at once.
 *
 *     INSERTING --committed--> RUNNING --ended--> ENDED --saved--> DONE (until its last reader has left)
 *                   |             | refused for now, engine lost
 *     journal --> WAITING <-------+
 *                   +--> LOADING --> RUNNING
 *
 * Everything on the loop's thread, but for the decoding of requests, which a worker does. */
#ifndef TANDEM_API_KEPT_H
#define TANDEM_API_KEPT_H

#include "api/generate.h"
#include "pipeline/choice_output.h"

struct kept;
struct kept_set;

struct kept_set *api__kept_create(struct app *a); /* of an app with a journal; NULL: no memory */
void api__kept_free(struct kept_set *set);        /* when nothing of it is under way; NULL is fine */
void api__kept_resume(struct kept_set *set);      /* what the journal holds and has not ended */
/* Nothing new is started, what nobody reads is put aside as it is now, and goes on when the program is started again;
 * so is the rest when its readers leave or the gateway fails it. */
void api__kept_stop(struct kept_set *set);

/* A decoded and prepared request with "background" or "detach": answers it, sooner or later. */
void api__kept_start(struct call *c);

/* The one with that id and key that this process works on; NULL: there is none. */
struct kept *api__kept_find(struct kept_set *set, struct str id, struct str key_name);
bool api__kept_readable(const struct kept *k); /* it has a generation to follow */
/* c, whose exchange waits, becomes a reader of it. False: *err says why, c is still the caller's. */
NODISCARD bool api__kept_read(struct kept *k, struct call *c, const struct gen_place *after, size_t n_after,
                              struct error *err);
void api__kept_leave(struct kept *k, struct gen_reply *reader);
/* Ends it. done runs when that is saved. */
void api__kept_cancel(struct kept *k, void (*done)(void *arg, bool ok, const struct error *err), void *arg);

struct str api__exchange_key(const struct app *a,
                             const struct http_exchange *x); /* the name of the key that it came with */

/* ---- a request out of the journal (kept_rebuild.c) ---- */

struct rebuilt {
    struct call *call;       /* prepared; NULL when not ok */
    struct gen_saved *saved; /* in the call's arena */
    uint64_t n_saved;        /* tokens */
    bool damaged;            /* fewer than there were */
    bool ok;
    struct error error;
};
/* Decodes and prepares it again, as it was: id, seed, time, limits. Takes over answer->arena. x may be NULL. done runs
 * on the loop, later; the call is then its. MODEL_NOT_FOUND at once (done is not called): its model is not served. */
NODISCARD bool api__rebuild(struct app *a, struct journal_answer *answer, struct http_exchange *x,
                            void (*done)(void *arg, struct rebuilt *r), void *arg, struct error *err);

/* The journal's `details` of a request: what its body does not say. */
void api__put_details(struct buf *out, const struct gen_request *r, const struct generation *g);

#endif
