/* Calls that concern files and batches, and their part of the schema. */
#include "gateway/journal_internal.h"

const char journal_files__schema[] =
    "CREATE TABLE files ("
    " row INTEGER PRIMARY KEY AUTOINCREMENT,"
    " id TEXT NOT NULL UNIQUE,"
    " key_name TEXT NOT NULL,"
    " name TEXT NOT NULL,"
    " purpose TEXT NOT NULL,"
    " created INTEGER NOT NULL,"
    " expires INTEGER NOT NULL,"
    " size INTEGER NOT NULL DEFAULT 0,"
    " complete INTEGER NOT NULL DEFAULT 0"
    ") STRICT;"
    "CREATE INDEX files_by_key ON files (key_name, row);"
    "CREATE TABLE pieces ("
    " file INTEGER NOT NULL REFERENCES files (row) ON DELETE CASCADE,"
    " at INTEGER NOT NULL,"
    " data BLOB NOT NULL,"
    " sum INTEGER NOT NULL,"
    " UNIQUE (file, at)"
    ") STRICT;"
    "CREATE TABLE batches ("
    " row INTEGER PRIMARY KEY AUTOINCREMENT,"
    " id TEXT NOT NULL UNIQUE,"
    " key_name TEXT NOT NULL,"
    " endpoint TEXT NOT NULL,"
    " model TEXT NOT NULL,"
    " window TEXT NOT NULL,"
    " metadata BLOB NOT NULL,"
    " errors BLOB NOT NULL,"
    " input TEXT NOT NULL,"
    " output TEXT NOT NULL,"
    " failed TEXT NOT NULL,"
    " state TEXT NOT NULL,"
    " created INTEGER NOT NULL,"
    " expires INTEGER NOT NULL,"
    " in_progress INTEGER NOT NULL,"
    " finalizing INTEGER NOT NULL,"
    " cancelling INTEGER NOT NULL,"
    " ended INTEGER NOT NULL,"
    " keep INTEGER NOT NULL,"
    " n_total INTEGER NOT NULL,"
    " n_completed INTEGER NOT NULL,"
    " n_failed INTEGER NOT NULL,"
    " input_tokens INTEGER NOT NULL,"
    " cached_tokens INTEGER NOT NULL,"
    " output_tokens INTEGER NOT NULL,"
    " reasoning_tokens INTEGER NOT NULL,"
    " CHECK ((ended = 0) = (state IN ('validating', 'in_progress', 'finalizing', 'cancelling')))"
    ") STRICT;"
    "CREATE INDEX batches_by_key ON batches (key_name, row);"
    "CREATE INDEX batches_by_end ON batches (ended, row);";

const char journal_files__schema_3[] =
    "ALTER TABLE files ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE batches ADD COLUMN own_files INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE batches ADD COLUMN n_given_up INTEGER NOT NULL DEFAULT 0;"
    "CREATE TRIGGER batch_inputs_go AFTER UPDATE OF ended ON batches WHEN new.ended > 0 AND new.own_files BEGIN"
    " DELETE FROM files WHERE id = new.input; END;"
    "CREATE TRIGGER batch_files_go AFTER DELETE ON batches WHEN old.own_files BEGIN"
    " DELETE FROM files WHERE id IN (old.input, old.output, old.failed); END;";

const char journal_files__tidy[] = "DELETE FROM files WHERE NOT complete AND id NOT IN (SELECT output FROM batches "
                                   "UNION SELECT failed FROM batches)";

static const char *const state_names[BATCH_STATE_COUNT] = {
#define X(id, name) name,
    BATCH_STATE_TABLE(X)
#undef X
};

const char *batch_state_name(enum batch_state s)
{
    return state_names[s];
}

bool batch_state_ended(enum batch_state s)
{
    return s >= BATCH_COMPLETED;
}

/* ---- files ---- */

bool journal_file_create(struct journal *j, const struct journal_file *file, uint64_t max_total,
                         struct journal_done done, struct error *err)
{
    struct journal_op op = {.run = journal_files__create, .done = done, .file = file, .most = max_total};
    return journal__submit(j, &op, err);
}

bool journal_file_add(struct journal *j, struct str id, struct journal_piece piece, uint64_t max_total,
                      struct journal_done done, struct error *err)
{
    struct journal_op op = {.run = journal_files__add, .done = done, .id = id, .piece = piece, .most = max_total};
    return journal__submit(j, &op, err);
}

bool journal_file_finish(struct journal *j, const struct journal_file *file, struct journal_done done,
                         struct error *err)
{
    struct journal_op op = {.run = journal_files__finish, .done = done, .file = file};
    return journal__submit(j, &op, err);
}

bool journal_file_remove(struct journal *j, struct str id, struct str key_name, struct journal_done done,
                         struct error *err)
{
    struct journal_op op = {.run = journal_files__remove, .done = done, .id = id, .key_name = key_name};
    return journal__submit(j, &op, err);
}

bool journal_file_read(struct journal *j, struct str id, struct str key_name, struct journal_done done,
                       struct error *err)
{
    struct journal_op op = {.run = journal_files__read, .reads = true, .done = done, .id = id, .key_name = key_name};
    return journal__submit(j, &op, err);
}

bool journal_file_list(struct journal *j, const struct journal_file_query *query, struct journal_done done,
                       struct error *err)
{
    struct journal_op op = {.run = journal_files__list, .reads = true, .done = done, .query = query};
    return journal__submit(j, &op, err);
}

bool journal_file_pieces(struct journal *j, struct str id, struct str key_name, uint64_t from, uint64_t most,
                         struct journal_done done, struct error *err)
{
    struct journal_op op = {.run = journal_files__pieces,
                            .reads = true,
                            .done = done,
                            .id = id,
                            .key_name = key_name,
                            .from = from,
                            .most = most};
    return journal__submit(j, &op, err);
}

/* ---- batches ---- */

bool journal_batch_insert(struct journal *j, const struct journal_batch *batch, struct journal_done done,
                          struct error *err)
{
    struct journal_op op = {.run = journal_batches__insert, .done = done, .batch = batch};
    return journal__submit(j, &op, err);
}

bool journal_batch_update(struct journal *j, const struct journal_batch_update *update, struct journal_done done,
                          struct error *err)
{
    struct journal_op op = {.run = journal_batches__update, .done = done, .batch_update = update};
    return journal__submit(j, &op, err);
}

bool journal_batch_read(struct journal *j, struct str id, struct str key_name, struct journal_done done,
                        struct error *err)
{
    struct journal_op op = {.run = journal_batches__read, .reads = true, .done = done, .id = id, .key_name = key_name};
    return journal__submit(j, &op, err);
}

bool journal_batch_create(struct journal *j, const struct journal_batch *batch, const struct journal_batch_input *input,
                          struct journal_done done, struct error *err)
{
    struct journal_op op = {.run = journal_batches__create, .done = done, .batch = batch, .batch_input = input};
    return journal__submit(j, &op, err);
}

bool journal_batch_remove(struct journal *j, struct str id, struct str key_name, struct journal_done done,
                          struct error *err)
{
    struct journal_op op = {.run = journal_batches__remove, .done = done, .id = id, .key_name = key_name};
    return journal__submit(j, &op, err);
}

bool journal_batch_list(struct journal *j, const struct journal_batch_query *query, struct journal_done done,
                        struct error *err)
{
    struct journal_op op = {.run = journal_batches__list, .reads = true, .done = done, .batch_query = query};
    return journal__submit(j, &op, err);
}

bool journal_batch_unfinished(struct journal *j, struct journal_done done, struct error *err)
{
    struct journal_op op = {.run = journal_batches__list, .reads = true, .done = done};
    return journal__submit(j, &op, err);
}

bool journal_batch_rows(struct journal *j, struct str id, struct journal_done done, struct error *err)
{
    struct journal_op op = {.run = journal_batches__rows, .reads = true, .done = done, .id = id};
    return journal__submit(j, &op, err);
}
