/* Message batches, and what came of their rows, as Anthropic writes them. */
#include "api/batch/batch_internal.h"

#include <stdio.h>
#include <time.h>

/* ---- a batch ---- */

static void put_time(struct json_writer *w, const char *key, int64_t seconds)
{
    char text[32];
    time_t t = (time_t)seconds;
    struct tm utc;
    bool is_set = seconds > 0 && gmtime_r(&t, &utc) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    json_member_cstr(w, key, is_set ? text : NULL);
}

/* Rows are counted as what has become of them only when all of them have ended. Those that a batch has lost (its input
 * cannot be read any more) count as errored, so that the sum is that of all. */
static void put_counts(struct json_writer *w, const struct journal_batch *b)
{
    bool ended = batch_state_ended(b->state);
    uint64_t canceled = b->state == BATCH_CANCELLED ? b->n_given_up : 0;
    uint64_t expired = b->state == BATCH_CANCELLED ? 0 : b->n_given_up;
    uint64_t errored = b->n_total - b->n_completed - b->n_given_up;
    json_key(w, "request_counts");
    json_begin_object(w);
    json_member_uint(w, "processing", ended ? 0 : b->n_total);
    json_member_uint(w, "succeeded", ended ? b->n_completed : 0);
    json_member_uint(w, "errored", ended ? errored : 0);
    json_member_uint(w, "canceled", ended ? canceled : 0);
    json_member_uint(w, "expired", ended ? expired : 0);
    json_end_object(w);
}

/* At the address that the client has used. Its form was checked with the request. */
static void put_results_url(struct json_writer *w, const struct journal_batch *b, struct http_exchange *asker)
{
    bool there = batch_state_ended(b->state) && b->n_completed + b->n_failed;
    struct str host = there && asker ? http_header_get(http_request_of(asker), "host") : (struct str){0};
    struct buf url;
    buf_init(&url, KIB(2));
    if (host.len) {
        buf_printf(&url, "%s://" STR_FMT, http_is_secure(asker) ? "https" : "http", STR_ARG(host));
    }
    buf_printf(&url, MESSAGE_BATCHES_ROUTE "/" STR_FMT "/results", STR_ARG(b->id));
    json_member_str_or_null(w, "results_url", there && !url.failed ? buf_view(&url) : (struct str){0});
    buf_release(&url);
}

static void put(struct json_writer *w, const struct journal_batch *b, struct http_exchange *asker)
{
    const char *status = batch_state_ended(b->state)    ? "ended"
                         : b->state == BATCH_CANCELLING ? "canceling"
                                                        : "in_progress";
    json_begin_object(w);
    json_member_str(w, "id", b->id);
    json_member_cstr(w, "type", "message_batch");
    json_member_cstr(w, "processing_status", status);
    put_counts(w, b);
    put_time(w, "ended_at", b->ended_s);
    put_time(w, "created_at", b->created_s);
    put_time(w, "expires_at", b->expires_s);
    put_time(w, "archived_at", 0);
    put_time(w, "cancel_initiated_at", b->cancelling_s);
    put_results_url(w, b, asker);
    json_end_object(w);
}

/* ---- lines of the results ---- */

static void begin_result(struct json_writer *w, const char *type)
{
    json_key(w, "result");
    json_begin_object(w);
    json_member_cstr(w, "type", type);
}

static void put_reply(struct json_writer *w, const char *id, struct str body)
{
    (void)id;
    begin_result(w, "succeeded");
    json_member_raw(w, "message", body);
    json_end_object(w);
}

static void put_failure(struct json_writer *w, const char *id, const struct error *why)
{
    struct buf body;
    buf_init(&body, KIB(16));
    api__write_anthropic_error(&body, why, id);
    begin_result(w, "errored");
    json_member_raw(w, "error", buf_view(&body));
    json_end_object(w);
    buf_release(&body);
}

static void put_given_up(struct json_writer *w, enum batch_state end)
{
    begin_result(w, end == BATCH_CANCELLED ? "canceled" : "expired");
    json_end_object(w);
}

const struct batch_form batch__anthropic = {.prefix = "msgbatch_",
                                            .tells_cancelled = true,
                                            .own_files = true,
                                            .list_max = 1000,
                                            .put = put,
                                            .put_reply = put_reply,
                                            .put_failure = put_failure,
                                            .put_given_up = put_given_up};
