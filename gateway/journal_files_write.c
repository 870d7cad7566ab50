/* What the writing thread does for files and batches. */
#include "base/array.h"
#include "base/clock.h"
#include "base/hash.h"
#include "gateway/journal_internal.h"

#include <stdio.h>

#define PIECE_OVERHEAD 64 /* bytes of a row besides its data, about */

static enum journal_outcome outcome(bool ok)
{
    return ok ? OP_OK : OP_BROKEN;
}

void journal_files__missing(const char *what, struct str id, struct error *err)
{
    error_set(err, ERR_NOT_FOUND, "There is no %s with the id '" STR_FMT "'.", what, STR_ARG(str_slice(id, 0, 100)));
}

int64_t journal_files__sum(int64_t file, const struct journal_piece *piece)
{
    uint64_t place[] = {(uint64_t)file, piece->at};
    return (int64_t)xxh3(piece->data.ptr ? piece->data.ptr : "", piece->data.len, xxh3(place, sizeof place, 0));
}

sqlite3_stmt *journal_files__find(struct journal_db *d, struct str id, struct str key_name)
{
    sqlite3_stmt *s = journal_db__statement(d, STATEMENT_FILE_ROW);
    journal_db__bind_str(s, 1, id);
    if (key_name.ptr) {
        journal_db__bind_str(s, 2, key_name);
    }
    return s;
}

bool journal_files__row(struct journal_db *d, struct str id, struct str key_name, int64_t *row, struct error *err)
{
    sqlite3_stmt *s = journal_files__find(d, id, key_name);
    int rc = sqlite3_step(s);
    *row = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
    bool ok = rc == SQLITE_ROW || rc == SQLITE_DONE || journal_db__error(d, "read", err);
    journal_db__done(s);
    return ok;
}

/* ---- files ---- */

static bool count_total(struct journal *j, struct journal_op *op, struct error *err)
{
    op->has_total = journal_db__number(&j->writer, STATEMENT_FILE_TOTAL, &op->all_file_size, err);
    return op->has_total;
}

/* Room for `more` bytes among all files, and in the journal. */
static enum journal_outcome check_room(struct journal *j, struct journal_op *op, uint64_t more)
{
    struct error *err = &op->answer.error;
    bool fits;
    if (!count_total(j, op, err)) {
        return OP_BROKEN;
    }
    uint64_t total = op->all_file_size;
    if (op->most && (total > op->most || more > op->most - total)) {
        error_set(err, ERR_TOO_LARGE,
                  "All files together may have %llu bytes (--files-max-mb), and there are %llu. Delete some first.",
                  (unsigned long long)op->most, (unsigned long long)total);
        return OP_REFUSED;
    }
    if (!journal_write__make_room(j, op, more + PIECE_OVERHEAD, &fits, err)) {
        return OP_BROKEN;
    }
    if (!fits) {
        error_set(err, ERR_OVERLOADED,
                  "the journal holds %llu bytes that it has to keep, of %llu (--journal-max-mb). Try again later.",
                  (unsigned long long)op->n_size, (unsigned long long)j->options.max_size);
        return OP_REFUSED;
    }
    return OP_OK;
}

static bool insert_file(struct journal *j, const struct journal_file *f, struct error *err)
{
    sqlite3_stmt *s = journal_db__statement(&j->writer, STATEMENT_FILE_INSERT);
    const struct str texts[] = {f->id, f->key_name, f->name, f->purpose};
    for (int i = 0; i < (int)ARRAY_LEN(texts); i++) {
        journal_db__bind_str(s, i + 1, texts[i]);
    }
    journal_db__bind_int(s, 5, f->created_s);
    journal_db__bind_int(s, 6, f->expires_s);
    journal_db__bind_int(s, 7, f->hidden);
    return journal_db__run(&j->writer, s, err);
}

enum journal_outcome journal_files__create(struct journal *j, struct journal_op *op)
{
    enum journal_outcome room = check_room(j, op, 0);
    return room == OP_OK ? outcome(insert_file(j, op->file, &op->answer.error)) : room;
}

/* A piece that is there already stays as it is. */
static bool put_piece(struct journal *j, int64_t row, const struct journal_piece *piece, struct error *err)
{
    sqlite3_stmt *s = journal_db__statement(&j->writer, STATEMENT_PIECE_PUT);
    journal_db__bind_int(s, 1, row);
    journal_db__bind_int(s, 2, (int64_t)piece->at);
    journal_db__bind_blob(s, 3, piece->data);
    journal_db__bind_int(s, 4, journal_files__sum(row, piece));
    if (!journal_db__run(&j->writer, s, err)) {
        return false;
    }
    if (sqlite3_changes(j->writer.db) == 0) {
        return true;
    }
    s = journal_db__statement(&j->writer, STATEMENT_FILE_GROW);
    journal_db__bind_int(s, 1, row);
    journal_db__bind_int(s, 2, (int64_t)piece->data.len);
    return journal_db__run(&j->writer, s, err);
}

enum journal_outcome journal_files__add(struct journal *j, struct journal_op *op)
{
    struct error *err = &op->answer.error;
    int64_t row;
    enum journal_outcome room = check_room(j, op, op->piece.data.len);
    if (room != OP_OK) {
        return room;
    }
    if (!journal_files__row(&j->writer, op->id, (struct str){0}, &row, err)) {
        return OP_BROKEN;
    }
    if (row == 0) {
        journal_files__missing("file", op->id, err);
        return OP_REFUSED;
    }
    return outcome(put_piece(j, row, &op->piece, err) && count_total(j, op, err));
}

enum journal_outcome journal_files__finish(struct journal *j, struct journal_op *op)
{
    const struct journal_file *f = op->file;
    sqlite3_stmt *s = journal_db__statement(&j->writer, STATEMENT_FILE_FINISH);
    journal_db__bind_str(s, 1, f->id);
    journal_db__bind_str(s, 2, f->name);
    journal_db__bind_str(s, 3, f->purpose);
    journal_db__bind_int(s, 4, f->expires_s);
    if (!journal_db__run(&j->writer, s, &op->answer.error)) {
        return OP_BROKEN;
    }
    if (sqlite3_changes(j->writer.db) == 0) {
        journal_files__missing("file", f->id, &op->answer.error);
        return OP_REFUSED;
    }
    return OP_OK;
}

enum journal_outcome journal_files__remove(struct journal *j, struct journal_op *op)
{
    struct error *err = &op->answer.error;
    sqlite3_stmt *s = journal_db__statement(&j->writer, STATEMENT_FILE_USED);
    journal_db__bind_str(s, 1, op->id);
    int rc = sqlite3_step(s);
    int64_t row = 0;
    bool ok = rc == SQLITE_ROW || rc == SQLITE_DONE || journal_db__error(&j->writer, "read", err);
    char user[64] = "";
    if (rc == SQLITE_ROW) {
        snprintf(user, sizeof user, "%s", (const char *)sqlite3_column_text(s, 0));
    }
    journal_db__done(s);
    if (!ok || (op->key_name.ptr && !journal_files__row(&j->writer, op->id, op->key_name, &row, err))) {
        return OP_BROKEN;
    }
    if (row && user[0]) {
        error_set(err, ERR_INVALID,
                  "The file '" STR_FMT "' is the input of '%s', which has not ended; cancel it first.",
                  STR_ARG(str_slice(op->id, 0, 60)), user);
        return OP_REFUSED;
    }
    s = journal_db__statement(&j->writer, STATEMENT_FILE_REMOVE);
    journal_db__bind_str(s, 1, op->id);
    if (op->key_name.ptr) {
        journal_db__bind_str(s, 2, op->key_name);
    }
    if (!journal_db__run(&j->writer, s, err)) {
        return OP_BROKEN;
    }
    if (sqlite3_changes(j->writer.db) == 0) {
        journal_files__missing("file", op->id, err);
        return OP_REFUSED;
    }
    return outcome(count_total(j, op, err));
}

/* ---- batches ---- */

static bool put_batch(struct journal *j, enum journal_statement which, const struct journal_batch *b, struct error *err)
{
    sqlite3_stmt *s = journal_db__statement(&j->writer, which);
    const struct str texts[] = {b->id,
                                b->key_name,
                                b->endpoint,
                                b->model,
                                b->window,
                                b->metadata,
                                b->errors,
                                b->input,
                                b->output,
                                b->failed,
                                str_of(batch_state_name(b->state))};
    const int64_t numbers[] = {b->created_s,
                               b->expires_s,
                               b->in_progress_s,
                               b->finalizing_s,
                               b->cancelling_s,
                               b->ended_s,
                               b->keep_s,
                               (int64_t)b->n_total,
                               (int64_t)b->n_completed,
                               (int64_t)b->n_failed,
                               (int64_t)b->input_tokens,
                               (int64_t)b->cached_tokens,
                               (int64_t)b->output_tokens,
                               (int64_t)b->reasoning_tokens,
                               b->own_files,
                               (int64_t)b->n_given_up};
    for (int i = 0; i < (int)ARRAY_LEN(texts); i++) {
        bool is_blob = i == 5 || i == 6;
        (is_blob ? journal_db__bind_blob : journal_db__bind_str)(s, i + 1, texts[i]);
    }
    for (int i = 0; i < (int)ARRAY_LEN(numbers); i++) {
        journal_db__bind_int(s, i + 12, numbers[i]);
    }
    return journal_db__run(&j->writer, s, err);
}

enum journal_outcome journal_batches__insert(struct journal *j, struct journal_op *op)
{
    struct error *err = &op->answer.error;
    int64_t row;
    if (!journal_files__row(&j->writer, op->batch->input, op->batch->key_name, &row, err)) {
        return OP_BROKEN;
    }
    if (row == 0) {
        journal_files__missing("file", op->batch->input, err);
        return OP_REFUSED;
    }
    return outcome(put_batch(j, STATEMENT_BATCH_INSERT, op->batch, err));
}

/* The file is made with the first of its rows. */
static bool put_rows(struct journal *j, const struct journal_batch *b, struct str id, const char *kind,
                     const struct journal_piece *pieces, size_t n, struct error *err)
{
    char name[96];
    int64_t row;
    snprintf(name, sizeof name, STR_FMT "_%s.jsonl", STR_ARG(str_slice(b->id, 0, 60)), kind);
    struct journal_file file = {.id = id,
                                .key_name = b->key_name,
                                .name = str_of(name),
                                .purpose = STR("batch_output"),
                                .created_s = clock_wall_s(),
                                .hidden = b->own_files};
    if (n == 0) {
        return true;
    }
    if (!insert_file(j, &file, err) || !journal_files__row(&j->writer, id, (struct str){0}, &row, err)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!put_piece(j, row, &pieces[i], err)) {
            return false;
        }
    }
    return true;
}

/* Its time begins now: its first row may be older than it is to be kept. */
static bool complete(struct journal *j, const struct journal_batch *b, struct str id, struct error *err)
{
    sqlite3_stmt *s = journal_db__statement(&j->writer, STATEMENT_FILE_COMPLETE);
    int64_t now_s = clock_wall_s();
    journal_db__bind_str(s, 1, id);
    journal_db__bind_int(s, 2, now_s);
    journal_db__bind_int(s, 3, b->keep_s ? now_s + b->keep_s : 0);
    return journal_db__run(&j->writer, s, err);
}

static bool put_input(struct journal *j, const struct journal_batch *b, const struct journal_batch_input *input,
                      struct error *err)
{
    struct journal_file file = {.id = b->input,
                                .key_name = b->key_name,
                                .name = STR(""),
                                .purpose = STR("batch"),
                                .created_s = b->created_s,
                                .hidden = true};
    int64_t row;
    if (!insert_file(j, &file, err) || !journal_files__row(&j->writer, b->input, (struct str){0}, &row, err)) {
        return false;
    }
    for (size_t i = 0; i < input->n; i++) {
        if (!put_piece(j, row, &input->pieces[i], err)) {
            return false;
        }
    }
    return complete(j, b, b->input, err);
}

enum journal_outcome journal_batches__create(struct journal *j, struct journal_op *op)
{
    const struct journal_batch_input *input = op->batch_input;
    struct error *err = &op->answer.error;
    uint64_t size = 0;
    for (size_t i = 0; i < input->n; i++) {
        size += input->pieces[i].data.len;
    }
    op->most = input->max_total;
    enum journal_outcome room = check_room(j, op, size);
    return room != OP_OK ? room
                         : outcome(put_input(j, op->batch, input, err) &&
                                   put_batch(j, STATEMENT_BATCH_INSERT, op->batch, err) && count_total(j, op, err));
}

static bool batch_is_there(struct journal *j, const struct journal_op *op, bool *there, struct error *err)
{
    sqlite3_stmt *s = journal_db__statement(&j->writer, STATEMENT_BATCH_READ);
    journal_db__bind_str(s, 1, op->id);
    journal_db__bind_str(s, 2, op->key_name);
    int rc = sqlite3_step(s);
    *there = rc == SQLITE_ROW;
    bool ok = rc == SQLITE_ROW || rc == SQLITE_DONE || journal_db__error(&j->writer, "read", err);
    journal_db__done(s);
    return ok;
}

enum journal_outcome journal_batches__remove(struct journal *j, struct journal_op *op)
{
    struct error *err = &op->answer.error;
    bool there = false;
    sqlite3_stmt *s = journal_db__statement(&j->writer, STATEMENT_BATCH_REMOVE);
    journal_db__bind_str(s, 1, op->id);
    journal_db__bind_str(s, 2, op->key_name);
    if (!journal_db__run(&j->writer, s, err)) {
        return OP_BROKEN;
    }
    if (sqlite3_changes(j->writer.db)) {
        return outcome(count_total(j, op, err));
    }
    if (!batch_is_there(j, op, &there, err)) {
        return OP_BROKEN;
    }
    if (there) {
        error_set(err, ERR_INVALID, "The batch '" STR_FMT "' has not ended; cancel it first.",
                  STR_ARG(str_slice(op->id, 0, 60)));
    } else {
        journal_files__missing("batch", op->id, err);
    }
    return OP_REFUSED;
}

enum journal_outcome journal_batches__update(struct journal *j, struct journal_op *op)
{
    const struct journal_batch_update *u = op->batch_update;
    const struct journal_batch *b = &u->batch;
    struct error *err = &op->answer.error;
    if (!put_batch(j, STATEMENT_BATCH_UPDATE, b, err)) {
        return OP_BROKEN;
    }
    if (sqlite3_changes(j->writer.db) == 0) {
        return OP_OK;
    }
    return outcome(
        put_rows(j, b, b->output, "output", u->completed, u->n_completed, err) &&
        put_rows(j, b, b->failed, "error", u->failed, u->n_failed, err) && count_total(j, op, err) &&
        (!batch_state_ended(b->state) || (complete(j, b, b->output, err) && complete(j, b, b->failed, err))));
}

/* ---- upkeep ---- */

bool journal_files__drop_expired(struct journal *j, struct journal_op *op, struct error *err)
{
    sqlite3_stmt *s = journal_db__statement(&j->writer, STATEMENT_FILES_EXPIRE);
    journal_db__bind_int(s, 1, clock_wall_s());
    if (!journal_db__run(&j->writer, s, err)) {
        return false;
    }
    op->n_dropped += (uint64_t)sqlite3_changes(j->writer.db);
    if (j->options.max_age_s == 0) {
        return true;
    }
    s = journal_db__statement(&j->writer, STATEMENT_BATCHES_EXPIRE);
    journal_db__bind_int(s, 1, clock_wall_s() - j->options.max_age_s);
    bool ok = journal_db__run(&j->writer, s, err);
    op->n_dropped += ok ? (uint64_t)sqlite3_changes(j->writer.db) : 0;
    return ok;
}

bool journal_files__count(struct journal *j, struct journal_op *op, struct error *err)
{
    sqlite3_stmt *s = journal_db__statement(&j->writer, STATEMENT_BATCHES_COUNT);
    int rc;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        for (int state = 0; state < BATCH_STATE_COUNT; state++) {
            if (strcmp((const char *)sqlite3_column_text(s, 0), batch_state_name(state)) == 0) {
                op->batches[state] = (uint64_t)sqlite3_column_int64(s, 1);
            }
        }
    }
    bool ok = rc == SQLITE_DONE || journal_db__error(&j->writer, "read", err);
    journal_db__done(s);
    if (!ok) {
        return false;
    }
    s = journal_db__statement(&j->writer, STATEMENT_FILES_COUNT);
    ok = sqlite3_step(s) == SQLITE_ROW || journal_db__error(&j->writer, "read", err);
    op->files = ok ? (uint64_t)sqlite3_column_int64(s, 0) : 0;
    op->file_size = ok ? (uint64_t)sqlite3_column_int64(s, 1) : 0;
    journal_db__done(s);
    return ok && count_total(j, op, err);
}
