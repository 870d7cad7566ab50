/* Files and batches, in OpenAI's shapes, and message batches in Anthropic's: the routes, and the runner, which works
 * through the rows of batches behind everybody else's requests (docs/BATCHES.md). All of it lies in the journal's
 * database (gateway/journal_files.h).
 *
 *     VALIDATING --all lines are sound--> ROWS --all of them have an answer, time over, or cancelled--> ENDED
 *         |-- a line is not ------------------------------------------------------------------------------^
 *
 * A row goes the way of a request with the same body: the route's decoder, the pipeline, the route's encoder. It has no
 * exchange. What has become of a row is saved with its number; after a restart the rows that are not there are run. */
#ifndef TANDEM_API_BATCH_H
#define TANDEM_API_BATCH_H

#include "api/api_internal.h"
#include "gateway/journal_files.h"

struct batch_set;

struct batch_set *api__batch_create_set(struct app *a); /* of an app with a journal; NULL: no memory */
void api__batch_free_set(struct batch_set *set);        /* when nothing of it is under way; NULL is fine */
void api__batch_resume(struct batch_set *set);          /* batches of the journal that have not ended */
void api__batch_stop(struct batch_set *set); /* rows that run are given up; they run again at the next start */

struct batch_now {                        /* for metrics and status */
    uint64_t running;                     /* rows under way */
    uint64_t completed, failed, given_up; /* rows, since the start; given_up: they were begun again, or will be */
    const char *waits_for;                /* why no row is begun; NULL: nothing is in the way */
};
struct batch_now api__batch_now(const struct batch_set *set);      /* of NULL: zeros */
void api__put_batches(struct json_writer *w, const struct app *a); /* the member "batches" of /v1/status */

/* ---- routes ---- */

#define FILES_ROUTE "/v1/files"

extern const struct field api__batch_fields[];
bool api__decode_batch(struct call *c, struct error *err); /* its fetch does the rest */
void api__batch_list(struct app *a, struct http_exchange *x, struct str rest);
/* Of either form, by the route. */
void api__batch_get(struct app *a, struct http_exchange *x, struct str rest);
void api__batch_cancel(struct app *a, struct http_exchange *x, struct str rest);

#define MESSAGE_BATCHES_ROUTE "/v1/messages/batches"

extern const struct field api__message_batch_fields[];
bool api__decode_message_batch(struct call *c, struct error *err); /* its fetch does the rest */
void api__message_batch_list(struct app *a, struct http_exchange *x, struct str rest);
void api__message_batch_delete(struct app *a, struct http_exchange *x, struct str rest);
void api__message_batch_results(struct app *a, struct http_exchange *x, struct str rest);

/* head_check of the upload: its body goes to the journal as it comes. */
bool api__file_begin(struct app *a, struct http_exchange *x, struct error *err);
void api__file_create(struct app *a, struct http_exchange *x, struct str rest);
void api__file_list(struct app *a, struct http_exchange *x, struct str rest);
void api__file_get(struct app *a, struct http_exchange *x, struct str rest);
void api__file_content(struct app *a, struct http_exchange *x, struct str rest);
void api__file_delete(struct app *a, struct http_exchange *x, struct str rest);

#endif
