/* What the reading thread answers of files and batches. */
#include "base/array.h"
#include "base/limits.h"
#include "gateway/journal_internal.h"

#define FILE_LIST_MAX  10000
#define BATCH_LIST_MAX 1000

static bool no_room(struct journal_op *op)
{
    arena_full(op->answer.arena, "an answer of the journal", &op->answer.error);
    return false;
}

static bool read_error(struct journal *j, struct journal_op *op)
{
    return journal_db__error(&j->reader, "read", &op->answer.error);
}

static bool start_answer(struct journal_op *op)
{
    op->answer.arena = arena_create(JOURNAL_RECORD_MAX);
    return op->answer.arena || error_set(&op->answer.error, ERR_NO_MEMORY, "no memory for an answer of the journal.");
}

static bool copy(struct journal_op *op, sqlite3_stmt *s, int at, struct str *out)
{
    struct str value = {sqlite3_column_blob(s, at), (size_t)sqlite3_column_bytes(s, at)};
    *out = arena_str(op->answer.arena, value.len ? value : STR(""));
    return out->ptr || no_room(op);
}

/* Room for one more of n items, in an array that doubles. NULL: there is none. */
static void *grown(struct journal_op *op, const void *items, size_t n, size_t size)
{
    if (n & (n - 1)) { /* it grows at powers of two */
        return (void *)(uintptr_t)items;
    }
    char *more = arena_alloc_array(op->answer.arena, n ? 2 * n : 1, size);
    if (!more) {
        no_room(op);
        return NULL;
    }
    if (n) {
        memcpy(more, items, n * size);
    }
    return more;
}

/* ---- files ---- */

static bool add_file(struct journal_op *op, sqlite3_stmt *s)
{
    struct journal_file *items = grown(op, op->answer.files, op->answer.n, sizeof *items);
    if (!items) {
        return false;
    }
    op->answer.files = items;
    struct journal_file *f = &items[op->answer.n];
    *f = (struct journal_file){.created_s = sqlite3_column_int64(s, 4),
                               .expires_s = sqlite3_column_int64(s, 5),
                               .size = (uint64_t)sqlite3_column_int64(s, 6)};
    struct str *texts[] = {&f->id, &f->key_name, &f->name, &f->purpose};
    for (int i = 0; i < (int)ARRAY_LEN(texts); i++) {
        if (!copy(op, s, i, texts[i])) {
            return false;
        }
    }
    op->answer.n++;
    return true;
}

/* Of a statement whose values are bound: at most `limit` rows, and whether there are others. */
static enum journal_outcome take_rows(struct journal *j, struct journal_op *op, sqlite3_stmt *s, size_t limit,
                                      bool (*add)(struct journal_op *op, sqlite3_stmt *s))
{
    int rc = SQLITE_DONE;
    bool ok = start_answer(op);
    while (ok && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        if (op->answer.n == limit) {
            op->answer.more = true;
            rc = SQLITE_DONE;
            break;
        }
        ok = add(op, s);
    }
    ok = ok && (rc == SQLITE_DONE || read_error(j, op));
    journal_db__done(s);
    op->answer.ok = ok;
    return ok ? OP_OK : OP_REFUSED;
}

static enum journal_outcome take_one(struct journal *j, struct journal_op *op, enum journal_statement which,
                                     const char *what, bool (*add)(struct journal_op *op, sqlite3_stmt *s))
{
    sqlite3_stmt *s = journal_db__statement(&j->reader, which);
    journal_db__bind_str(s, 1, op->id);
    journal_db__bind_str(s, 2, op->key_name);
    enum journal_outcome result = take_rows(j, op, s, 1, add);
    if (result == OP_OK && op->answer.n == 0) {
        journal_files__missing(what, op->id, &op->answer.error);
        op->answer.ok = false;
        return OP_REFUSED;
    }
    return result;
}

enum journal_outcome journal_files__read(struct journal *j, struct journal_op *op)
{
    return take_one(j, op, STATEMENT_FILE_READ, "file", add_file);
}

static size_t limit_of(uint32_t limit, size_t most)
{
    return limit == 0 || limit > most ? most : limit;
}

enum journal_outcome journal_files__list(struct journal *j, struct journal_op *op)
{
    const struct journal_file_query *q = op->query;
    size_t limit = limit_of(q->limit, FILE_LIST_MAX);
    sqlite3_stmt *s =
        journal_db__statement(&j->reader, q->oldest_first ? STATEMENT_FILES_OLDEST : STATEMENT_FILES_NEWEST);
    journal_db__bind_str(s, 1, q->key_name);
    journal_db__bind_str(s, 2, q->purpose);
    journal_db__bind_str(s, 3, q->after);
    journal_db__bind_int(s, 4, (int64_t)limit + 1);
    return take_rows(j, op, s, limit, add_file);
}

/* ---- pieces ---- */

/* False: the end, full, or an error. */
static bool add_piece(struct journal_op *op, int64_t row, sqlite3_stmt *s, uint64_t *size)
{
    struct journal_piece piece = {.at = (uint64_t)sqlite3_column_int64(s, 0),
                                  .data = {sqlite3_column_blob(s, 1), (size_t)sqlite3_column_bytes(s, 1)}};
    if (op->answer.n && *size + piece.data.len > op->most) {
        op->answer.more = true;
        return false;
    }
    if (journal_files__sum(row, &piece) != sqlite3_column_int64(s, 2)) {
        op->n_damaged++;
        return error_set(&op->answer.error, ERR_IO, "The journal's copy of the file '" STR_FMT "' is damaged.",
                         STR_ARG(str_slice(op->id, 0, 60)));
    }
    struct journal_piece *items = grown(op, op->answer.pieces, op->answer.n, sizeof *items);
    if (!items) {
        return false;
    }
    *size += piece.data.len;
    op->answer.pieces = items;
    items[op->answer.n] = piece;
    return copy(op, s, 1, &items[op->answer.n++].data);
}

static bool read_pieces(struct journal *j, struct journal_op *op, int64_t row)
{
    sqlite3_stmt *s = journal_db__statement(&j->reader, STATEMENT_PIECES);
    uint64_t size = 0;
    int rc;
    journal_db__bind_int(s, 1, row);
    journal_db__bind_int(s, 2, (int64_t)op->from);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW && add_piece(op, row, s, &size)) {
    }
    bool ok = op->answer.error.code == ERR_NONE && (rc == SQLITE_ROW || rc == SQLITE_DONE || read_error(j, op));
    journal_db__done(s);
    return ok;
}

/* The statement that found the file holds the read transaction: one that is deleted meanwhile does not end early. */
enum journal_outcome journal_files__pieces(struct journal *j, struct journal_op *op)
{
    if (!start_answer(op)) {
        return OP_REFUSED;
    }
    sqlite3_stmt *s = journal_files__find(&j->reader, op->id, op->key_name);
    int rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        op->answer.ok = read_pieces(j, op, sqlite3_column_int64(s, 0));
    } else if (rc == SQLITE_DONE) {
        journal_files__missing("file", op->id, &op->answer.error);
    } else {
        read_error(j, op);
    }
    journal_db__done(s);
    return op->answer.ok ? OP_OK : OP_REFUSED;
}

/* ---- batches ---- */

static enum batch_state state_of(const char *name)
{
    for (int i = 0; name && i < BATCH_STATE_COUNT; i++) {
        if (strcmp(batch_state_name(i), name) == 0) {
            return i;
        }
    }
    return BATCH_FAILED;
}

static bool add_batch(struct journal_op *op, sqlite3_stmt *s)
{
    struct journal_batch *items = grown(op, op->answer.batches, op->answer.n, sizeof *items);
    if (!items) {
        return false;
    }
    op->answer.batches = items;
    struct journal_batch *b = &items[op->answer.n];
    *b = (struct journal_batch){.state = state_of((const char *)sqlite3_column_text(s, 10))};
    struct str *texts[] = {&b->id,       &b->key_name, &b->endpoint, &b->model,  &b->window,
                           &b->metadata, &b->errors,   &b->input,    &b->output, &b->failed};
    int64_t *times[] = {&b->created_s,    &b->expires_s, &b->in_progress_s, &b->finalizing_s,
                        &b->cancelling_s, &b->ended_s,   &b->keep_s};
    uint64_t *counts[] = {&b->n_total,       &b->n_completed,   &b->n_failed,        &b->input_tokens,
                          &b->cached_tokens, &b->output_tokens, &b->reasoning_tokens};
    for (int i = 0; i < (int)ARRAY_LEN(texts); i++) {
        if (!copy(op, s, i, texts[i])) {
            return false;
        }
    }
    for (int i = 0; i < (int)ARRAY_LEN(times); i++) {
        *times[i] = sqlite3_column_int64(s, 11 + i);
        *counts[i] = (uint64_t)sqlite3_column_int64(s, 18 + i);
    }
    b->own_files = sqlite3_column_int(s, 25);
    b->n_given_up = (uint64_t)sqlite3_column_int64(s, 26);
    op->answer.n++;
    return true;
}

static void turn_round(struct journal_batch *items, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        struct journal_batch one = items[i];
        items[i] = items[n - 1 - i];
        items[n - 1 - i] = one;
    }
}

enum journal_outcome journal_batches__read(struct journal *j, struct journal_op *op)
{
    return take_one(j, op, STATEMENT_BATCH_READ, "batch", add_batch);
}

enum journal_outcome journal_batches__list(struct journal *j, struct journal_op *op)
{
    const struct journal_batch_query *q = op->batch_query;
    if (!q) {
        return take_rows(j, op, journal_db__statement(&j->reader, STATEMENT_BATCH_UNFINISHED), SIZE_MAX, add_batch);
    }
    bool before = q->before && q->from.len;
    size_t limit = limit_of(q->limit, BATCH_LIST_MAX);
    sqlite3_stmt *s = journal_db__statement(&j->reader, before ? STATEMENT_BATCHES_BEFORE : STATEMENT_BATCHES_BEHIND);
    journal_db__bind_str(s, 1, q->key_name);
    journal_db__bind_int(s, 2, q->own_files);
    journal_db__bind_str(s, 3, q->from);
    journal_db__bind_int(s, 4, (int64_t)limit + 1);
    enum journal_outcome result = take_rows(j, op, s, limit, add_batch);
    if (before) {
        turn_round(op->answer.batches, op->answer.n);
    }
    return result;
}

static bool add_number(struct journal_op *op, sqlite3_stmt *s)
{
    uint64_t *items = grown(op, op->answer.numbers, op->answer.n, sizeof *items);
    if (!items) {
        return false;
    }
    op->answer.numbers = items;
    items[op->answer.n++] = (uint64_t)sqlite3_column_int64(s, 0);
    return true;
}

enum journal_outcome journal_batches__rows(struct journal *j, struct journal_op *op)
{
    sqlite3_stmt *s = journal_db__statement(&j->reader, STATEMENT_BATCH_ROWS);
    journal_db__bind_str(s, 1, op->id);
    return take_rows(j, op, s, SIZE_MAX, add_number);
}
