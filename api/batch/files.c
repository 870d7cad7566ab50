/* /v1/files but for the upload. A file of another key is as if it were not there. */
#include "api/batch/batch_internal.h"

#include "base/array.h"

#include <stdio.h>
#include <stdlib.h>

#define LIST_MAX      10000
#define CONTENT_PIECE KIB(256)

/* ---- one of them ---- */

static void on_read(void *arg, struct journal_answer *answer)
{
    struct asking *q = arg;
    struct buf out;
    if (!answer->ok) {
        asking__fail(q, &answer->error);
        return;
    }
    buf_init(&out, KIB(16));
    struct json_writer w = json_writer(&out);
    batch__put_file(&w, &answer->files[0]);
    asking__reply(q, &out);
}

void api__file_get(struct app *a, struct http_exchange *x, struct str rest)
{
    struct error err = {0};
    struct asking *q = batch__ask(a, x, rest);
    if (q && !journal_file_read(a->options.journal, str_of(q->id), str_of(q->key_name),
                                (struct journal_done){on_read, q}, &err)) {
        asking__fail(q, &err);
    }
}

static void on_removed(void *arg, struct journal_answer *answer)
{
    struct asking *q = arg;
    if (answer->ok) {
        asking__reply_deleted(q, "file");
    } else {
        asking__fail(q, &answer->error);
    }
}

void api__file_delete(struct app *a, struct http_exchange *x, struct str rest)
{
    struct error err = {0};
    struct asking *q = batch__ask(a, x, rest);
    if (q && !journal_file_remove(a->options.journal, str_of(q->id), str_of(q->key_name),
                                  (struct journal_done){on_removed, q}, &err)) {
        asking__fail(q, &err);
    }
}

/* ---- all of them ---- */

struct listing {
    struct asking *asking;
    struct journal_file_query query;
    struct buf after, purpose;
};

static void free_listing(struct listing *l)
{
    buf_release(&l->after);
    buf_release(&l->purpose);
    free(l);
}

static void on_list(void *arg, struct journal_answer *answer)
{
    struct listing *l = arg;
    struct asking *q = l->asking;
    struct buf out;
    free_listing(l);
    if (!answer->ok) {
        asking__fail(q, &answer->error);
        return;
    }
    struct json_writer w = asking__begin_list(&out);
    for (size_t i = 0; i < answer->n; i++) {
        batch__put_file(&w, &answer->files[i]);
    }
    asking__reply_list(q, &w, answer->n ? answer->files[0].id : STR(""),
                       answer->n ? answer->files[answer->n - 1].id : STR(""), answer->more);
}

void api__file_list(struct app *a, struct http_exchange *x, struct str rest)
{
    static const char *const known[] = {"purpose", "limit", "order", "after"};
    const struct http_request *head = http_request_of(x);
    struct error err = {0};
    (void)rest;
    struct asking *q = batch__ask(a, x, STR(""));
    struct listing *l = q ? calloc(1, sizeof *l) : NULL;
    if (!l) {
        if (q) {
            error_set(&err, ERR_NO_MEMORY, "no memory for a request.");
            asking__fail(q, &err);
        }
        return;
    }
    l->asking = q;
    (void)asking__query_str(head, "after", &l->after);
    (void)asking__query_str(head, "purpose", &l->purpose);
    l->query = (struct journal_file_query){
        .key_name = str_of(q->key_name), .after = buf_view(&l->after), .purpose = buf_view(&l->purpose)};
    if (!asking__check_query(head, known, ARRAY_LEN(known), &err) ||
        !asking__query_order(head, &l->query.oldest_first, &err) ||
        !asking__query_limit(head, LIST_MAX, LIST_MAX, &l->query.limit, &err) ||
        !journal_file_list(a->options.journal, &l->query, (struct journal_done){on_list, l}, &err)) {
        free_listing(l);
        asking__fail(q, &err);
    }
}

/* ---- what is in it ---- */

struct download { /* pieces are read as the client takes them */
    struct asking *asking;
    char id[64]; /* of the file */
    const char *type;
    struct arena *arena; /* of the pieces at hand */
    const struct journal_piece *pieces;
    size_t n, at;
    uint64_t next;
    bool more, reading, started, failed, gone;
};

static void free_download(struct download *d)
{
    arena_free(d->arena);
    asking__free(d->asking);
    free(d);
}

static void read_pieces(struct download *d);

static enum http_pull pull(void *arg, struct buf *out)
{
    struct download *d = arg;
    if (d->failed) {
        d->asking->x = NULL;
        free_download(d);
        return HTTP_PULL_ABORT;
    }
    while (d->at < d->n && out->len < CONTENT_PIECE) {
        buf_append(out, d->pieces[d->at++].data);
    }
    if (d->at < d->n) {
        return HTTP_PULL_MORE;
    }
    if (d->more) {
        if (!d->reading) {
            read_pieces(d);
        }
        return HTTP_PULL_WAIT;
    }
    d->asking->x = NULL;
    free_download(d);
    return HTTP_PULL_END;
}

static void on_gone(void *arg)
{
    struct download *d = arg;
    d->asking->x = NULL;
    d->gone = true;
    if (!d->reading) {
        free_download(d);
    }
}

static void on_pieces(void *arg, struct journal_answer *answer)
{
    struct download *d = arg;
    struct http_source source = {.pull = pull, .arg = d};
    d->reading = false;
    if (d->gone) {
        free_download(d);
        return;
    }
    if (!answer->ok && !d->started) {
        struct asking *q = d->asking;
        http_on_gone(q->x, NULL, NULL);
        free(d);
        asking__fail(q, &answer->error);
        return;
    }
    d->failed = !answer->ok;
    arena_free(d->arena);
    d->arena = answer->arena;
    answer->arena = NULL;
    d->pieces = answer->pieces;
    d->n = answer->n;
    d->at = 0;
    d->more = answer->more;
    d->next = d->n ? d->pieces[d->n - 1].at + 1 : d->next;
    if (d->started) {
        http_stream_wake(d->asking->x);
    } else {
        d->started = true;
        http_stream_start(d->asking->x, 200, d->type, &source);
    }
}

/* Not accepted: the reply breaks off, or is that error. */
static void read_pieces(struct download *d)
{
    struct asking *q = d->asking;
    struct journal_answer refused = {0};
    d->reading = true;
    if (!journal_file_pieces(q->app->options.journal, str_of(d->id), str_of(q->key_name), d->next, CONTENT_PIECE,
                             (struct journal_done){on_pieces, d}, &refused.error)) {
        on_pieces(d, &refused);
    }
}

void batch__reply_file(struct asking *q, struct str id, const char *type)
{
    struct error err = {0};
    struct download *d = calloc(1, sizeof *d);
    if (!d) {
        error_set(&err, ERR_NO_MEMORY, "no memory for a request.");
        asking__fail(q, &err);
        return;
    }
    d->asking = q;
    d->type = type;
    snprintf(d->id, sizeof d->id, STR_FMT, STR_ARG(id));
    http_on_gone(q->x, on_gone, d);
    read_pieces(d);
}

void api__file_content(struct app *a, struct http_exchange *x, struct str rest)
{
    struct asking *q = batch__ask(a, x, rest);
    if (q) {
        batch__reply_file(q, str_of(q->id), "application/octet-stream");
    }
}
