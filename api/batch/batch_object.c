/* Batches, what came of their rows, and files as OpenAI's objects. */
#include "api/batch/batch_internal.h"

#include "base/array.h"
#include "base/rng.h"

#include <stdio.h>

const struct batch_form *batch__form_of(struct str id)
{
    static const struct batch_form *const forms[] = {&batch__openai, &batch__anthropic};
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        if (str_starts(id, str_of(forms[i]->prefix))) {
            return forms[i];
        }
    }
    return &batch__openai;
}

void batch__make_id(const char *prefix, char *out, size_t size)
{
    uint64_t random[2];
    rng_entropy(random, sizeof random);
    snprintf(out, size, "%s%016llx%08x", prefix, (unsigned long long)random[0], (unsigned)random[1]);
}

static void put_errors(struct json_writer *w, const struct journal_batch *b)
{
    json_key(w, "errors");
    if (b->errors.len == 0) {
        json_put_null(w);
        return;
    }
    json_begin_object(w);
    json_member_cstr(w, "object", "list");
    json_member_raw(w, "data", b->errors);
    json_end_object(w);
}

static void put_usage(struct json_writer *w, const struct journal_batch *b)
{
    json_key(w, "usage");
    json_begin_object(w);
    json_member_uint(w, "input_tokens", b->input_tokens);
    json_key(w, "input_tokens_details");
    json_begin_object(w);
    json_member_uint(w, "cached_tokens", b->cached_tokens);
    json_end_object(w);
    json_member_uint(w, "output_tokens", b->output_tokens);
    json_key(w, "output_tokens_details");
    json_begin_object(w);
    json_member_uint(w, "reasoning_tokens", b->reasoning_tokens);
    json_end_object(w);
    json_member_uint(w, "total_tokens", b->input_tokens + b->output_tokens);
    json_end_object(w);
}

static void put_times(struct json_writer *w, const struct journal_batch *b)
{
    static const struct {
        const char *key;
        enum batch_state state;
    } ends[] = {{"completed_at", BATCH_COMPLETED},
                {"failed_at", BATCH_FAILED},
                {"expired_at", BATCH_EXPIRED},
                {"cancelled_at", BATCH_CANCELLED}};
    asking__put_time(w, "created_at", b->created_s);
    asking__put_time(w, "in_progress_at", b->in_progress_s);
    asking__put_time(w, "expires_at", b->expires_s);
    asking__put_time(w, "finalizing_at", b->finalizing_s);
    asking__put_time(w, "cancelling_at", b->cancelling_s);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        asking__put_time(w, ends[i].key, b->state == ends[i].state ? b->ended_s : 0);
    }
}

static void put(struct json_writer *w, const struct journal_batch *b, struct http_exchange *asker)
{
    (void)asker;
    bool ended = batch_state_ended(b->state);
    json_begin_object(w);
    json_member_str(w, "id", b->id);
    json_member_cstr(w, "object", "batch");
    json_member_str(w, "endpoint", b->endpoint);
    json_member_str_or_null(w, "model", b->model);
    put_errors(w, b);
    json_member_str(w, "input_file_id", b->input);
    json_member_str(w, "completion_window", b->window);
    json_member_cstr(w, "status", batch_state_name(b->state));
    json_member_str_or_null(w, "output_file_id", ended && b->n_completed ? b->output : (struct str){0});
    json_member_str_or_null(w, "error_file_id", ended && b->n_failed ? b->failed : (struct str){0});
    put_times(w, b);
    json_key(w, "request_counts");
    json_begin_object(w);
    json_member_uint(w, "total", b->n_total);
    json_member_uint(w, "completed", b->n_completed);
    json_member_uint(w, "failed", b->n_failed);
    json_end_object(w);
    put_usage(w, b);
    json_key(w, "metadata");
    if (b->metadata.len) {
        json_put_raw(w, b->metadata);
    } else {
        json_put_null(w);
    }
    json_end_object(w);
}

/* ---- lines ---- */

static void put_response(struct json_writer *w, const char *id, int status, struct str body)
{
    json_key(w, "response");
    json_begin_object(w);
    json_member_int(w, "status_code", status);
    json_member_cstr(w, "request_id", id);
    json_member_raw(w, "body", body);
    json_end_object(w);
    json_member_null(w, "error");
}

static void put_reply(struct json_writer *w, const char *id, struct str body)
{
    put_response(w, id, 200, body);
}

static void put_failure(struct json_writer *w, const char *id, const struct error *why)
{
    struct buf body;
    buf_init(&body, KIB(16));
    api__write_error(&body, why);
    put_response(w, id, error_info(why->code)->http_status, buf_view(&body));
    buf_release(&body);
}

/* Only time ends a batch of this form without some of its rows. */
static void put_given_up(struct json_writer *w, enum batch_state end)
{
    (void)end;
    json_member_null(w, "response");
    json_key(w, "error");
    json_begin_object(w);
    json_member_cstr(w, "code", "batch_expired");
    json_member_cstr(w, "message", "This request could not be executed before the completion window expired.");
    json_end_object(w);
}

const struct batch_form batch__openai = {.prefix = "batch_",
                                         .row_prefix = "batch_req_",
                                         .list_max = 100,
                                         .put = put,
                                         .put_reply = put_reply,
                                         .put_failure = put_failure,
                                         .put_given_up = put_given_up};

/* ---- files ---- */

void batch__put_file(struct json_writer *w, const struct journal_file *f)
{
    json_begin_object(w);
    json_member_str(w, "id", f->id);
    json_member_cstr(w, "object", "file");
    json_member_uint(w, "bytes", f->size);
    asking__put_time(w, "created_at", f->created_s);
    asking__put_time(w, "expires_at", f->expires_s);
    json_member_str(w, "filename", f->name);
    json_member_str(w, "purpose", f->purpose);
    json_member_cstr(w, "status", "processed");
    json_member_null(w, "status_details");
    json_end_object(w);
}

void api__put_batches(struct json_writer *w, const struct app *a)
{
    json_key(w, "batches");
    if (!a->batches) {
        json_put_null(w);
        return;
    }
    struct batch_now now = api__batch_now(a->batches);
    struct journal_stats stats = journal_stats(a->options.journal);
    json_begin_object(w);
    for (int i = 0; i < BATCH_STATE_COUNT; i++) {
        json_member_uint(w, batch_state_name(i), stats.batches[i]);
    }
    json_member_uint(w, "rows_running", now.running);
    json_member_uint(w, "rows_completed", now.completed);
    json_member_uint(w, "rows_failed", now.failed);
    json_member_cstr(w, "rows_wait_because", now.waits_for);
    json_member_uint(w, "files", stats.files);
    json_member_uint(w, "file_bytes", stats.file_size);
    json_end_object(w);
}
