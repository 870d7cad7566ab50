/* The reading thread's answers. Each runs in a transaction of its own, so that meta, tokens and result are of one
 * moment. What a checksum does not confirm is left out. */
#include "base/array.h"
#include "base/limits.h"
#include "gateway/journal_internal.h"

#define LIST_MAX     1000
#define ROWS_AT_ONCE 64

static bool no_room(struct journal_op *op)
{
    arena_full(op->answer.arena, "a request of the journal", &op->answer.error);
    return false;
}

static bool read_error(struct journal *j, struct journal_op *op)
{
    return journal_db__error(&j->reader, "read", &op->answer.error);
}

/* ---- columns ---- */

static bool column_str(struct journal_op *op, sqlite3_stmt *s, int at, struct str *out)
{
    struct str value = {sqlite3_column_blob(s, at), (size_t)sqlite3_column_bytes(s, at)};
    *out = value.len ? arena_str(op->answer.arena, value) : (struct str){0};
    return value.len == 0 || out->ptr || no_room(op);
}

static void column_text(sqlite3_stmt *s, int at, char *out, size_t size)
{
    const char *text = (const char *)sqlite3_column_text(s, at);
    size_t n = text ? strlen(text) : 0;
    n = n < size ? n : size - 1;
    memcpy(out, text ? text : "", n);
    out[n] = '\0';
}

static enum journal_state state_of(sqlite3_stmt *s, int at)
{
    const char *name = (const char *)sqlite3_column_text(s, at);
    for (int i = 0; name && i < JOURNAL_STATE_COUNT; i++) {
        if (strcmp(journal_state_name(i), name) == 0) {
            return i;
        }
    }
    return JOURNAL_FAILED;
}

/* A row of JOURNAL_COLUMNS. */
static bool read_meta(struct journal_op *op, sqlite3_stmt *s, struct journal_meta *m)
{
    struct str *texts[] = {&m->id,          &m->route,        &m->key_name, &m->model,
                           &m->fingerprint, &m->resumed_from, &m->reason,   &m->details};
    *m = (struct journal_meta){0};
    for (int i = 0; i < (int)ARRAY_LEN(texts); i++) {
        if (!column_str(op, s, i + 1, texts[i])) {
            return false;
        }
    }
    m->state = state_of(s, 9);
    m->background = sqlite3_column_int64(s, 10);
    m->created_s = sqlite3_column_int64(s, 11);
    m->finished_s = sqlite3_column_int64(s, 12);
    m->expires_s = sqlite3_column_int64(s, 13);
    m->seed = (uint64_t)sqlite3_column_int64(s, 14);
    m->size = (uint64_t)sqlite3_column_int64(s, 15);
    m->n_tokens = (uint64_t)sqlite3_column_int64(s, 16);
    m->starts = (uint32_t)sqlite3_column_int64(s, 20);
    if (m->state == JOURNAL_FAILED) {
        const char *code = (const char *)sqlite3_column_text(s, 17);
        m->error.code = error_code_of(code ? code : "");
        column_text(s, 18, m->error.param, sizeof m->error.param);
        column_text(s, 19, m->error.msg, sizeof m->error.msg);
    }
    return true;
}

/* ---- one request ---- */

static bool read_blob(struct journal *j, struct journal_op *op, int64_t row, const char *kind, struct str *out)
{
    sqlite3_stmt *s = journal_db__statement(&j->reader, STATEMENT_READ_BLOB);
    journal_db__bind_int(s, 1, row);
    journal_db__bind_str(s, 2, str_of(kind));
    int rc = sqlite3_step(s);
    bool ok = rc == SQLITE_ROW || rc == SQLITE_DONE || read_error(j, op);
    if (rc == SQLITE_ROW) {
        struct str data = {sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0)};
        if (journal__sum(row, data) == sqlite3_column_int64(s, 1)) {
            ok = column_str(op, s, 0, out);
        } else {
            op->answer.records->damaged = true;
            op->n_damaged++;
        }
    }
    journal_db__done(s);
    return ok;
}

static void read_row(sqlite3_stmt *s, struct journal_tokens *t)
{
    *t = (struct journal_tokens){
        .prompt = (uint32_t)sqlite3_column_int64(s, 0),
        .choice = (uint32_t)sqlite3_column_int64(s, 1),
        .first = (uint32_t)sqlite3_column_int64(s, 2),
        .n = (uint32_t)sqlite3_column_int64(s, 3),
        .data = {sqlite3_column_blob(s, 4), (size_t)sqlite3_column_bytes(s, 4)},
        .finish = (enum finish_reason)sqlite3_column_int64(s, 5),
        .stop_id = (int32_t)sqlite3_column_int64(s, 6),
    };
}

struct rows { /* of one request, as they are read */
    struct journal_tokens *items;
    size_t n, cap;
    uint32_t prompt, choice, next; /* of the choice at hand: its next token */
    bool any, broken;              /* broken: the rest of this choice cannot be used */
};

/* A choice ends where a row is damaged or missing. */
static bool add_row(struct journal *j, struct journal_op *op, int64_t row, sqlite3_stmt *s, struct rows *rows)
{
    struct journal_tokens t;
    read_row(s, &t);
    if (!rows->any || t.prompt != rows->prompt || t.choice != rows->choice) {
        rows->any = true;
        rows->prompt = t.prompt;
        rows->choice = t.choice;
        rows->next = 0;
        rows->broken = false;
    }
    bool sound =
        journal__tokens_sum(row, &t) == sqlite3_column_int64(s, 7) && t.first == rows->next && t.finish <= FINISH_ERROR;
    (void)j;
    if (rows->broken || !sound) {
        op->n_damaged += !rows->broken;
        op->answer.records->damaged = rows->broken = true;
        return true;
    }
    if (rows->n == rows->cap) {
        size_t cap = rows->cap ? 2 * rows->cap : ROWS_AT_ONCE;
        struct journal_tokens *more = arena_alloc_array(op->answer.arena, cap, sizeof *more);
        if (!more) {
            return no_room(op);
        }
        memcpy(more, rows->items ? rows->items : more, rows->n * sizeof *more);
        rows->items = more;
        rows->cap = cap;
    }
    rows->next += t.n;
    rows->items[rows->n] = t;
    return column_str(op, s, 4, &rows->items[rows->n++].data);
}

static bool read_rows(struct journal *j, struct journal_op *op, int64_t row, struct journal_record *record)
{
    sqlite3_stmt *s = journal_db__statement(&j->reader, STATEMENT_READ_TOKENS);
    struct rows rows = {0};
    bool ok = true;
    int rc = SQLITE_DONE;
    journal_db__bind_int(s, 1, row);
    while (ok && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        ok = add_row(j, op, row, s, &rows);
    }
    ok = ok && (rc == SQLITE_DONE || read_error(j, op));
    journal_db__done(s);
    record->rows = rows.items;
    record->n_rows = rows.n;
    return ok;
}

static bool read_parts(struct journal *j, struct journal_op *op, int64_t row)
{
    struct journal_record *record = op->answer.records;
    return (!(op->parts & JOURNAL_BODY) || read_blob(j, op, row, "body", &record->body)) &&
           (!(op->parts & JOURNAL_RESULT) || read_blob(j, op, row, "result", &record->result)) &&
           (!(op->parts & JOURNAL_TOKENS) || read_rows(j, op, row, record));
}

static bool start_answer(struct journal_op *op, size_t n)
{
    op->answer.arena = arena_create(JOURNAL_RECORD_MAX);
    op->answer.records = op->answer.arena ? arena_alloc_array(op->answer.arena, n, sizeof *op->answer.records) : NULL;
    return op->answer.records || error_set(&op->answer.error, ERR_NO_MEMORY, "no memory for an answer of the journal.");
}

static bool read_request(struct journal *j, struct journal_op *op)
{
    sqlite3_stmt *s = journal_db__statement(&j->reader, STATEMENT_READ);
    if (!start_answer(op, 1)) {
        return false;
    }
    journal_db__bind_str(s, 1, op->id);
    if (op->key_name.ptr) {
        journal_db__bind_str(s, 2, op->key_name);
    }
    int rc = sqlite3_step(s);
    bool ok = false;
    if (rc == SQLITE_ROW) {
        op->answer.n = 1;
        ok = read_meta(op, s, &op->answer.records->meta) && read_parts(j, op, sqlite3_column_int64(s, 0));
    } else if (rc == SQLITE_DONE) {
        error_set(&op->answer.error, ERR_NOT_FOUND, "There is no request with the id '" STR_FMT "'.",
                  STR_ARG(str_slice(op->id, 0, 100)));
    } else {
        read_error(j, op);
    }
    journal_db__done(s);
    return ok;
}

/* The statement that is stepped holds the read transaction: what runs inside sees the same moment. */
enum journal_outcome journal_read__one(struct journal *j, struct journal_op *op)
{
    op->answer.ok = read_request(j, op);
    return op->answer.ok ? OP_OK : OP_REFUSED;
}

/* ---- lists ---- */

/* One more than asked for says whether there are others. */
static bool read_list(struct journal *j, struct journal_op *op, sqlite3_stmt *s, uint32_t limit)
{
    int rc = SQLITE_DONE;
    bool ok = start_answer(op, limit + 1);
    while (ok && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        if (op->answer.n == limit) {
            op->answer.more = true;
            rc = SQLITE_DONE;
            break;
        }
        ok = read_meta(op, s, &op->answer.records[op->answer.n].meta);
        op->answer.n += ok;
    }
    ok = ok && (rc == SQLITE_DONE || read_error(j, op));
    journal_db__done(s);
    op->answer.ok = ok;
    return ok;
}

static uint32_t limit_of(const struct journal_op *op)
{
    return op->limit == 0 || op->limit > LIST_MAX ? LIST_MAX : op->limit;
}

enum journal_outcome journal_read__list(struct journal *j, struct journal_op *op)
{
    sqlite3_stmt *s = journal_db__statement(&j->reader, STATEMENT_LIST);
    journal_db__bind_str(s, 1, op->key_name);
    journal_db__bind_str(s, 2, op->after);
    journal_db__bind_int(s, 3, (int64_t)limit_of(op) + 1);
    return read_list(j, op, s, limit_of(op)) ? OP_OK : OP_REFUSED;
}

enum journal_outcome journal_read__unfinished(struct journal *j, struct journal_op *op)
{
    sqlite3_stmt *s = journal_db__statement(&j->reader, STATEMENT_UNFINISHED);
    journal_db__bind_str(s, 1, op->after);
    journal_db__bind_int(s, 2, (int64_t)limit_of(op) + 1);
    return read_list(j, op, s, limit_of(op)) ? OP_OK : OP_REFUSED;
}
