/* Somebody who asks for a kept request and waits for the journal: shared by the routes that do so (request_routes.c,
 * responses_routes.c). It holds the app until it is freed. The loop's thread. */
#ifndef TANDEM_API_ASKING_H
#define TANDEM_API_ASKING_H

#include "api/kept/kept.h"
#include "gateway/journal.h"

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
};

/* NULL: it is answered with an error already. */
struct asking *asking__create(struct app *a, struct http_exchange *x, struct str id);
void asking__free(struct asking *q);
void asking__fail(struct asking *q, const struct error *err); /* answers and frees it */
/* Answers with the events behind its place, live or read again, and frees it. */
void asking__stream(struct asking *q);

/* ---- query parameters ---- */

bool asking__query_str(const struct http_request *head, const char *name, struct buf *out); /* out is to be released */
NODISCARD bool asking__query_bool(const struct http_request *head, const char *name, bool *out, struct error *err);
/* No others than these; a name may have "[]" behind it. */
NODISCARD bool asking__check_query(const struct http_request *head, const char *const *known, size_t n_known,
                                   struct error *err);

#endif
