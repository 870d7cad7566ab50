/* The journal's file. Small columns and large ones lie in different tables: an update of a request's state rewrites its
 * row, and must not rewrite a body of megabytes with it. */
#include "base/array.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/log.h"
#include "gateway/journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define APPLICATION_ID "1413566052" /* "TANd" */
#define CHECK_SIZE     MIB(256)     /* files up to this size are read whole at the start, to find damage at once */

static const char *const statement_sql[STATEMENT_COUNT] = {
#define X(id, sql) sql,
    JOURNAL_STATEMENT_TABLE(X) JOURNAL_FILE_STATEMENT_TABLE(X)
#undef X
};

static const char schema[] =
    "PRAGMA application_id = " APPLICATION_ID ";"
    "CREATE TABLE requests ("
    " row INTEGER PRIMARY KEY AUTOINCREMENT,"
    " id TEXT NOT NULL UNIQUE,"
    " route TEXT NOT NULL,"
    " key_name TEXT NOT NULL,"
    " model TEXT NOT NULL,"
    " fingerprint TEXT NOT NULL DEFAULT '',"
    " resumed_from TEXT NOT NULL DEFAULT '',"
    " reason TEXT NOT NULL DEFAULT '',"
    " details BLOB NOT NULL,"
    " state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'completed', 'failed', 'cancelled')),"
    " background INTEGER NOT NULL,"
    " created INTEGER NOT NULL,"
    " finished INTEGER,"
    " expires INTEGER NOT NULL,"
    " seed INTEGER NOT NULL,"
    " size INTEGER NOT NULL,"
    " n_tokens INTEGER NOT NULL DEFAULT 0,"
    " starts INTEGER NOT NULL DEFAULT 0,"
    " error_code TEXT NOT NULL DEFAULT '',"
    " error_param TEXT NOT NULL DEFAULT '',"
    " error_message TEXT NOT NULL DEFAULT '',"
    " CHECK ((finished IS NULL) = (state IN ('queued', 'running')))"
    ") STRICT;"
    "CREATE INDEX requests_by_key ON requests (key_name, row);"
    "CREATE INDEX requests_by_end ON requests (finished, row);"
    "CREATE INDEX requests_by_state ON requests (state);"
    "CREATE TABLE blobs ("
    " request INTEGER NOT NULL REFERENCES requests (row) ON DELETE CASCADE,"
    " kind TEXT NOT NULL CHECK (kind IN ('body', 'result')),"
    " data BLOB NOT NULL,"
    " sum INTEGER NOT NULL,"
    " UNIQUE (request, kind)"
    ") STRICT;"
    "CREATE TABLE tokens ("
    " request INTEGER NOT NULL REFERENCES requests (row) ON DELETE CASCADE,"
    " prompt INTEGER NOT NULL,"
    " choice INTEGER NOT NULL,"
    " first INTEGER NOT NULL,"
    " n INTEGER NOT NULL,"
    " data BLOB NOT NULL,"
    " finish INTEGER NOT NULL,"
    " stop_id INTEGER NOT NULL,"
    " sum INTEGER NOT NULL,"
    " PRIMARY KEY (request, prompt, choice, first)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE upkeep (at INTEGER NOT NULL) STRICT;"
    "INSERT INTO upkeep VALUES (0);";

/* ---- errors ---- */

bool journal_db__error(const struct journal_db *d, const char *doing, struct error *err)
{
    int code = d->db ? sqlite3_errcode(d->db) & 0xff : SQLITE_NOMEM;
    const char *why = d->db ? sqlite3_errmsg(d->db) : "no memory";
    if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) {
        return error_set(err, ERR_IO,
                         "The journal '%s' is damaged (%s). Move it away, with its -wal and -shm, to start an empty "
                         "one.",
                         d->path, why);
    }
    return error_set(err, ERR_UNAVAILABLE, "The journal '%s' cannot be %s: %s.", d->path, doing,
                     code == SQLITE_FULL ? "the disk is full" : why);
}

/* ---- statements ---- */

sqlite3_stmt *journal_db__statement(struct journal_db *d, enum journal_statement which)
{
    return d->statements[which];
}

void journal_db__done(sqlite3_stmt *s)
{
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
}

bool journal_db__run(struct journal_db *d, sqlite3_stmt *s, struct error *err)
{
    int rc;
    do {
        rc = sqlite3_step(s);
    } while (rc == SQLITE_ROW);
    bool ok = rc == SQLITE_DONE || journal_db__error(d, "written", err);
    journal_db__done(s);
    return ok;
}

bool journal_db__number(struct journal_db *d, enum journal_statement which, uint64_t *out, struct error *err)
{
    sqlite3_stmt *s = journal_db__statement(d, which);
    bool ok = sqlite3_step(s) == SQLITE_ROW || journal_db__error(d, "read", err);
    *out = ok ? (uint64_t)sqlite3_column_int64(s, 0) : 0;
    journal_db__done(s);
    return ok;
}

void journal_db__bind_str(sqlite3_stmt *s, int at, struct str value)
{
    sqlite3_bind_text64(s, at, value.ptr ? value.ptr : "", value.len, SQLITE_STATIC, SQLITE_UTF8);
}

void journal_db__bind_blob(sqlite3_stmt *s, int at, struct str value)
{
    sqlite3_bind_blob64(s, at, value.ptr ? value.ptr : "", value.len, SQLITE_STATIC);
}

void journal_db__bind_int(sqlite3_stmt *s, int at, int64_t value)
{
    sqlite3_bind_int64(s, at, value);
}

/* ---- checksums: over the place too, so that a row at another's place does not pass ---- */

int64_t journal__sum(int64_t row, struct str data)
{
    return (int64_t)xxh3(data.ptr ? data.ptr : "", data.len, (uint64_t)row);
}

int64_t journal__tokens_sum(int64_t row, const struct journal_tokens *t)
{
    uint64_t place[] = {(uint64_t)row, t->prompt, t->choice, t->first, t->n, (uint64_t)t->finish, (uint64_t)t->stop_id};
    return (int64_t)xxh3(t->data.ptr ? t->data.ptr : "", t->data.len, xxh3(place, sizeof place, 0));
}

/* ---- opening ---- */

/* SQLite gives -wal and -shm the mode of the database. */
static bool make_file(const char *path, struct error *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat st;
    bool ok = fd >= 0 && fstat(fd, &st) == 0 && ((st.st_mode & 077) == 0 || fchmod(fd, 0600) == 0);
    if (!ok) {
        error_set(err, ERR_IO, "The journal '%s' cannot be opened: %s.", path, strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

static bool exec(struct journal_db *d, const char *sql, struct error *err)
{
    return sqlite3_exec(d->db, sql, NULL, NULL, NULL) == SQLITE_OK || journal_db__error(d, "opened", err);
}

static bool ask(struct journal_db *d, const char *sql, char *out, size_t size, struct error *err)
{
    sqlite3_stmt *s = NULL;
    bool ok = sqlite3_prepare_v2(d->db, sql, -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW;
    if (ok) {
        const char *text = (const char *)sqlite3_column_text(s, 0);
        snprintf(out, size, "%s", text ? text : "");
    } else {
        journal_db__error(d, "opened", err);
    }
    sqlite3_finalize(s);
    return ok;
}

static bool check_damage(struct journal_db *d, struct error *err)
{
    struct stat st;
    char answer[128];
    if (stat(d->path, &st) != 0 || (uint64_t)st.st_size > CHECK_SIZE) {
        return true;
    }
    if (!ask(d, "PRAGMA quick_check(1)", answer, sizeof answer, err)) {
        return false;
    }
    return strcmp(answer, "ok") == 0 ||
           error_set(
               err, ERR_IO,
               "The journal '%s' is damaged (%.60s). Move it away, with its -wal and -shm, to start an empty one.",
               d->path, answer);
}

/* From one version of the schema to the next: upgrades[v - 1] makes v + 1 of v. */
static const char *const upgrades[JOURNAL_VERSION - 1] = {journal_files__schema, journal_files__schema_3};

static bool upgrade(struct journal_db *d, int64_t version, struct error *err)
{
    char set[64];
    snprintf(set, sizeof set, "PRAGMA user_version = %d", JOURNAL_VERSION);
    bool ok = exec(d, "BEGIN EXCLUSIVE", err);
    for (int64_t v = version; ok && v < JOURNAL_VERSION; v++) {
        ok = exec(d, v == 0 ? schema : upgrades[v - 1], err);
    }
    if (!ok || !exec(d, set, err) || !exec(d, "COMMIT", err)) {
        return false;
    }
    if (version > 0) {
        LOG_INFO("journal upgraded", "file=%s from=%lld to=%d", d->path, (long long)version, JOURNAL_VERSION);
    }
    return true;
}

/* An empty file gets the schema; any other must be ours; of an earlier version it gets what that lacks. */
static bool check_version(struct journal_db *d, struct error *err)
{
    char version[32], application[32], n_tables[32];
    if (!ask(d, "PRAGMA user_version", version, sizeof version, err) ||
        !ask(d, "PRAGMA application_id", application, sizeof application, err) ||
        !ask(d, "SELECT count(*) FROM sqlite_schema", n_tables, sizeof n_tables, err)) {
        return false;
    }
    if (strcmp(n_tables, "0") == 0 && strcmp(version, "0") == 0) {
        return upgrade(d, 0, err);
    }
    if (strcmp(application, APPLICATION_ID) != 0) {
        return error_set(err, ERR_INVALID, "'%s' is no journal of Tandem's; give --journal another folder.", d->path);
    }
    int64_t number = 0;
    if (!str_to_i64(str_of(version), &number) || number < 1 || number > JOURNAL_VERSION) {
        return error_set(err, ERR_INVALID,
                         "The journal '%s' has version %s; this program knows version %d. Use the program that wrote "
                         "it, or move it away, with its -wal and -shm, to start an empty one.",
                         d->path, version, JOURNAL_VERSION);
    }
    return check_damage(d, err) && (number == JOURNAL_VERSION || upgrade(d, number, err));
}

static bool prepare_statements(struct journal_db *d, struct error *err)
{
    for (int i = 0; i < STATEMENT_COUNT; i++) {
        if (sqlite3_prepare_v3(d->db, statement_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &d->statements[i], NULL) !=
            SQLITE_OK) {
            return journal_db__error(d, "opened", err);
        }
    }
    return true;
}

static int on_trace(unsigned kind, void *arg, void *statement, void *text)
{
    const struct journal_options *options = arg;
    (void)kind;
    (void)statement;
    (void)text;
    options->on_statement(options->on_statement_arg);
    return 0;
}

static bool set_up_writer(struct journal_db *d, const struct journal_options *options, struct error *err)
{
    /* auto_vacuum counts only before there is a table. Deleted prompts are overwritten where that costs nothing. */
    if (!exec(d, "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA secure_delete = FAST; PRAGMA journal_mode = WAL;", err) ||
        !exec(d,
              options->full_sync ? "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON"
                                 : "PRAGMA synchronous = NORMAL",
              err) ||
        !exec(d, "PRAGMA journal_size_limit = 16777216; PRAGMA wal_autocheckpoint = 1000;", err)) {
        return false;
    }
    if (options->on_statement) {
        sqlite3_trace_v2(d->db, SQLITE_TRACE_STMT | SQLITE_TRACE_PROFILE, on_trace, (void *)(uintptr_t)options);
    }
    return check_version(d, err) && exec(d, journal_files__tidy, err);
}

bool journal_db__open(struct journal_db *d, const struct journal_options *options, bool writes, struct error *err)
{
    char number[32];
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int n = snprintf(d->path, sizeof d->path, "%s/journal.db", options->dir);
    if (n < 0 || n >= (int)sizeof d->path) {
        return error_set(err, ERR_INVALID, "the path '%.100s...' of the journal is too long.", options->dir);
    }
    if (writes && !make_file(d->path, err)) {
        return false;
    }
    bool ok = (sqlite3_open_v2(d->path, &d->db, flags, NULL) == SQLITE_OK || journal_db__error(d, "opened", err)) &&
              exec(d,
                   "PRAGMA busy_timeout = 10000; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; "
                   "PRAGMA temp_store = MEMORY;",
                   err) &&
              (!writes || set_up_writer(d, options, err)) && (writes || exec(d, "PRAGMA query_only = ON", err)) &&
              prepare_statements(d, err) && ask(d, "PRAGMA page_size", number, sizeof number, err);
    int64_t page_size = 0;
    d->page_size = ok && str_to_i64(str_of(number), &page_size) ? (uint64_t)page_size : 4096;
    if (!ok) {
        journal_db__close(d);
    }
    return ok;
}

void journal_db__close(struct journal_db *d)
{
    for (int i = 0; i < STATEMENT_COUNT; i++) {
        sqlite3_finalize(d->statements[i]);
        d->statements[i] = NULL;
    }
    sqlite3_close(d->db);
    d->db = NULL;
}
