/* Files and batches in the journal: what is put in comes out, of its key only; limits; a row is in an output once; what
 * a cut-off upload leaves goes; a database of the version before is taken over. */
#include "gateway/journal_files.h"

#include "base/clock.h"
#include "tests/support/journal_user.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Of a call that was accepted. */
static enum error_code wait_accepted(struct fixture *f, bool accepted)
{
    assert_true(accepted);
    bool ok = wait_done(f);
    assert_int_equal(ok, f->answer.error.code == ERR_NONE);
    return f->answer.error.code;
}

static void reopen(struct fixture *f)
{
    journal_close(f->journal);
    open_journal(f);
}

static int setup_short_upkeep(void **state)
{
    int status = setup(state);
    ((struct fixture *)*state)->options.upkeep_ms = 20;
    return status;
}

static void sql(struct fixture *f, const char *text)
{
    sqlite3 *db;
    char path[1024];
    snprintf(path, sizeof path, "%s/journal.db", f->dir.path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* ---- files ---- */

static enum error_code create(struct fixture *f, const char *id, uint64_t max)
{
    struct error err = {0};
    struct journal_file file = {
        .id = str_of(id), .key_name = STR("key"), .name = STR(""), .purpose = STR(""), .created_s = 5};
    return wait_accepted(f, journal_file_create(f->journal, &file, max, done_of(f), &err));
}

static enum error_code add(struct fixture *f, const char *id, uint64_t at, const char *text, uint64_t max)
{
    struct error err = {0};
    struct journal_piece piece = {at, str_of(text)};
    return wait_accepted(f, journal_file_add(f->journal, str_of(id), piece, max, done_of(f), &err));
}

static enum error_code finish(struct fixture *f, const char *id, int64_t expires_s)
{
    struct error err = {0};
    struct journal_file file = {
        .id = str_of(id), .name = STR("n\xc3\xa9"), .purpose = STR("batch"), .expires_s = expires_s};
    return wait_accepted(f, journal_file_finish(f->journal, &file, done_of(f), &err));
}

static void make_file(struct fixture *f, const char *id, const char *text)
{
    assert_int_equal(create(f, id, 0), ERR_NONE);
    assert_int_equal(add(f, id, 0, text, 0), ERR_NONE);
    assert_int_equal(finish(f, id, 0), ERR_NONE);
}

static enum error_code read_file(struct fixture *f, const char *id, const char *key)
{
    struct error err = {0};
    return wait_accepted(f, journal_file_read(f->journal, str_of(id), str_of(key), done_of(f), &err));
}

static enum error_code pieces(struct fixture *f, const char *id, uint64_t from, uint64_t most)
{
    struct error err = {0};
    return wait_accepted(f, journal_file_pieces(f->journal, str_of(id), STR("key"), from, most, done_of(f), &err));
}

static enum error_code remove_file(struct fixture *f, const char *id, const char *key)
{
    struct error err = {0};
    struct str name = key ? str_of(key) : (struct str){0};
    return wait_accepted(f, journal_file_remove(f->journal, str_of(id), name, done_of(f), &err));
}

static void test_files(void **state)
{
    struct fixture *f = *state;
    open_journal(f);
    assert_int_equal(create(f, "f1", 0), ERR_NONE);
    assert_int_equal(add(f, "f1", 0, "abc", 0), ERR_NONE);
    assert_int_equal(add(f, "f1", 1, "de", 0), ERR_NONE);
    assert_int_equal(add(f, "f1", 1, "XX", 0), ERR_NONE); /* it is there already: it stays */
    assert_int_equal(add(f, "f9", 0, "x", 0), ERR_NOT_FOUND);
    assert_int_equal(read_file(f, "f1", "key"), ERR_NOT_FOUND); /* not complete */
    assert_int_equal(pieces(f, "f1", 0, 100), ERR_NOT_FOUND);
    assert_int_equal(remove_file(f, "f1", "key"), ERR_NOT_FOUND);
    assert_int_equal(finish(f, "f1", 77), ERR_NONE);
    assert_int_equal(finish(f, "f9", 77), ERR_NOT_FOUND);
    assert_int_equal(read_file(f, "f1", "other"), ERR_NOT_FOUND);
    reopen(f);
    run_for(f, 60);
    assert_int_equal(read_file(f, "f1", "key"), ERR_NOT_FOUND); /* it has expired meanwhile, in 1970 */
    make_file(f, "f2", "abc");
    assert_int_equal(add(f, "f2", 7, "de", 0), ERR_NONE);
    assert_int_equal(read_file(f, "f2", "key"), ERR_NONE);
    const struct journal_file *file = &f->answer.files[0];
    assert_true(file->size == 5 && file->created_s == 5 && str_eq(file->name, STR("n\xc3\xa9")));
    assert_int_equal(pieces(f, "f2", 0, 4), ERR_NONE);
    assert_true(f->answer.n == 1 && f->answer.more && str_eq(f->answer.pieces[0].data, STR("abc")));
    assert_int_equal(pieces(f, "f2", 1, 4), ERR_NONE);
    assert_true(f->answer.n == 1 && !f->answer.more && f->answer.pieces[0].at == 7);
    assert_int_equal(pieces(f, "f2", 0, 5), ERR_NONE);
    assert_true(f->answer.n == 2 && !f->answer.more);
    assert_int_equal(pieces(f, "f2", 8, 5), ERR_NONE);
    assert_int_equal(f->answer.n, 0);
    assert_int_equal(remove_file(f, "f2", "other"), ERR_NOT_FOUND);
    assert_int_equal(remove_file(f, "f2", NULL), ERR_NOT_FOUND); /* that is for incomplete ones */
    assert_int_equal(remove_file(f, "f2", "key"), ERR_NONE);
    assert_int_equal(read_file(f, "f2", "key"), ERR_NOT_FOUND);
}

static void test_limits_and_leftovers(void **state)
{
    struct fixture *f = *state;
    open_journal(f);
    make_file(f, "f1", "12345");
    assert_int_equal(create(f, "f2", 10), ERR_NONE);
    assert_int_equal(add(f, "f2", 0, "12345", 10), ERR_NONE);
    assert_int_equal(journal_stats(f->journal).all_file_size, 10);
    assert_int_equal(add(f, "f2", 1, "6", 10), ERR_TOO_LARGE); /* incomplete ones count too */
    assert_non_null(strstr(f->answer.error.msg, "--files-max-mb"));
    assert_int_equal(create(f, "f3", 9), ERR_TOO_LARGE);
    reopen(f);
    assert_int_equal(add(f, "f2", 1, "6", 0), ERR_NOT_FOUND); /* the upload was cut off */
    assert_int_equal(remove_file(f, "f2", NULL), ERR_NOT_FOUND);
    assert_int_equal(read_file(f, "f1", "key"), ERR_NONE);
    f->options.max_size = 1;
    reopen(f);
    assert_int_equal(create(f, "f4", 0), ERR_OVERLOADED);
    assert_int_equal(read_file(f, "f1", "key"), ERR_NONE); /* files do not make room for others */
}

static void test_damage_is_found(void **state)
{
    struct fixture *f = *state;
    open_journal(f);
    make_file(f, "f1", "12345");
    journal_close(f->journal);
    sql(f, "UPDATE pieces SET data = CAST('12346' AS BLOB)");
    open_journal(f);
    assert_int_equal(pieces(f, "f1", 0, 10), ERR_IO);
    assert_int_equal(journal_stats(f->journal).damaged, 1);
}

static void test_lists(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    char id[16];
    open_journal(f);
    for (int i = 1; i <= 7; i++) {
        snprintf(id, sizeof id, "f%d", i);
        make_file(f, id, "x");
    }
    assert_int_equal(create(f, "f8", 0), ERR_NONE); /* is in none */
    for (int oldest = 0; oldest < 2; oldest++) {
        struct journal_file_query q = {.key_name = STR("key"),
                                       .purpose = oldest ? STR("batch") : STR(""),
                                       .after = STR(""),
                                       .limit = 3,
                                       .oldest_first = oldest};
        char after[16] = "";
        int n = 0;
        do {
            q.after = str_of(after);
            assert_int_equal(wait_accepted(f, journal_file_list(f->journal, &q, done_of(f), &err)), ERR_NONE);
            for (size_t i = 0; i < f->answer.n; i++) {
                n++;
                snprintf(id, sizeof id, "f%d", oldest ? n : 8 - n);
                assert_true(str_eq(f->answer.files[i].id, str_of(id)));
            }
            snprintf(after, sizeof after, "%s", id);
        } while (f->answer.more);
        assert_int_equal(n, 7);
        q.purpose = STR("other");
        q.after = STR("");
        assert_int_equal(wait_accepted(f, journal_file_list(f->journal, &q, done_of(f), &err)), ERR_NONE);
        assert_int_equal(f->answer.n, 0);
    }
    run_for(f, 60);
    assert_true(journal_stats(f->journal).files == 7 && journal_stats(f->journal).file_size == 7);
}

/* ---- batches ---- */

static struct journal_batch batch_of(const char *id, enum batch_state state)
{
    return (struct journal_batch){.id = str_of(id),
                                  .key_name = STR("key"),
                                  .endpoint = STR("/v1/x"),
                                  .model = STR("m"),
                                  .window = STR("24h"),
                                  .metadata = STR("{}"),
                                  .errors = STR(""),
                                  .input = STR("in"),
                                  .output = STR("out"),
                                  .failed = STR("bad"),
                                  .state = state,
                                  .created_s = 1,
                                  .expires_s = 2,
                                  .ended_s = batch_state_ended(state) ? clock_wall_s() : 0,
                                  .keep_s = 3600,
                                  .n_total = 3};
}

static enum error_code insert(struct fixture *f, const char *id)
{
    struct error err = {0};
    struct journal_batch b = batch_of(id, BATCH_VALIDATING);
    return wait_accepted(f, journal_batch_insert(f->journal, &b, done_of(f), &err));
}

static void save(struct fixture *f, enum batch_state state, struct journal_piece good, struct journal_piece bad)
{
    struct error err = {0};
    struct journal_batch_update u = {.batch = batch_of("b1", state),
                                     .completed = &good,
                                     .n_completed = good.data.len > 0,
                                     .failed = &bad,
                                     .n_failed = bad.data.len > 0};
    u.batch.n_completed = 1;
    u.batch.output_tokens = 9;
    assert_int_equal(wait_accepted(f, journal_batch_update(f->journal, &u, done_of(f), &err)), ERR_NONE);
}

static void list_batches(struct fixture *f, struct journal_batch_query query)
{
    struct error err = {0};
    query.key_name = STR("key");
    assert_int_equal(wait_accepted(f, journal_batch_list(f->journal, &query, done_of(f), &err)), ERR_NONE);
}

static void test_batches(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct journal_piece none = {0};
    open_journal(f);
    assert_int_equal(insert(f, "b1"), ERR_NOT_FOUND); /* its input */
    make_file(f, "in", "x");
    assert_int_equal(insert(f, "b1"), ERR_NONE);
    assert_int_equal(remove_file(f, "in", "key"), ERR_INVALID);
    save(f, BATCH_IN_PROGRESS, (struct journal_piece){2, STR("two\n")}, (struct journal_piece){0, STR("bad\n")});
    save(f, BATCH_IN_PROGRESS, (struct journal_piece){2, STR("two again\n")}, none);
    assert_int_equal(pieces(f, "out", 0, 100), ERR_NOT_FOUND); /* not before the end */
    reopen(f);
    assert_int_equal(wait_accepted(f, journal_batch_unfinished(f->journal, done_of(f), &err)), ERR_NONE);
    assert_int_equal(f->answer.n, 1);
    const struct journal_batch *b = &f->answer.batches[0];
    assert_true(b->state == BATCH_IN_PROGRESS && b->n_total == 3 && b->n_completed == 1 && b->output_tokens == 9);
    assert_true(b->keep_s == 3600 && str_eq(b->metadata, STR("{}")) && str_eq(b->window, STR("24h")));
    assert_int_equal(wait_accepted(f, journal_batch_rows(f->journal, STR("b1"), done_of(f), &err)), ERR_NONE);
    assert_int_equal(f->answer.n, 2);
    assert_true(f->answer.numbers[0] + f->answer.numbers[1] == 2);
    run_for(f, 60);
    assert_true(journal_stats(f->journal).file_size == 1 && journal_stats(f->journal).all_file_size == 9);
    journal_close(f->journal);
    sql(f, "UPDATE files SET created = 3, expires = 5 WHERE id IN ('out', 'bad')"); /* their first rows are old */
    open_journal(f);
    save(f, BATCH_COMPLETED, (struct journal_piece){1, STR("one\n")}, none);
    run_for(f, 60);
    assert_int_equal(pieces(f, "out", 0, 100), ERR_NONE);
    assert_true(f->answer.n == 2 && str_eq(f->answer.pieces[0].data, STR("one\n")) &&
                str_eq(f->answer.pieces[1].data, STR("two\n"))); /* in the order of the input, each once */
    assert_int_equal(read_file(f, "out", "key"), ERR_NONE);
    assert_true(f->answer.files[0].size == 8 && str_eq(f->answer.files[0].name, STR("b1_output.jsonl")));
    assert_int_equal(f->answer.files[0].expires_s - f->answer.files[0].created_s, 3600); /* from the end */
    assert_int_equal(pieces(f, "bad", 0, 100), ERR_NONE);
    assert_int_equal(wait_accepted(f, journal_batch_read(f->journal, STR("b1"), STR("other"), done_of(f), &err)),
                     ERR_NOT_FOUND);
    list_batches(f, (struct journal_batch_query){.limit = 5});
    assert_int_equal(f->answer.n, 1);
    assert_int_equal(wait_accepted(f, journal_batch_unfinished(f->journal, done_of(f), &err)), ERR_NONE);
    assert_int_equal(f->answer.n, 0);
    assert_int_equal(remove_file(f, "in", "key"), ERR_NONE);
    assert_int_equal(journal_stats(f->journal).all_file_size, 12);
    run_for(f, 60);
    assert_int_equal(journal_stats(f->journal).batches[BATCH_COMPLETED], 1);
}

/* ---- batches with files of their own ---- */

static enum error_code create_own(struct fixture *f, const char *id, uint64_t max_total)
{
    struct error err = {0};
    char in[16], out[16];
    snprintf(in, sizeof in, "%s-in", id);
    snprintf(out, sizeof out, "%s-out", id);
    struct journal_piece lines[] = {{0, STR("one\n")}, {1, STR("two\n")}};
    struct journal_batch_input input = {.pieces = lines, .n = 2, .max_total = max_total};
    struct journal_batch b = batch_of(id, BATCH_IN_PROGRESS);
    b.own_files = true;
    b.input = str_of(in);
    b.output = b.failed = str_of(out);
    b.keep_s = 0;
    return wait_accepted(f, journal_batch_create(f->journal, &b, &input, done_of(f), &err));
}

static void end_own(struct fixture *f, const char *id)
{
    struct error err = {0};
    char out[16];
    snprintf(out, sizeof out, "%s-out", id);
    struct journal_piece good = {1, STR("good\n")}, bad = {0, STR("bad\n")};
    struct journal_batch_update u = {
        .batch = batch_of(id, BATCH_CANCELLED), .completed = &good, .failed = &bad, .n_completed = 1, .n_failed = 1};
    u.batch.output = u.batch.failed = str_of(out);
    u.batch.own_files = true;
    u.batch.keep_s = 0;
    u.batch.n_given_up = 1;
    assert_int_equal(wait_accepted(f, journal_batch_update(f->journal, &u, done_of(f), &err)), ERR_NONE);
}

static enum error_code remove_batch(struct fixture *f, const char *id, const char *key)
{
    struct error err = {0};
    return wait_accepted(f, journal_batch_remove(f->journal, str_of(id), str_of(key), done_of(f), &err));
}

static void test_batches_with_files_of_their_own(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    open_journal(f);
    assert_int_equal(create_own(f, "m1", 7), ERR_TOO_LARGE); /* and nothing of it is there */
    assert_int_equal(wait_accepted(f, journal_batch_unfinished(f->journal, done_of(f), &err)), ERR_NONE);
    assert_int_equal(f->answer.n, 0);
    assert_int_equal(create_own(f, "m1", 8), ERR_NONE);
    assert_int_equal(journal_stats(f->journal).all_file_size, 8);
    assert_int_equal(pieces(f, "m1-in", 0, 100), ERR_NONE); /* the runner reads it; others do not see it */
    assert_true(f->answer.n == 2 && str_eq(f->answer.pieces[1].data, STR("two\n")));
    assert_int_equal(read_file(f, "m1-in", "key"), ERR_NOT_FOUND);
    assert_int_equal(remove_batch(f, "m1", "other"), ERR_NOT_FOUND);
    assert_int_equal(remove_batch(f, "m1", "key"), ERR_INVALID); /* it has not ended */
    reopen(f);
    assert_int_equal(wait_accepted(f, journal_batch_unfinished(f->journal, done_of(f), &err)), ERR_NONE);
    assert_true(f->answer.n == 1 && f->answer.batches[0].own_files);
    end_own(f, "m1");
    assert_int_equal(journal_stats(f->journal).all_file_size, 9);
    assert_int_equal(pieces(f, "m1-in", 0, 100), ERR_NOT_FOUND); /* nobody needs it any more */
    assert_int_equal(pieces(f, "m1-out", 0, 100), ERR_NONE);
    assert_true(f->answer.n == 2 && str_eq(f->answer.pieces[0].data, STR("bad\n")));
    assert_int_equal(remove_file(f, "m1-out", "key"), ERR_NOT_FOUND);
    struct journal_file_query files = {.key_name = STR("key"), .purpose = STR(""), .after = STR("")};
    assert_int_equal(wait_accepted(f, journal_file_list(f->journal, &files, done_of(f), &err)), ERR_NONE);
    assert_int_equal(f->answer.n, 0);
    assert_int_equal(wait_accepted(f, journal_batch_read(f->journal, STR("m1"), STR("key"), done_of(f), &err)),
                     ERR_NONE);
    assert_int_equal(f->answer.batches[0].n_given_up, 1);
    assert_int_equal(remove_batch(f, "m1", "key"), ERR_NONE);
    assert_int_equal(pieces(f, "m1-out", 0, 100), ERR_NOT_FOUND); /* with it */
    assert_int_equal(journal_stats(f->journal).all_file_size, 0);
    make_file(f, "in", "x");
    assert_int_equal(insert(f, "b1"), ERR_NONE);
    assert_int_equal(remove_batch(f, "b1", "key"), ERR_INVALID); /* its files are somebody's */
}

/* Pages behind one and before one; batches of the other kind are in none. */
static void test_pages_of_batches(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *from, *first, *last;
        bool before, more;
        size_t n;
    } pages[] = {{"", "m6", "m4", false, true, 3},  {"m4", "m3", "m1", false, false, 3},
                 {"m2", "m5", "m3", true, true, 3}, {"m4", "m6", "m5", true, false, 2},
                 {"", "m6", "m4", true, true, 3},   {"m6", "", "", true, false, 0}};
    char id[16];
    open_journal(f);
    make_file(f, "in", "x");
    for (int i = 1; i <= 6; i++) {
        snprintf(id, sizeof id, "m%d", i);
        assert_int_equal(create_own(f, id, 0), ERR_NONE);
        assert_int_equal(i > 1 || insert(f, "b1") == ERR_NONE, true);
    }
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        list_batches(f, (struct journal_batch_query){
                            .from = str_of(pages[i].from), .limit = 3, .own_files = true, .before = pages[i].before});
        assert_true(f->answer.n == pages[i].n && f->answer.more == pages[i].more);
        if (pages[i].n) {
            assert_true(str_eq(f->answer.batches[0].id, str_of(pages[i].first)));
            assert_true(str_eq(f->answer.batches[f->answer.n - 1].id, str_of(pages[i].last)));
        }
    }
    list_batches(f, (struct journal_batch_query){.limit = 3});
    assert_true(f->answer.n == 1 && str_eq(f->answer.batches[0].id, STR("b1")));
}

static void test_old_ones_go(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    f->options.max_age_s = 100;
    open_journal(f);
    make_file(f, "in", "x");
    make_file(f, "f1", "x");
    assert_int_equal(insert(f, "b1"), ERR_NONE);
    assert_int_equal(insert(f, "b2"), ERR_NONE);
    assert_int_equal(create_own(f, "m1", 0), ERR_NONE);
    end_own(f, "m1");
    journal_close(f->journal);
    sql(f, "UPDATE files SET expires = 5 WHERE NOT hidden;"
           "UPDATE batches SET state = 'failed', ended = 5 WHERE id IN ('b2', 'm1')");
    open_journal(f);
    run_for(f, 60);
    assert_int_equal(read_file(f, "f1", "key"), ERR_NOT_FOUND);
    assert_int_equal(read_file(f, "in", "key"), ERR_NONE); /* needed */
    assert_int_equal(pieces(f, "m1-out", 0, 100), ERR_NOT_FOUND);
    assert_int_equal(wait_accepted(f, journal_batch_read(f->journal, STR("b2"), STR("key"), done_of(f), &err)),
                     ERR_NOT_FOUND);
    assert_int_equal(wait_accepted(f, journal_batch_read(f->journal, STR("b1"), STR("key"), done_of(f), &err)),
                     ERR_NONE);
}

/* What version 1 had is there, and what it lacked. */
static void test_version_before(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct journal_meta meta = {.id = STR("r-1"), .key_name = STR("key"), .route = STR("/"), .model = STR("m")};
    open_journal(f);
    assert_int_equal(wait_accepted(f, journal_insert(f->journal, &meta, STR("{}"), done_of(f), &err)), ERR_NONE);
    journal_close(f->journal);
    sql(f, "DROP TABLE pieces; DROP TABLE files; DROP TABLE batches; PRAGMA user_version = 1");
    open_journal(f);
    assert_int_equal(wait_accepted(f, journal_read(f->journal, STR("r-1"), STR("key"), JOURNAL_ALL, done_of(f), &err)),
                     ERR_NONE);
    make_file(f, "f1", "x");
    assert_int_equal(create_own(f, "m1", 0), ERR_NONE);
    reopen(f);
    assert_int_equal(read_file(f, "f1", "key"), ERR_NONE);
}

/* What version 2 had is there; its batches have files that are seen. */
static void test_version_2(void **state)
{
    struct fixture *f = *state;
    open_journal(f);
    make_file(f, "in", "x");
    assert_int_equal(insert(f, "b1"), ERR_NONE);
    journal_close(f->journal);
    sql(f, "DROP TRIGGER batch_inputs_go; DROP TRIGGER batch_files_go; ALTER TABLE files DROP COLUMN hidden;"
           "ALTER TABLE batches DROP COLUMN own_files; ALTER TABLE batches DROP COLUMN n_given_up;"
           "PRAGMA user_version = 2");
    open_journal(f);
    assert_int_equal(read_file(f, "in", "key"), ERR_NONE);
    list_batches(f, (struct journal_batch_query){.limit = 3});
    assert_true(f->answer.n == 1 && !f->answer.batches[0].own_files);
    assert_int_equal(create_own(f, "m1", 0), ERR_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_files, setup_short_upkeep, teardown),
        cmocka_unit_test_setup_teardown(test_limits_and_leftovers, setup_short_upkeep, teardown),
        cmocka_unit_test_setup_teardown(test_damage_is_found, setup_short_upkeep, teardown),
        cmocka_unit_test_setup_teardown(test_lists, setup_short_upkeep, teardown),
        cmocka_unit_test_setup_teardown(test_batches, setup_short_upkeep, teardown),
        cmocka_unit_test_setup_teardown(test_batches_with_files_of_their_own, setup_short_upkeep, teardown),
        cmocka_unit_test_setup_teardown(test_pages_of_batches, setup_short_upkeep, teardown),
        cmocka_unit_test_setup_teardown(test_old_ones_go, setup_short_upkeep, teardown),
        cmocka_unit_test_setup_teardown(test_version_before, setup_short_upkeep, teardown),
        cmocka_unit_test_setup_teardown(test_version_2, setup_short_upkeep, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
