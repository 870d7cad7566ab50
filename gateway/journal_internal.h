/* Shared by the files of the journal only:
 *
 *     journal.c        calls, threads, answers
 *     journal_db.c     the file: opening, checking, schema, statements
 *     journal_write.c  what the writing thread does in a transaction
 *     journal_read.c   what the reading thread answers
 *     journal_files.c, journal_files_read.c, journal_files_write.c
 *                      the same for files and batches (journal_files.h) */
#ifndef TANDEM_GATEWAY_JOURNAL_INTERNAL_H
#define TANDEM_GATEWAY_JOURNAL_INTERNAL_H

#include "gateway/journal_files.h"

#include <pthread.h>
#include <sqlite3.h>

#define JOURNAL_VERSION 3 /* of the schema: PRAGMA user_version */

/* X(id, SQL) */
#define JOURNAL_COLUMNS                                                                                         \
    "row, id, route, key_name, model, fingerprint, resumed_from, reason, details, state, background, created, " \
    "finished, expires, seed, size, n_tokens, error_code, error_param, error_message, starts"
#define JOURNAL_STATEMENT_TABLE(X)                                                                                    \
    X(BEGIN, "BEGIN IMMEDIATE")                                                                                       \
    X(COMMIT, "COMMIT")                                                                                               \
    X(ROLLBACK, "ROLLBACK")                                                                                           \
    X(INSERT, "INSERT INTO requests (id, route, key_name, model, details, state, background, created, expires, "      \
              "seed, size) VALUES (?1, ?2, ?3, ?4, ?5, 'queued', ?6, ?7, ?8, ?9, ?10)")                               \
    X(PUT_BLOB, "INSERT INTO blobs (request, kind, data, sum) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (request, kind) "   \
                "DO UPDATE SET data = excluded.data, sum = excluded.sum")                                             \
    X(ROW_OF, "SELECT row FROM requests WHERE id = ?1")                                                               \
    X(UPDATE,                                                                                                         \
      "UPDATE requests SET state = ?2, fingerprint = ?3, resumed_from = ?4, reason = ?5, details = ?6, "              \
      "n_tokens = ?7, error_code = ?8, error_param = ?9, error_message = ?10, size = size + ?11, "                    \
      "finished = ?12, expires = coalesce(?13, expires), starts = CASE WHEN ?14 OR ?7 > n_tokens THEN 0 ELSE starts " \
      "END WHERE row = ?1")                                                                                           \
    X(PUT_TOKENS, "INSERT INTO tokens (request, prompt, choice, first, n, data, finish, stop_id, sum) VALUES "        \
                  "(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (request, prompt, choice, first) DO UPDATE SET "  \
                  "n = excluded.n, data = excluded.data, finish = excluded.finish, stop_id = excluded.stop_id, "      \
                  "sum = excluded.sum")                                                                               \
    X(COUNT_START, "UPDATE requests SET starts = starts + 1 WHERE row = ?1")                                          \
    X(UPDATE_STATE, "UPDATE requests SET state = ?2, reason = ?5, error_code = ?8, error_param = ?9, "                \
                    "error_message = ?10, finished = ?12, expires = coalesce(?13, expires), starts = CASE WHEN ?14 "  \
                    "THEN 0 ELSE starts END WHERE row = ?1")                                                          \
    X(FORGET_TOKENS, "DELETE FROM tokens WHERE request = ?1")                                                         \
    X(REMOVE, "DELETE FROM requests WHERE id = ?1 AND key_name = ?2 AND finished IS NOT NULL")                        \
    X(DROP_OLDEST, "DELETE FROM requests WHERE row IN (SELECT row FROM requests WHERE finished IS NOT NULL ORDER BY " \
                   "finished, row LIMIT 1)")                                                                          \
    X(DROP_EXPIRED, "DELETE FROM requests WHERE row IN (SELECT row FROM requests WHERE finished IS NOT NULL AND "     \
                    "finished < ?1 ORDER BY finished LIMIT 64)")                                                      \
    X(TOUCH, "UPDATE upkeep SET at = ?1")                                                                             \
    X(VACUUM, "PRAGMA incremental_vacuum(256)")                                                                       \
    X(PAGE_COUNT, "PRAGMA page_count")                                                                                \
    X(FREE_PAGES, "PRAGMA freelist_count")                                                                            \
    X(COUNT_STATES, "SELECT state, count(*) FROM requests GROUP BY state")                                            \
    X(READ, "SELECT " JOURNAL_COLUMNS " FROM requests WHERE id = ?1 AND (?2 IS NULL OR key_name = ?2)")               \
    X(READ_BLOB, "SELECT data, sum FROM blobs WHERE request = ?1 AND kind = ?2")                                      \
    X(READ_TOKENS, "SELECT prompt, choice, first, n, data, finish, stop_id, sum FROM tokens WHERE request = ?1 "      \
                   "ORDER BY prompt, choice, first")                                                                  \
    X(LIST, "SELECT " JOURNAL_COLUMNS " FROM requests WHERE key_name = ?1 AND (?2 = '' OR row < (SELECT row FROM "    \
            "requests WHERE id = ?2 AND key_name = ?1)) ORDER BY row DESC LIMIT ?3")                                  \
    X(UNFINISHED, "SELECT " JOURNAL_COLUMNS " FROM requests WHERE finished IS NULL AND (?1 = '' OR row > (SELECT "    \
                  "row FROM requests WHERE id = ?1)) ORDER BY row LIMIT ?2")
#define FILE_COLUMNS "id, key_name, name, purpose, created, expires, size"
#define BATCH_COLUMNS                                                                                           \
    "id, key_name, endpoint, model, window, metadata, errors, input, output, failed, state, created, expires, " \
    "in_progress, finalizing, cancelling, ended, keep, n_total, n_completed, n_failed, input_tokens, "          \
    "cached_tokens, output_tokens, reasoning_tokens, own_files, n_given_up"
/* The end of one in the order of `row`, behind that with the id ?3. */
#define FILES_BEHIND(compare, order)                                                                       \
    "SELECT " FILE_COLUMNS                                                                                 \
    " FROM files WHERE key_name = ?1 AND complete AND NOT hidden AND (?2 = '' OR purpose = ?2) AND (?3 = " \
    "'' OR row " compare " (SELECT row FROM files WHERE id = ?3 AND key_name = ?1)) ORDER BY row " order " LIMIT ?4"
#define BATCHES_FROM(compare, order)                                                                            \
    "SELECT " BATCH_COLUMNS " FROM batches WHERE key_name = ?1 AND own_files = ?2 AND (?3 = '' OR row " compare \
    " (SELECT row FROM batches WHERE id = ?3 AND key_name = ?1)) ORDER BY row " order " LIMIT ?4"
#define JOURNAL_FILE_STATEMENT_TABLE(X)                                                                            \
    X(FILE_INSERT,                                                                                                 \
      "INSERT OR IGNORE INTO files (id, key_name, name, purpose, created, expires, hidden) VALUES (?1, ?2, "       \
      "?3, ?4, ?5, ?6, ?7)")                                                                                       \
    X(FILE_TOTAL, "SELECT coalesce(sum(size), 0) FROM files")                                                      \
    X(FILE_ROW, "SELECT row FROM files WHERE id = ?1 AND (?2 IS NULL OR (key_name = ?2 AND complete))")            \
    X(FILE_GROW, "UPDATE files SET size = size + ?2 WHERE row = ?1")                                               \
    X(FILE_FINISH, "UPDATE files SET name = ?2, purpose = ?3, expires = ?4, complete = 1 WHERE id = ?1")           \
    X(FILE_COMPLETE, "UPDATE files SET complete = 1, created = ?2, expires = ?3 WHERE id = ?1 AND NOT complete")   \
    X(FILE_USED, "SELECT id FROM batches WHERE ended = 0 AND input = ?1 LIMIT 1")                                  \
    X(FILE_REMOVE, "DELETE FROM files WHERE id = ?1 AND CASE WHEN ?2 IS NULL THEN NOT complete ELSE key_name = "   \
                   "?2 AND complete AND NOT hidden END")                                                           \
    X(FILES_EXPIRE, "DELETE FROM files WHERE row IN (SELECT row FROM files WHERE complete AND expires > 0 AND "    \
                    "expires <= ?1 AND id NOT IN (SELECT input FROM batches WHERE ended = 0) LIMIT 16)")           \
    X(FILES_COUNT, "SELECT count(*), coalesce(sum(size), 0) FROM files WHERE complete")                            \
    X(FILE_READ, "SELECT " FILE_COLUMNS " FROM files WHERE id = ?1 AND key_name = ?2 AND complete AND NOT hidden") \
    X(FILES_NEWEST, FILES_BEHIND("<", "DESC"))                                                                     \
    X(FILES_OLDEST, FILES_BEHIND(">", "ASC"))                                                                      \
    X(PIECE_PUT, "INSERT OR IGNORE INTO pieces (file, at, data, sum) VALUES (?1, ?2, ?3, ?4)")                     \
    X(PIECES, "SELECT at, data, sum FROM pieces WHERE file = ?1 AND at >= ?2 ORDER BY at")                         \
    X(BATCH_INSERT, "INSERT INTO batches (" BATCH_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, "    \
                    "?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27)")        \
    X(BATCH_UPDATE, "UPDATE batches SET model = ?4, errors = ?7, state = ?11, in_progress = ?14, finalizing = "    \
                    "?15, cancelling = ?16, ended = ?17, n_total = ?19, n_completed = ?20, n_failed = ?21, "       \
                    "input_tokens = ?22, cached_tokens = ?23, output_tokens = ?24, reasoning_tokens = ?25, "       \
                    "n_given_up = ?27 WHERE id = ?1")                                                              \
    X(BATCH_READ, "SELECT " BATCH_COLUMNS " FROM batches WHERE id = ?1 AND key_name = ?2")                         \
    X(BATCHES_BEHIND, BATCHES_FROM("<", "DESC"))                                                                   \
    X(BATCHES_BEFORE, BATCHES_FROM(">", "ASC"))                                                                    \
    X(BATCH_REMOVE, "DELETE FROM batches WHERE id = ?1 AND key_name = ?2 AND own_files AND ended > 0")             \
    X(BATCH_UNFINISHED, "SELECT " BATCH_COLUMNS " FROM batches WHERE ended = 0 ORDER BY row")                      \
    X(BATCH_ROWS, "SELECT at FROM pieces WHERE file IN (SELECT row FROM files WHERE id IN (SELECT output FROM "    \
                  "batches WHERE id = ?1 UNION SELECT failed FROM batches WHERE id = ?1))")                        \
    X(BATCHES_EXPIRE, "DELETE FROM batches WHERE row IN (SELECT row FROM batches WHERE ended > 0 AND ended < ?1 "  \
                      "LIMIT 64)")                                                                                 \
    X(BATCHES_COUNT, "SELECT state, count(*) FROM batches GROUP BY state")
enum journal_statement {
#define X(id, sql) STATEMENT_##id,
    JOURNAL_STATEMENT_TABLE(X) JOURNAL_FILE_STATEMENT_TABLE(X)
#undef X
        STATEMENT_COUNT
};

/* ---- journal_db.c: one connection, owned by one thread at a time ---- */

struct journal_db {
    sqlite3 *db;
    sqlite3_stmt *statements[STATEMENT_COUNT];
    char path[1024];
    uint64_t page_size;
};

NODISCARD bool journal_db__open(struct journal_db *d, const struct journal_options *options, bool writes,
                                struct error *err);
void journal_db__close(struct journal_db *d);
/* Sets *err to UNAVAILABLE (or IO where the file is damaged) with what SQLite says; false. */
bool journal_db__error(const struct journal_db *d, const char *doing, struct error *err);

/* A statement ready for its values; journal_db__done when it was stepped through. */
sqlite3_stmt *journal_db__statement(struct journal_db *d, enum journal_statement which);
void journal_db__done(sqlite3_stmt *s);
NODISCARD bool journal_db__run(struct journal_db *d, sqlite3_stmt *s, struct error *err); /* to its end, and done */
NODISCARD bool journal_db__number(struct journal_db *d, enum journal_statement which, uint64_t *out, struct error *err);
void journal_db__bind_str(sqlite3_stmt *s, int at, struct str value);  /* as text; not copied */
void journal_db__bind_blob(sqlite3_stmt *s, int at, struct str value); /* likewise, as bytes */
void journal_db__bind_int(sqlite3_stmt *s, int at, int64_t value);

int64_t journal__sum(int64_t row, struct str data); /* of a blob */
int64_t journal__tokens_sum(int64_t row, const struct journal_tokens *t);

/* ---- operations ---- */

struct journal_op;

enum journal_outcome {
    OP_OK,
    OP_REFUSED, /* answer.error says why; nothing was written */
    OP_BROKEN   /* likewise, and the whole transaction failed */
};

struct journal_op {
    enum journal_outcome (*run)(struct journal *j, struct journal_op *op);
    bool reads; /* on the reading thread */
    struct journal_done done;
    struct journal_answer answer;
    /* its input, as the calls were given it */
    struct journal_meta meta;
    struct str id, key_name, after, body;
    const struct journal_update *updates;
    size_t n_updates;
    int parts;
    uint32_t limit;
    const struct journal_file *file;
    const struct journal_file_query *query;
    const struct journal_batch *batch;
    const struct journal_batch_update *batch_update;
    const struct journal_batch_input *batch_input;
    const struct journal_batch_query *batch_query;
    struct journal_piece piece;
    uint64_t from, most;
    /* what else came of it */
    uint64_t n_dropped, n_damaged, n_size;
    bool has_counts, has_total, committed; /* has_total: all_file_size */
    uint64_t counts[JOURNAL_STATE_COUNT], batches[BATCH_STATE_COUNT], files, file_size, all_file_size;
};

struct journal {
    struct journal_options options;
    int lock_fd;
    struct journal_db writer, reader;       /* each its thread's */
    struct queue *writes, *reads, *answers; /* of struct journal_op * */
    struct loop_signal *signal;
    struct loop_timer *timer;
    pthread_t write_thread, read_thread;
    bool writing, reading; /* the threads run */
    /* the loop's: */
    size_t n_in_flight;
    bool upkeep_in_flight, logged;
    struct error failure; /* code NONE: none */
    int64_t failed_ms;
    struct journal_stats stats;
};

/* Puts an operation into its queue. */
NODISCARD bool journal__submit(struct journal *j, const struct journal_op *what, struct error *err);

enum journal_outcome journal_write__insert(struct journal *j, struct journal_op *op);
enum journal_outcome journal_write__update(struct journal *j, struct journal_op *op);
enum journal_outcome journal_write__remove(struct journal *j, struct journal_op *op);
enum journal_outcome journal_write__upkeep(struct journal *j, struct journal_op *op);
/* Runs the operations in one transaction; each has its answer after it. */
void journal_write__group(struct journal *j, struct journal_op **ops, size_t n);

/* Drops finished requests, oldest first, until `more` bytes fit or none is left. */
NODISCARD bool journal_write__make_room(struct journal *j, struct journal_op *op, uint64_t more, bool *fits,
                                        struct error *err);
/* What is too old of files and batches; how many there are, with the states of batches. */
NODISCARD bool journal_files__drop_expired(struct journal *j, struct journal_op *op, struct error *err);
NODISCARD bool journal_files__count(struct journal *j, struct journal_op *op, struct error *err);
extern const char journal_files__schema[];   /* what version 2 has more than version 1 */
extern const char journal_files__schema_3[]; /* and version 3 more than that */
extern const char journal_files__tidy[];     /* at the start: files whose upload was cut off go */

enum journal_outcome journal_files__create(struct journal *j, struct journal_op *op);
enum journal_outcome journal_files__add(struct journal *j, struct journal_op *op);
enum journal_outcome journal_files__finish(struct journal *j, struct journal_op *op);
enum journal_outcome journal_files__remove(struct journal *j, struct journal_op *op);
enum journal_outcome journal_batches__insert(struct journal *j, struct journal_op *op);
enum journal_outcome journal_batches__create(struct journal *j, struct journal_op *op);
enum journal_outcome journal_batches__remove(struct journal *j, struct journal_op *op);
enum journal_outcome journal_batches__update(struct journal *j, struct journal_op *op);
enum journal_outcome journal_files__read(struct journal *j, struct journal_op *op);
enum journal_outcome journal_files__list(struct journal *j, struct journal_op *op);
enum journal_outcome journal_files__pieces(struct journal *j, struct journal_op *op);
enum journal_outcome journal_batches__read(struct journal *j, struct journal_op *op);
enum journal_outcome journal_batches__list(struct journal *j, struct journal_op *op);
enum journal_outcome journal_batches__rows(struct journal *j, struct journal_op *op);
int64_t journal_files__sum(int64_t file, const struct journal_piece *piece);
/* The row of a file; key_name {NULL, 0}: of any key, complete or not. 0: there is none. */
NODISCARD bool journal_files__row(struct journal_db *d, struct str id, struct str key_name, int64_t *row,
                                  struct error *err);
sqlite3_stmt *journal_files__find(struct journal_db *d, struct str id, struct str key_name); /* likewise, not stepped */
void journal_files__missing(const char *what, struct str id, struct error *err);             /* NOT_FOUND */

#define JOURNAL_RECORD_MAX MIB(512) /* memory of an answer */

enum journal_outcome journal_read__one(struct journal *j, struct journal_op *op);
enum journal_outcome journal_read__list(struct journal *j, struct journal_op *op);
enum journal_outcome journal_read__unfinished(struct journal *j, struct journal_op *op);

#endif
