/* The writing thread's work. Operations that waited together become one transaction: it is committed as a whole, or
 * each of them is told that it was not. */
#include "base/array.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "gateway/journal_internal.h"

#define ROW_OVERHEAD 64 /* bytes of a row besides its data, about */

static enum journal_outcome outcome(bool ok)
{
    return ok ? OP_OK : OP_BROKEN;
}

static bool run(struct journal *j, enum journal_statement which, struct error *err)
{
    return journal_db__run(&j->writer, journal_db__statement(&j->writer, which), err);
}

/* ---- room ---- */

static bool used_size(struct journal *j, uint64_t *size, struct error *err)
{
    uint64_t n_pages, n_free;
    if (!journal_db__number(&j->writer, STATEMENT_PAGE_COUNT, &n_pages, err) ||
        !journal_db__number(&j->writer, STATEMENT_FREE_PAGES, &n_free, err)) {
        return false;
    }
    *size = (n_pages - n_free) * j->writer.page_size;
    return true;
}

bool journal_write__make_room(struct journal *j, struct journal_op *op, uint64_t more, bool *fits, struct error *err)
{
    uint64_t max = j->options.max_size;
    for (;;) {
        if (!used_size(j, &op->n_size, err)) {
            return false;
        }
        *fits = max == 0 || (more <= max && op->n_size <= max - more);
        if (*fits) {
            return true;
        }
        if (!run(j, STATEMENT_DROP_OLDEST, err)) {
            return false;
        }
        if (sqlite3_changes(j->writer.db) == 0) {
            return true;
        }
        op->n_dropped++;
    }
}

static int64_t expiry(const struct journal *j, int64_t now_s)
{
    return j->options.max_age_s ? now_s + j->options.max_age_s : INT64_MAX;
}

/* ---- operations ---- */

static bool put_blob(struct journal *j, int64_t row, const char *kind, struct str data, struct error *err)
{
    sqlite3_stmt *s = journal_db__statement(&j->writer, STATEMENT_PUT_BLOB);
    journal_db__bind_int(s, 1, row);
    journal_db__bind_str(s, 2, str_of(kind));
    journal_db__bind_blob(s, 3, data);
    journal_db__bind_int(s, 4, journal__sum(row, data));
    return journal_db__run(&j->writer, s, err);
}

static bool insert(struct journal *j, const struct journal_meta *m, struct str body, struct error *err)
{
    sqlite3_stmt *s = journal_db__statement(&j->writer, STATEMENT_INSERT);
    const struct str texts[] = {m->id, m->route, m->key_name, m->model};
    int64_t now_s = clock_wall_s();
    for (int i = 0; i < (int)ARRAY_LEN(texts); i++) {
        journal_db__bind_str(s, i + 1, texts[i]);
    }
    journal_db__bind_blob(s, 5, m->details);
    journal_db__bind_int(s, 6, m->background);
    journal_db__bind_int(s, 7, m->created_s);
    journal_db__bind_int(s, 8, expiry(j, now_s));
    journal_db__bind_int(s, 9, (int64_t)m->seed);
    journal_db__bind_int(s, 10, (int64_t)body.len);
    return journal_db__run(&j->writer, s, err) &&
           put_blob(j, sqlite3_last_insert_rowid(j->writer.db), "body", body, err);
}

enum journal_outcome journal_write__insert(struct journal *j, struct journal_op *op)
{
    struct error *err = &op->answer.error;
    bool fits;
    if (!journal_write__make_room(j, op, op->body.len + ROW_OVERHEAD, &fits, err)) {
        return OP_BROKEN;
    }
    if (!fits) {
        error_set(err, ERR_OVERLOADED,
                  "the journal holds %llu bytes of requests that have not ended, of %llu (--journal-max-mb). Try again "
                  "later.",
                  (unsigned long long)op->n_size, (unsigned long long)j->options.max_size);
        return OP_REFUSED;
    }
    return outcome(insert(j, &op->meta, op->body, err));
}

static bool put_tokens(struct journal *j, int64_t row, const struct journal_tokens *t, struct error *err)
{
    sqlite3_stmt *s = journal_db__statement(&j->writer, STATEMENT_PUT_TOKENS);
    const int64_t numbers[] = {row, t->prompt, t->choice, t->first, t->n};
    for (int i = 0; i < (int)ARRAY_LEN(numbers); i++) {
        journal_db__bind_int(s, i + 1, numbers[i]);
    }
    journal_db__bind_blob(s, 6, t->data);
    journal_db__bind_int(s, 7, t->finish);
    journal_db__bind_int(s, 8, t->stop_id);
    journal_db__bind_int(s, 9, journal__tokens_sum(row, t));
    return journal_db__run(&j->writer, s, err);
}

static bool update_row(struct journal *j, int64_t row, const struct journal_update *u, int64_t size, struct error *err)
{
    sqlite3_stmt *s = journal_db__statement(&j->writer, u->state_only ? STATEMENT_UPDATE_STATE : STATEMENT_UPDATE);
    int64_t now_s = clock_wall_s();
    const char *code = u->error.code ? error_info(u->error.code)->name : "";
    journal_db__bind_int(s, 1, row);
    journal_db__bind_str(s, 2, str_of(journal_state_name(u->state)));
    journal_db__bind_str(s, 3, u->fingerprint);
    journal_db__bind_str(s, 4, u->resumed_from);
    journal_db__bind_str(s, 5, u->reason);
    journal_db__bind_blob(s, 6, u->details);
    journal_db__bind_int(s, 7, (int64_t)u->n_generated);
    journal_db__bind_str(s, 8, str_of(code));
    journal_db__bind_str(s, 9, str_of(u->error.param));
    journal_db__bind_str(s, 10, str_of(u->error.msg));
    journal_db__bind_int(s, 11, size);
    journal_db__bind_int(s, 14, u->forget_starts);
    if (journal_state_ended(u->state)) {
        journal_db__bind_int(s, 12, now_s);
        journal_db__bind_int(s, 13, expiry(j, now_s));
    }
    return journal_db__run(&j->writer, s, err);
}

/* 0: there is none. */
static bool row_of(struct journal *j, struct str id, int64_t *row, struct error *err)
{
    sqlite3_stmt *s = journal_db__statement(&j->writer, STATEMENT_ROW_OF);
    journal_db__bind_str(s, 1, id);
    int rc = sqlite3_step(s);
    *row = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
    bool ok = rc == SQLITE_ROW || rc == SQLITE_DONE || journal_db__error(&j->writer, "read", err);
    journal_db__done(s);
    return ok;
}

static bool run_on(struct journal *j, enum journal_statement which, int64_t row, struct error *err)
{
    sqlite3_stmt *s = journal_db__statement(&j->writer, which);
    journal_db__bind_int(s, 1, row);
    return journal_db__run(&j->writer, s, err);
}

static bool update(struct journal *j, const struct journal_update *u, struct error *err)
{
    int64_t row, size = (int64_t)u->result.len;
    if (!row_of(j, u->id, &row, err)) {
        return false;
    }
    if (row == 0) {
        return true;
    }
    if (u->count_start) {
        return run_on(j, STATEMENT_COUNT_START, row, err);
    }
    if (u->forget_tokens && !run_on(j, STATEMENT_FORGET_TOKENS, row, err)) {
        return false;
    }
    for (size_t i = 0; i < u->n_tokens; i++) {
        size += (int64_t)u->tokens[i].data.len + ROW_OVERHEAD;
        if (!put_tokens(j, row, &u->tokens[i], err)) {
            return false;
        }
    }
    return (u->result.len == 0 || put_blob(j, row, "result", u->result, err)) && update_row(j, row, u, size, err);
}

enum journal_outcome journal_write__update(struct journal *j, struct journal_op *op)
{
    for (size_t i = 0; i < op->n_updates; i++) {
        if (!update(j, &op->updates[i], &op->answer.error)) {
            return OP_BROKEN;
        }
    }
    return OP_OK;
}

enum journal_outcome journal_write__remove(struct journal *j, struct journal_op *op)
{
    sqlite3_stmt *s = journal_db__statement(&j->writer, STATEMENT_REMOVE);
    journal_db__bind_str(s, 1, op->id);
    journal_db__bind_str(s, 2, op->key_name);
    if (!journal_db__run(&j->writer, s, &op->answer.error)) {
        return OP_BROKEN;
    }
    if (sqlite3_changes(j->writer.db) == 0) {
        error_set(&op->answer.error, ERR_NOT_FOUND, "There is no finished request with the id '" STR_FMT "'.",
                  STR_ARG(str_slice(op->id, 0, 100)));
        return OP_REFUSED;
    }
    return OP_OK;
}

/* ---- upkeep ---- */

static bool drop_expired(struct journal *j, struct journal_op *op, struct error *err)
{
    if (j->options.max_age_s == 0) {
        return true;
    }
    sqlite3_stmt *s = journal_db__statement(&j->writer, STATEMENT_DROP_EXPIRED);
    journal_db__bind_int(s, 1, clock_wall_s() - j->options.max_age_s);
    bool ok = journal_db__run(&j->writer, s, err);
    op->n_dropped += ok ? (uint64_t)sqlite3_changes(j->writer.db) : 0;
    return ok;
}

static bool count_states(struct journal *j, struct journal_op *op, struct error *err)
{
    sqlite3_stmt *s = journal_db__statement(&j->writer, STATEMENT_COUNT_STATES);
    int rc;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        for (int state = 0; state < JOURNAL_STATE_COUNT; state++) {
            if (strcmp((const char *)sqlite3_column_text(s, 0), journal_state_name(state)) == 0) {
                op->counts[state] = (uint64_t)sqlite3_column_int64(s, 1);
            }
        }
    }
    op->has_counts = rc == SQLITE_DONE || journal_db__error(&j->writer, "read", err);
    journal_db__done(s);
    return op->has_counts;
}

/* The write that it always does says whether the disk takes one. */
enum journal_outcome journal_write__upkeep(struct journal *j, struct journal_op *op)
{
    struct error *err = &op->answer.error;
    sqlite3_stmt *touch = journal_db__statement(&j->writer, STATEMENT_TOUCH);
    bool fits;
    if (op->limit) {
        journal_db__bind_int(touch, 1, clock_wall_ms());
        if (!journal_db__run(&j->writer, touch, err)) {
            return OP_BROKEN;
        }
    }
    return outcome(drop_expired(j, op, err) && journal_files__drop_expired(j, op, err) &&
                   journal_write__make_room(j, op, 0, &fits, err) && run(j, STATEMENT_VACUUM, err) &&
                   count_states(j, op, err) && journal_files__count(j, op, err));
}

/* ---- transactions ---- */

static void fail_all(struct journal_op **ops, size_t n, const struct error *why)
{
    for (size_t i = 0; i < n; i++) {
        ops[i]->answer.ok = false;
        ops[i]->answer.error = *why;
        ops[i]->n_dropped = 0;
        ops[i]->has_counts = ops[i]->has_total = false;
    }
}

static bool run_all(struct journal *j, struct journal_op **ops, size_t n, struct error *err)
{
    if (!run(j, STATEMENT_BEGIN, err)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        enum journal_outcome result = ops[i]->run(j, ops[i]);
        ops[i]->answer.ok = result == OP_OK;
        if (result == OP_BROKEN) {
            *err = ops[i]->answer.error;
            return false;
        }
    }
    return run(j, STATEMENT_COMMIT, err);
}

/* A commit that fails may leave the transaction open, or have ended it: SQLite says which. */
void journal_write__group(struct journal *j, struct journal_op **ops, size_t n)
{
    struct error err = {0}, ignored = {0};
    bool ok = run_all(j, ops, n, &err);
    if (!ok) {
        if (!sqlite3_get_autocommit(j->writer.db) && !run(j, STATEMENT_ROLLBACK, &ignored)) {
            LOG_ERROR("journal transaction cannot be rolled back", "error=\"%s\"", ignored.msg);
        }
        fail_all(ops, n, &err);
    }
    for (size_t i = 0; i < n; i++) {
        ops[i]->committed = ok;
    }
}
