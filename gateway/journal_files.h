/* Files and batches in the journal's database (journal.h): files in pieces, so that none lies in memory whole, and
 * batches of requests with what became of each of them. The journal knows of their bytes only how many there are.
 *
 *     journal_file_create(j, &file, done)      incomplete: nobody sees it
 *     journal_file_add(j, id, at, bytes, done) a piece each; in order of `at`
 *     journal_file_finish(j, &file, done)      with its name, purpose and end
 *     journal_file_pieces(j, id, key, from, most, done)     reads some of them
 *
 * The output of a batch is a file whose pieces are its rows: `at` is the row's number in the input, so no row can be in
 * it twice, whenever the program ends. Calls, answers, threads and ownership are as in journal.h; the answers' fields
 * are `files`, `batches`, `pieces` and `numbers`. */
#ifndef TANDEM_GATEWAY_JOURNAL_FILES_H
#define TANDEM_GATEWAY_JOURNAL_FILES_H

#include "gateway/journal.h"

struct journal_file {
    struct str id, key_name, name, purpose;
    int64_t created_s, expires_s; /* expires_s 0: never */
    uint64_t size;
    bool hidden; /* a batch's own: journal_file_read, _list and _remove do not find it; nobody is told its id */
};

struct journal_piece {
    uint64_t at;
    struct str data;
};

struct journal_batch {
    struct str id, key_name, endpoint, model, window, metadata, errors; /* metadata, errors: JSON, or empty */
    struct str input, output, failed; /* ids of files; the last two are made with their first row */
    enum batch_state state;
    int64_t created_s, expires_s, in_progress_s, finalizing_s, cancelling_s, ended_s; /* 0: not yet */
    int64_t keep_s;                                                                   /* how long its files are kept */
    uint64_t n_total, n_completed, n_failed;
    uint64_t n_given_up; /* of those that failed: their time was over, or they were cancelled */
    bool own_files;      /* its files are hidden: the input goes when it has ended, the others with the batch */
    uint64_t input_tokens, cached_tokens, output_tokens, reasoning_tokens;
};

/* ---- files ---- */

/* A new one, incomplete. max_total: bytes that all files may have together; TOO_LARGE: they have. */
NODISCARD bool journal_file_create(struct journal *j, const struct journal_file *file, uint64_t max_total,
                                   struct journal_done done, struct error *err);
/* TOO_LARGE as above; OVERLOADED: the journal is full; NOT_FOUND: it is gone. */
NODISCARD bool journal_file_add(struct journal *j, struct str id, struct journal_piece piece, uint64_t max_total,
                                struct journal_done done, struct error *err);
NODISCARD bool journal_file_finish(struct journal *j, const struct journal_file *file, struct journal_done done,
                                   struct error *err);
/* NOT_FOUND; INVALID: a batch that has not ended needs it. key_name {NULL, 0}: one that is incomplete. */
NODISCARD bool journal_file_remove(struct journal *j, struct str id, struct str key_name, struct journal_done done,
                                   struct error *err);

NODISCARD bool journal_file_read(struct journal *j, struct str id, struct str key_name, struct journal_done done,
                                 struct error *err);
struct journal_file_query {
    struct str key_name, purpose, after; /* purpose empty: any; after: behind the one with that id */
    uint32_t limit;
    bool oldest_first;
};
NODISCARD bool journal_file_list(struct journal *j, const struct journal_file_query *query, struct journal_done done,
                                 struct error *err);
/* Pieces with `at` of at least from, as many as have `most` bytes together, at least one; `more`: there are others.
 * key_name {NULL, 0}: of any key, complete or not. IO: one is damaged. */
NODISCARD bool journal_file_pieces(struct journal *j, struct str id, struct str key_name, uint64_t from, uint64_t most,
                                   struct journal_done done, struct error *err);

/* ---- batches ---- */

/* A new one. NOT_FOUND: its input is no complete file of its key. */
NODISCARD bool journal_batch_insert(struct journal *j, const struct journal_batch *batch, struct journal_done done,
                                    struct error *err);
/* A new one with own_files, and its input: pieces as journal_file_add takes them. Both are there, or neither.
 * TOO_LARGE, OVERLOADED as with files. */
struct journal_batch_input {
    const struct journal_piece *pieces; /* [n] */
    size_t n;
    uint64_t max_total; /* bytes that all files may have together */
};
NODISCARD bool journal_batch_create(struct journal *j, const struct journal_batch *batch,
                                    const struct journal_batch_input *input, struct journal_done done,
                                    struct error *err);
/* One with own_files. NOT_FOUND; INVALID: it has not ended. */
NODISCARD bool journal_batch_remove(struct journal *j, struct str id, struct str key_name, struct journal_done done,
                                    struct error *err);
struct journal_batch_update {
    struct journal_batch batch;            /* all of it as it is now */
    const struct journal_piece *completed; /* [n_completed] rows that go to its output ... */
    const struct journal_piece *failed;    /* [n_failed] ... and to its file of errors */
    size_t n_completed, n_failed;
};
/* In one transaction. A batch that is gone is passed over. When it ends, its files are complete. */
NODISCARD bool journal_batch_update(struct journal *j, const struct journal_batch_update *update,
                                    struct journal_done done, struct error *err);
NODISCARD bool journal_batch_read(struct journal *j, struct str id, struct str key_name, struct journal_done done,
                                  struct error *err);
struct journal_batch_query {
    struct str key_name, from; /* from empty: from the first */
    uint32_t limit;
    bool own_files; /* those that have, or those that have not */
    bool before;    /* those right before the one with the id `from`, else those behind it */
};
/* Newest first. `more`: there are others, that way. */
NODISCARD bool journal_batch_list(struct journal *j, const struct journal_batch_query *query, struct journal_done done,
                                  struct error *err);
/* Those of all keys that have not ended, oldest first. */
NODISCARD bool journal_batch_unfinished(struct journal *j, struct journal_done done, struct error *err);
/* `numbers`: the rows that are in its output or its file of errors, in no order. */
NODISCARD bool journal_batch_rows(struct journal *j, struct str id, struct journal_done done, struct error *err);

#endif
