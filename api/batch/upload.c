/* POST /v1/files: the body goes into the journal piece by piece as it comes; while the journal is behind, nothing more
 * of it is read. The file is complete, and there for others, when all of it and its fields have come. */
#include "api/batch/batch_internal.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/log.h"
#include "http/multipart.h"

#include <stdio.h>
#include <stdlib.h>

#define PIECE_SIZE     KIB(256)
#define WRITING_MOST   4 /* pieces on their way to the journal before the client is paused ... */
#define WRITING_RESUME 1 /* ... until so many are left */
#define FIELD_MAX      KIB(1)
#define FORM_OVERHEAD  KIB(64) /* bytes of the body besides the file */

enum { FIELD_FILE = -1, FIELD_IGNORED = -2 };

static const char *const field_names[] = {"purpose", "expires_after[anchor]", "expires_after[seconds]"};
#define N_FIELDS ((int)ARRAY_LEN(field_names))

struct upload {
    struct app *app;
    struct http_exchange *x; /* NULL: the client is gone */
    struct multipart form;
    int field; /* of the part at hand: an index, or one of the above */
    struct buf values[N_FIELDS];
    struct buf piece, name, ignored;
    char id[48], key_name[64];
    struct journal_file file;
    uint64_t n_pieces, size;
    size_t n_writing;
    struct loop_timer *timer; /* until what is left of it is tried to be removed again */
    bool created, has_file, complete /* the body */, finishing;
    struct error error;
};

struct write { /* one piece on its way */
    struct upload *upload;
    char *data;
};

static void advance(struct upload *u);

/* ---- life ---- */

static void free_upload(struct upload *u)
{
    struct app *a = u->app;
    multipart_release(&u->form);
    for (int i = 0; i < N_FIELDS; i++) {
        buf_release(&u->values[i]);
    }
    buf_release(&u->piece);
    buf_release(&u->name);
    buf_release(&u->ignored);
    free(u);
    a->batches->n_uploads--;
    api__release(a);
}

static void discard(struct upload *u);

static void on_discard_again(void *arg)
{
    struct upload *u = arg;
    loop_timer_free(u->timer);
    discard(u);
}

/* What it has left takes room among all files until it is gone; what a shutdown leaves goes at the next start. */
static void discard_later(struct upload *u)
{
    struct app *a = u->app;
    u->timer = gateway_accepting(a->gateway) ? loop_timer_create(a->loop, on_discard_again, u) : NULL;
    if (u->timer) {
        loop_timer_start(u->timer, BATCH_RETRY_MS, 0);
    } else {
        free_upload(u);
    }
}

static void on_discarded(void *arg, struct journal_answer *answer)
{
    struct upload *u = arg;
    if (answer->ok || answer->error.code == ERR_NOT_FOUND) {
        free_upload(u);
    } else {
        discard_later(u);
    }
}

static void discard(struct upload *u)
{
    struct error ignored = {0};
    if (!u->created) {
        free_upload(u);
    } else if (!journal_file_remove(u->app->options.journal, str_of(u->id), (struct str){0},
                                    (struct journal_done){on_discarded, u}, &ignored)) {
        discard_later(u);
    }
}

/* ---- into the journal ---- */

static void note(struct upload *u, bool ok, const struct error *err)
{
    if (!ok && u->error.code == ERR_NONE) {
        u->error = *err;
    }
}

static void on_written(void *arg, struct journal_answer *answer)
{
    struct write *w = arg;
    struct upload *u = w->upload;
    u->created = u->created && (w->data || answer->ok);
    free(w->data);
    free(w);
    note(u, answer->ok, &answer->error);
    u->n_writing--;
    if (u->x && !u->complete && u->n_writing <= WRITING_RESUME) {
        http_body_resume(u->x);
    }
    advance(u);
}

/* data is handed over; NULL: the file itself. */
static bool submit(struct upload *u, char *data, size_t size, struct error *err)
{
    struct journal *j = u->app->options.journal;
    struct write *w = malloc(sizeof *w);
    if (!w) {
        free(data);
        return error_set(err, ERR_NO_MEMORY, "no memory for a file.");
    }
    *w = (struct write){u, data};
    struct journal_done done = {on_written, w};
    struct journal_piece piece = {u->n_pieces, {data, size}};
    uint64_t most = u->app->options.max_files;
    bool ok = data ? journal_file_add(j, str_of(u->id), piece, most, done, err)
                   : journal_file_create(j, &u->file, most, done, err);
    if (!ok) {
        free(data);
        free(w);
        return false;
    }
    u->n_pieces += data != NULL;
    u->n_writing++;
    return true;
}

static bool flush(struct upload *u, struct error *err)
{
    size_t size;
    if (!u->created) {
        if (!submit(u, NULL, 0, err)) {
            return false;
        }
        u->created = true;
    }
    if (u->piece.len == 0) {
        return true;
    }
    char *data = buf_take(&u->piece, &size);
    buf_init(&u->piece, PIECE_SIZE);
    if (!submit(u, data, size, err)) {
        return false;
    }
    if (u->n_writing >= WRITING_MOST && !u->complete) {
        http_body_pause(u->x);
    }
    return true;
}

static bool take_data(struct upload *u, struct str data, struct error *err)
{
    uint64_t most = u->app->options.max_file;
    u->size += data.len;
    if (u->size > most) {
        return error_set_param(err, ERR_TOO_LARGE, "file", "'file' must have at most %llu bytes (--file-max-mb).",
                               (unsigned long long)most);
    }
    while (data.len) {
        struct str part = str_slice(data, 0, PIECE_SIZE - u->piece.len);
        buf_append(&u->piece, part);
        data = str_slice(data, part.len, data.len);
        if (u->piece.failed) {
            return error_set(err, ERR_NO_MEMORY, "no memory for a file.");
        }
        if (u->piece.len == PIECE_SIZE && !flush(u, err)) {
            return false;
        }
    }
    return true;
}

/* ---- the form ---- */

static bool begin_part(struct upload *u, struct error *err)
{
    struct str name = buf_view(&u->form.name);
    u->field = str_eq(name, STR("file")) ? FIELD_FILE : FIELD_IGNORED;
    for (int i = 0; i < N_FIELDS; i++) {
        u->field = str_eq(name, str_of(field_names[i])) ? i : u->field;
    }
    bool again = u->field == FIELD_FILE ? u->has_file : u->field >= 0 && u->values[u->field].len > 0;
    if (again) {
        return error_set_param(err, ERR_INVALID, u->field == FIELD_FILE ? "file" : field_names[u->field],
                               "'%s' is given twice.", u->field == FIELD_FILE ? "file" : field_names[u->field]);
    }
    if (u->field == FIELD_FILE) {
        u->has_file = true;
        buf_append(&u->name, u->form.has_filename ? buf_view(&u->form.filename) : STR("file"));
    }
    if (u->field == FIELD_IGNORED && u->app->options.strict_fields) {
        return error_set_param(err, ERR_UNKNOWN_FIELD, "file", "Unknown field '" STR_FMT "'.",
                               STR_ARG(str_slice(name, 0, 60)));
    }
    if (u->field == FIELD_IGNORED) {
        buf_printf(&u->ignored, "%s" STR_FMT, u->ignored.len ? "," : "", STR_ARG(str_slice(name, 0, 60)));
    }
    return true;
}

static bool take_value(struct upload *u, struct str data, struct error *err)
{
    if (u->field == FIELD_IGNORED) {
        return true;
    }
    buf_append(&u->values[u->field], data);
    return !u->values[u->field].failed ||
           error_set_param(err, ERR_TOO_LARGE, field_names[u->field], "'%s' must have at most %zu bytes.",
                           field_names[u->field], FIELD_MAX);
}

static bool take(void *arg, struct str piece, struct error *err)
{
    struct upload *u = arg;
    struct str data;
    enum multipart_next what;
    if (u->error.code) {
        *err = u->error;
        return false;
    }
    while ((what = multipart_next(&u->form, &piece, &data, err)) != MULTIPART_MORE) {
        bool ok = what == MULTIPART_PART   ? begin_part(u, err)
                  : what == MULTIPART_DATA ? (u->field == FIELD_FILE ? take_data : take_value)(u, data, err)
                                           : what == MULTIPART_PART_END;
        if (!ok) {
            return false;
        }
    }
    return true;
}

static void on_gone(void *arg)
{
    struct upload *u = arg;
    u->x = NULL;
    advance(u);
}

bool api__file_begin(struct app *a, struct http_exchange *x, struct error *err)
{
    char boundary[MULTIPART_BOUNDARY_MAX + 1];
    if (!batch__has_journal(a, err) ||
        !multipart_boundary(http_header_get(http_request_of(x), "content-type"), boundary, err)) {
        return false;
    }
    if (!gateway_accepting(a->gateway)) {
        return error_set(err, ERR_UNAVAILABLE, "the server is shutting down.");
    }
    if (a->batches->n_uploads >= BATCH_UPLOADS_MAX) {
        return error_set(err, ERR_OVERLOADED, "%d files are uploaded now, which is all that may. Try again later.",
                         BATCH_UPLOADS_MAX);
    }
    struct upload *u = calloc(1, sizeof *u);
    if (!u) {
        return error_set(err, ERR_NO_MEMORY, "no memory for a file.");
    }
    a->batches->n_uploads++;
    u->app = a;
    u->x = x;
    multipart_init(&u->form, boundary);
    for (int i = 0; i < N_FIELDS; i++) {
        buf_init(&u->values[i], FIELD_MAX);
    }
    buf_init(&u->piece, PIECE_SIZE);
    buf_init(&u->name, MULTIPART_NAME_MAX);
    buf_init(&u->ignored, KIB(2));
    batch__make_id("file-", u->id, sizeof u->id);
    snprintf(u->key_name, sizeof u->key_name, STR_FMT, STR_ARG(api__exchange_key(a, x)));
    u->file = (struct journal_file){.id = str_of(u->id),
                                    .key_name = str_of(u->key_name),
                                    .name = STR(""),
                                    .purpose = STR(""),
                                    .created_s = clock_wall_s()};
    api__hold(a);
    struct http_sink sink = {
        .max_body = (size_t)a->options.max_file + FORM_OVERHEAD, .take = take, .gone = on_gone, .arg = u};
    http_body_to(x, &sink);
    return true;
}

/* ---- its end ---- */

static void reply(struct upload *u)
{
    struct buf out;
    u->file.size = u->size;
    buf_init(&out, KIB(16));
    struct json_writer w = json_writer(&out);
    batch__put_file(&w, &u->file);
    if (u->x) {
        if (u->ignored.len) {
            http_add_header(u->x, "X-Tandem-Ignored-Fields", buf_view(&u->ignored));
        }
        api__reply_json(u->x, &out);
    }
    buf_release(&out);
    LOG_INFO("file uploaded", "id=%s bytes=%llu", u->id, (unsigned long long)u->size);
    free_upload(u);
}

static void refuse(struct upload *u)
{
    if (u->x) {
        struct http_exchange *x = u->x;
        u->x = NULL;
        api__reply_error(x, &u->error);
    }
    discard(u);
}

static void on_finished(void *arg, struct journal_answer *answer)
{
    struct upload *u = arg;
    if (answer->ok) {
        reply(u);
    } else {
        u->error = answer->error;
        refuse(u);
    }
}

static void finish(struct upload *u)
{
    struct error err = {0};
    u->finishing = true;
    u->file.name = buf_view(&u->name);
    u->file.purpose = buf_view(&u->values[0]);
    if (!journal_file_finish(u->app->options.journal, &u->file, (struct journal_done){on_finished, u}, &err)) {
        u->error = err;
        refuse(u);
    }
}

/* When nothing is on its way to the journal. */
static void advance(struct upload *u)
{
    if (u->n_writing || u->finishing) {
        return;
    }
    if (!u->x) {
        discard(u);
    } else if (u->complete && u->error.code) {
        refuse(u);
    } else if (u->complete) {
        finish(u);
    }
}

static bool read_expiry(struct upload *u, struct error *err)
{
    struct str anchor = buf_view(&u->values[1]), seconds = buf_view(&u->values[2]);
    int64_t s = BATCH_KEEP_S;
    if ((anchor.len || seconds.len) && !str_eq(anchor, STR("created_at"))) {
        return error_set_param(err, ERR_INVALID, field_names[1], "'%s' must be \"created_at\".", field_names[1]);
    }
    if (anchor.len && (!str_to_i64(seconds, &s) || s < BATCH_KEEP_LEAST_S || s > BATCH_KEEP_S)) {
        return error_set_param(err, ERR_INVALID, field_names[2], "'%s' must be an integer from %d to %d.",
                               field_names[2], BATCH_KEEP_LEAST_S, BATCH_KEEP_S);
    }
    u->file.expires_s = u->file.created_s + s;
    return true;
}

static bool check_form(struct upload *u, struct error *err)
{
    struct str purpose = buf_view(&u->values[0]);
    if (!multipart_ended(&u->form)) {
        return error_set(err, ERR_INVALID, "The body ends before its last boundary.");
    }
    if (!u->has_file || purpose.len == 0) {
        return field_missing_error(err, u->has_file ? "purpose" : "file");
    }
    if (!str_eq(purpose, STR("batch"))) {
        return error_set_param(err, ERR_UNSUPPORTED, "purpose",
                               "'purpose' must be \"batch\", not '" STR_FMT
                               "': this server has no other use for files.",
                               STR_ARG(str_slice(purpose, 0, 60)));
    }
    return read_expiry(u, err);
}

void api__file_create(struct app *a, struct http_exchange *x, struct str rest)
{
    struct upload *u = http_sink_arg(x);
    struct error err = {0};
    (void)a;
    (void)rest;
    u->complete = true;
    http_on_gone(x, on_gone, u);
    if (u->error.code == ERR_NONE && (!check_form(u, &err) || !flush(u, &err))) {
        u->error = err;
    }
    advance(u);
}
