/* Somebody who asks for a kept request and waits for the journal: shared by the routes that do so (request_routes.c,
 * responses_routes.c, batch/). It holds the app until it is freed. The loop's thread. */
#ifndef TANDEM_API_ASKING_H
#define TANDEM_API_ASKING_H

#include "api/kept/kept.h"
#include "gateway/journal_files.h"

struct asking {
    struct app *app;
    struct http_exchange *x; /* NULL once it has left */
    char id[64], key_name[64];
    struct gen_place *after; /* [n_after] stream; owned */
    size_t n_after;
    uint64_t first_event; /* of a numbered stream */
    uint32_t limit;
    bool newest_first;
    char last[64]; /* a list: what the page before ended with */
    struct journal_batch_query batches;
};

/* NULL: it is answered with an error already. */
struct asking *asking__create(struct app *a, struct http_exchange *x, struct str id);
void asking__free(struct asking *q);
void asking__fail(struct asking *q, const struct error *err); /* answers and frees it */
/* Answers with the events behind its place, live or read again, and frees it (request_routes.c). */
void asking__stream(struct asking *q);

/* ---- answers: each frees it ---- */

void asking__reply(struct asking *q, struct buf *body);           /* JSON; released */
void asking__reply_deleted(struct asking *q, const char *object); /* what it asked for is gone */
/* A page of a list: the items are written between the two calls. first, last: their ids, empty where there is none. */
struct json_writer asking__begin_list(struct buf *out);
void asking__reply_list(struct asking *q, struct json_writer *w, struct str first, struct str last, bool more);

void asking__put_time(struct json_writer *w, const char *key, int64_t seconds); /* null: not yet, or never */

/* ---- query parameters ---- */

bool asking__query_str(const struct http_request *head, const char *name, struct buf *out); /* out is to be released */
NODISCARD bool asking__query_bool(const struct http_request *head, const char *name, bool *out, struct error *err);
NODISCARD bool asking__query_limit(const struct http_request *head, uint32_t fallback, uint32_t most, uint32_t *out,
                                   struct error *err);
NODISCARD bool asking__query_order(const struct http_request *head, bool *ascends,
                                   struct error *err); /* default: not */
/* No others than these; a name may have "[]" behind it. */
NODISCARD bool asking__check_query(const struct http_request *head, const char *const *known, size_t n_known,
                                   struct error *err);

#endif
