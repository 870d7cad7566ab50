#include "hub/download.h"

#include "base/array.h"
#include "base/hash.h"
#include "base/limits.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define HASH_BLOCK KIB(256)

/* Pieces form a ring in the order of the file: `first` is the one whose bytes come next. */
struct piece {
    struct download *d;
    struct hub_fetch *fetch; /* NULL: not coming now */
    uint64_t from, size;     /* of the file */
    struct buf waiting;      /* came before its turn */
    uint64_t received;
    bool used;
};

struct download {
    struct hub_download o;
    struct hub_part part;
    uint64_t done, next; /* bytes in the file; where the next piece begins */
    struct piece pieces[DOWNLOAD_PIECES];
    int first, n_coming;
    uint64_t piece_size;
    char *url, *location, what[HUB_REPO_MAX + HUB_FILE_MAX + 3];
    struct sha256_ctx *sha256; /* one of both */
    struct sha1_ctx *sha1;
    struct error failure;
    bool runs, stopped; /* the loop */
    bool without_parts; /* the server sends none */
    bool spoilt;        /* what has come has another checksum */
};

/* ---- the checksum ---- */

static bool is_git_blob(const struct hub_file *f)
{
    return strlen(f->etag) == SHA1_HEX_SIZE;
}

/* git hashes "blob SIZE\0" before the content. */
static void start_hash(struct download *d)
{
    char head[40];
    sha256_free(d->sha256);
    sha1_free(d->sha1);
    d->sha256 = NULL;
    d->sha1 = NULL;
    d->spoilt = false;
    if (is_git_blob(d->o.file)) {
        int n = snprintf(head, sizeof head, "blob %llu", (unsigned long long)d->o.file->size);
        d->sha1 = sha1_create();
        sha1_update(d->sha1, head, (size_t)n + 1);
    } else {
        d->sha256 = sha256_create();
    }
}

static void hash(struct download *d, const void *data, size_t size)
{
    if (d->sha1) {
        sha1_update(d->sha1, data, size);
    } else {
        sha256_update(d->sha256, data, size);
    }
}

static bool hash_is_right(struct download *d, struct error *err)
{
    char hex[2 * SHA256_SIZE + 1];
    if (d->sha1) {
        sha1_finish_hex(d->sha1, hex);
    } else {
        struct sha256 digest = sha256_finish(d->sha256);
        sha256_hex(&digest, hex);
    }
    d->spoilt = strcmp(hex, d->o.file->etag) != 0;
    return !d->spoilt ||
           error_set(err, ERR_FORMAT,
                     "%.100s: what came has the %s %.16s... instead of %.16s...; it is removed, and another attempt "
                     "begins anew.",
                     d->what, d->sha1 ? "SHA-1" : "SHA-256", hex, d->o.file->etag);
}

/* What an earlier attempt has left is hashed again: nobody remembers how far its hash was. */
static bool hash_what_is_there(struct download *d, struct error *err)
{
    char *block = malloc(HASH_BLOCK);
    bool ok = block || error_set(err, ERR_NO_MEMORY, "no memory to check a file.");
    for (uint64_t at = 0; ok && at < d->done;) {
        if (hub_client_stops(d->o.client, err)) {
            ok = false;
            break;
        }
        size_t n = d->done - at < HASH_BLOCK ? (size_t)(d->done - at) : HASH_BLOCK;
        ok = file_read_at(d->part.fd, at, block, n) ||
             error_set(err, ERR_IO, "%.120s: what has come could not be read again: %s.", d->what, strerror(errno));
        if (ok) {
            hash(d, block, n);
        }
        at += n;
    }
    free(block);
    return ok;
}

/* ---- the file ---- */

static void stop(struct download *d)
{
    d->stopped = true;
    if (d->runs) { /* else the next run would end at once */
        loop_stop(hub_client_context(d->o.client)->loop);
    }
}

static void append(struct download *d, struct str bytes)
{
    if (!file_write_at(d->part.fd, d->done, bytes.ptr, bytes.len)) {
        error_set(&d->failure, ERR_IO, "%.120s could not be written to the cache: %s.", d->what, strerror(errno));
        stop(d);
        return;
    }
    hash(d, bytes.ptr, bytes.len);
    d->done += bytes.len;
}

/* ---- pieces ---- */

static void start_pieces(struct download *d);

static void end_piece(struct piece *p)
{
    hub_fetch_free(p->fetch);
    buf_release(&p->waiting);
    *p = (struct piece){.d = p->d};
}

/* The first piece writes; those behind it that have come whole go after it. */
static void move_on(struct download *d)
{
    for (struct piece *p = &d->pieces[d->first]; p->used && !d->stopped; p = &d->pieces[d->first]) {
        if (p->waiting.len) {
            append(d, buf_view(&p->waiting));
            buf_release(&p->waiting);
        }
        if (p->fetch || p->received < p->size) {
            return;
        }
        end_piece(p);
        d->first = (d->first + 1) % DOWNLOAD_PIECES;
    }
}

static void on_data(void *arg, struct str bytes)
{
    struct piece *p = arg;
    struct download *d = p->d;
    if (d->stopped) {
        return;
    }
    p->received += bytes.len;
    if (p == &d->pieces[d->first]) {
        append(d, bytes);
    } else {
        buf_append(&p->waiting, bytes);
        if (!buf_ok(&p->waiting, "a piece of a file", &d->failure)) {
            stop(d);
            return;
        }
    }
    d->o.on_bytes(d->o.arg, bytes.len);
}

/* The signed URL of the storage serves the other pieces too. */
static void keep_location(struct download *d, const struct hub_fetch *f)
{
    const char *location = hub_fetch_location(f);
    if (!d->location || strcmp(d->location, location) != 0) {
        free(d->location);
        d->location = strdup(location);
    }
}

static void on_done(void *arg, const struct error *err)
{
    struct piece *p = arg;
    struct download *d = p->d;
    d->n_coming--;
    if (err) {
        d->failure = d->failure.code ? d->failure : *err;
        d->without_parts = err->code == ERR_NOT_IMPLEMENTED;
        stop(d);
        return;
    }
    keep_location(d, p->fetch);
    hub_fetch_free(p->fetch);
    p->fetch = NULL;
    move_on(d);
    start_pieces(d);
    if (d->done == d->o.file->size) {
        stop(d);
    }
}

static void on_wait(void *arg, const struct error *err, int64_t wait_ms)
{
    const struct piece *p = arg;
    const struct hub_client_options *o = hub_client_options(p->d->o.client);
    if (o->on_wait) {
        o->on_wait(o->arg, err, wait_ms);
    }
}

static bool start_piece(struct download *d, struct piece *p)
{
    uint64_t left = d->o.file->size - d->next;
    *p = (struct piece){.d = d, .used = true, .from = d->next, .size = left < d->piece_size ? left : d->piece_size};
    buf_init(&p->waiting, (size_t)DOWNLOAD_PIECE_SIZE);
    struct hub_fetch_options o = {.url = d->url,
                                  .location = d->location,
                                  .what = d->what,
                                  .ranged = true,
                                  .from = p->from,
                                  .size = p->size,
                                  .total = d->o.file->size,
                                  .on_data = on_data,
                                  .on_done = on_done,
                                  .on_wait = on_wait,
                                  .arg = p};
    p->fetch = hub_fetch_start(hub_client_context(d->o.client), &o, &d->failure);
    if (!p->fetch) {
        stop(d);
        return false;
    }
    d->next += p->size;
    d->n_coming++;
    return true;
}

/* One alone until it is known where the file lies. */
static void start_pieces(struct download *d)
{
    int most = d->location ? DOWNLOAD_CONNECTIONS : 1;
    for (int i = 0; i < DOWNLOAD_PIECES && d->n_coming < most && d->next < d->o.file->size && !d->stopped; i++) {
        struct piece *p = &d->pieces[(d->first + i) % DOWNLOAD_PIECES];
        if (!p->used && !start_piece(d, p)) {
            return;
        }
    }
}

static void end_pieces(struct download *d)
{
    uint64_t lost = 0;
    for (int i = 0; i < DOWNLOAD_PIECES; i++) {
        lost += d->pieces[i].waiting.len;
        end_piece(&d->pieces[i]);
    }
    if (lost) {
        d->o.on_lost(d->o.arg, lost);
    }
    d->n_coming = d->first = 0;
    d->next = d->done;
}

static bool bring(struct download *d, struct error *err)
{
    d->stopped = false;
    d->failure = (struct error){0};
    start_pieces(d);
    if (!d->stopped) {
        d->runs = true;
        loop_run(hub_client_context(d->o.client)->loop);
        d->runs = false;
    }
    if (!d->stopped) { /* from outside */
        (void)hub_client_stops(d->o.client, &d->failure);
    }
    end_pieces(d);
    if (d->failure.code) {
        *err = d->failure;
    }
    return !d->failure.code;
}

/* ---- from the beginning to the end ---- */

/* Nothing is there any more. */
static bool begin_anew(struct download *d, struct error *err)
{
    if (d->done) {
        d->o.on_lost(d->o.arg, d->done);
    }
    d->done = d->next = 0;
    start_hash(d);
    return file_cut(d->part.fd, 0) ||
           error_set(err, ERR_IO, "%.120s: what has come could not be removed: %s.", d->what, strerror(errno));
}

static bool take_up(struct download *d, struct error *err)
{
    d->done = d->next = d->part.size;
    if (d->done > d->o.file->size) { /* of something else */
        d->done = 0;
        return begin_anew(d, err);
    }
    start_hash(d);
    if (d->done) {
        d->o.on_bytes(d->o.arg, d->done);
    }
    return hash_what_is_there(d, err);
}

/* A server without parts of files: all in one, from the beginning. */
static bool bring_whole(struct download *d, struct error *err)
{
    d->without_parts = false;
    d->piece_size = d->o.file->size;
    return begin_anew(d, err) && bring(d, err);
}

static bool bring_and_check(struct download *d, struct error *err)
{
    bool resumed = d->done > 0;
    struct error first = {0};
    bool ok = d->done == d->o.file->size || bring(d, err) || (d->without_parts && bring_whole(d, err));
    if (!ok || hash_is_right(d, ok && resumed ? &first : err)) {
        return ok;
    }
    /* What was there before may be what is wrong. */
    return resumed && begin_anew(d, err) && (d->o.file->size == 0 || bring(d, err)) && hash_is_right(d, err);
}

static bool run_locked(struct download *d, struct error *err)
{
    struct buf url;
    buf_init(&url, FETCH_URL_MAX);
    bool ok = hub_client_file_url(d->o.client, d->o.repo, d->o.commit, d->o.file->path, &url, err);
    d->url = url.data;
    ok = ok && take_up(d, err) && bring_and_check(d, err);
    if (ok) {
        ok = hub_store_finish(d->o.store, &d->part, err);
    } else if (d->spoilt || d->done == 0) {
        hub_store_drop(d->o.store, &d->part);
    } else {
        hub_store_leave(&d->part);
    }
    buf_release(&url);
    return ok;
}

/* Another program brings the same. */
static bool wait_for_other(void *arg)
{
    struct download *d = arg;
    struct error ignored;
    if (d->o.on_busy) {
        d->o.on_busy(d->o.arg);
    }
    return !hub_client_stops(d->o.client, &ignored);
}

bool hub_download_run(const struct hub_download *options, struct error *err)
{
    const struct hub_file *file = options->file;
    struct download *d = calloc(1, sizeof *d);
    if (!d) {
        return error_set(err, ERR_NO_MEMORY, "no memory to bring a file.");
    }
    d->o = *options;
    d->piece_size = DOWNLOAD_PIECE_SIZE;
    snprintf(d->what, sizeof d->what, "%s: " STR_FMT, options->repo, STR_ARG(file->path));
    for (int i = 0; i < DOWNLOAD_PIECES; i++) {
        d->pieces[i].d = d;
    }
    bool ok = hub_store_begin(options->store, file->etag, wait_for_other, d, &d->part, err);
    if (ok && hub_store_has(options->store, file->etag, file->size)) { /* the other one has brought it */
        hub_store_drop(options->store, &d->part);
        options->on_bytes(options->arg, file->size);
    } else if (ok) {
        ok = run_locked(d, err);
    }
    sha256_free(d->sha256);
    sha1_free(d->sha1);
    free(d->location);
    free(d);
    return ok;
}
