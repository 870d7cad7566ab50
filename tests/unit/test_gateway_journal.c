/* The journal under everything that may happen to it: the process dies at every statement and at every write of the
 * file, whole or torn, and at random moments; the disk is full; the file is damaged, foreign or of a later version. */
#include "base/clock.h"
#include "base/rng.h"
#include "base/sys_file.h"
#include "tests/support/journal_user.h"

#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- requests of a kind that says whether it is whole ---- */

static struct str id_of(int i, char out[16])
{
    snprintf(out, 16, "r-%d", i);
    return str_of(out);
}

/* Bytes that follow from what they belong to. */
static struct str pattern(char *out, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = (char)('a' + (seed * 31 + i * 7 + i / 26) % 26);
    }
    return (struct str){out, n};
}

static bool insert_sized(struct fixture *f, int i, size_t size, struct error *err)
{
    char id[16], *body = malloc(size);
    struct journal_meta meta = {.id = id_of(i, id),
                                .route = STR("/v1/completions"),
                                .key_name = STR("key"),
                                .model = STR("model"),
                                .details = STR("{}"),
                                .background = true,
                                .created_s = 1000 + i,
                                .seed = 0xfedcba9876543210u};
    bool ok = journal_insert(f->journal, &meta, pattern(body, size, (uint64_t)i), done_of(f), err);
    f->pending = ok;
    ok = ok && wait_done(f);
    if (!ok && !err->code) {
        *err = f->answer.error;
    }
    free(body);
    return ok;
}

static bool insert(struct fixture *f, int i)
{
    struct error err = {0};
    return insert_sized(f, i, 100 + (size_t)i, &err);
}

/* Tokens [first, first + n) of its only choice, and its state. */
static bool append(struct fixture *f, int i, uint32_t first, uint32_t n, enum journal_state state)
{
    char id[16], data[256];
    struct error err = {0};
    struct journal_tokens row = {.first = first, .n = n, .stop_id = -1};
    row.data = pattern(data, n * 4, (uint64_t)i * 1000 + first);
    row.finish = journal_state_ended(state) ? FINISH_LENGTH : FINISH_NONE;
    struct journal_update u = {.id = id_of(i, id),
                               .tokens = &row,
                               .n_tokens = 1,
                               .state = state,
                               .fingerprint = STR("0123456789abcdef"),
                               .details = STR("{}"),
                               .n_generated = first + n};
    u.result = journal_state_ended(state) ? STR("{\"result\":1}") : STR("");
    assert_true(journal_update(f->journal, &u, 1, done_of(f), &err));
    return wait_done(f);
}

static const struct journal_record *read_request(struct fixture *f, int i)
{
    char id[16];
    struct error err = {0};
    assert_true(journal_read(f->journal, id_of(i, id), STR("key"), JOURNAL_ALL, done_of(f), &err));
    return wait_done(f) ? f->answer.records : NULL;
}

/* Everything that is given out of it is what was put in. Returns its tokens. */
static uint32_t check_whole(const struct journal_record *r, int i)
{
    char bytes[4096];
    uint32_t n = 0;
    assert_false(r->damaged);
    assert_true(str_eq(r->body, pattern(bytes, r->body.len, (uint64_t)i)) && r->body.len == 100 + (size_t)i);
    for (size_t k = 0; k < r->n_rows; k++) {
        const struct journal_tokens *t = &r->rows[k];
        assert_int_equal(t->first, n);
        assert_true(str_eq(t->data, pattern(bytes, t->n * 4, (uint64_t)i * 1000 + t->first)));
        assert_int_equal(t->data.len, t->n * 4);
        n += t->n;
    }
    assert_int_equal(r->meta.n_tokens, n);
    assert_int_equal(r->result.len > 0, journal_state_ended(r->meta.state));
    return n;
}

/* ---- what it keeps ---- */

static void test_keeps_what_it_was_given(void **state)
{
    struct fixture *f = *state;
    open_journal(f);
    assert_true(insert(f, 1));
    assert_true(append(f, 1, 0, 5, JOURNAL_RUNNING));
    assert_true(append(f, 1, 5, 3, JOURNAL_RUNNING));
    assert_true(append(f, 1, 5, 6, JOURNAL_RUNNING)); /* what was not known to be saved is sent again, with more */
    assert_true(append(f, 1, 11, 2, JOURNAL_COMPLETED));
    journal_close(f->journal);
    open_journal(f);
    const struct journal_record *r = read_request(f, 1);
    assert_non_null(r);
    assert_int_equal(check_whole(r, 1), 13);
    assert_int_equal(r->meta.state, JOURNAL_COMPLETED);
    assert_true(r->meta.seed == 0xfedcba9876543210u && r->meta.created_s == 1001 && r->meta.background);
    assert_true(r->meta.finished_s > 0 && str_eq(r->meta.fingerprint, STR("0123456789abcdef")));
    assert_int_equal(r->rows[r->n_rows - 1].finish, FINISH_LENGTH);
    assert_true(str_eq(r->result, STR("{\"result\":1}")));
}

static void test_one_key_does_not_see_anothers(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    open_journal(f);
    assert_true(insert(f, 1));
    assert_true(append(f, 1, 0, 1, JOURNAL_COMPLETED));
    assert_true(journal_read(f->journal, STR("r-1"), STR("other"), JOURNAL_META, done_of(f), &err));
    assert_false(wait_done(f));
    assert_int_equal(f->answer.error.code, ERR_NOT_FOUND);
    assert_true(journal_list(f->journal, STR("other"), STR(""), 10, done_of(f), &err));
    assert_true(wait_done(f));
    assert_int_equal(f->answer.n, 0);
    assert_true(journal_remove(f->journal, STR("r-1"), STR("other"), done_of(f), &err));
    assert_false(wait_done(f));
    assert_true(journal_remove(f->journal, STR("r-1"), STR("key"), done_of(f), &err));
    assert_true(wait_done(f));
    assert_null(read_request(f, 1));
}

static void test_lists_in_pages(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    int seen = 0;
    char after[16] = "";
    open_journal(f);
    for (int i = 1; i <= 7; i++) {
        assert_true(insert(f, i));
    }
    for (bool more = true; more;) {
        assert_true(journal_list(f->journal, STR("key"), str_of(after), 3, done_of(f), &err));
        assert_true(wait_done(f));
        for (size_t i = 0; i < f->answer.n; i++) {
            assert_int_equal(f->answer.records[i].meta.created_s, 1007 - seen++); /* newest first */
        }
        snprintf(after, sizeof after, STR_FMT, STR_ARG(f->answer.records[f->answer.n - 1].meta.id));
        more = f->answer.more;
    }
    assert_int_equal(seen, 7);
    assert_true(append(f, 2, 0, 1, JOURNAL_FAILED));
    assert_true(journal_unfinished(f->journal, STR("r-1"), 3, done_of(f), &err));
    assert_true(wait_done(f));
    assert_int_equal(f->answer.n, 3);
    assert_true(f->answer.more && str_eq(f->answer.records[0].meta.id, STR("r-3")));
}

static void test_files_are_their_owners(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"journal.db", "journal.db-wal", "journal.db-shm", "journal.lock"};
    struct error err = {0};
    struct stat st;
    umask(0);
    char *dir = temp_dir_file(&f->dir, "made");
    f->options.dir = dir;
    open_journal(f);
    assert_true(insert(f, 1));
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    journal_close(f->journal);
    f->journal = NULL;
    assert_int_equal(chmod(dir, 0777), 0);
    assert_false(try_open(f, &err));
    assert_non_null(strstr(err.msg, "others may write"));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
    free(dir);
    f->options.dir = f->dir.path;
}

/* ---- files that are not as they should be ---- */

static void sql(struct fixture *f, const char *text)
{
    char *path = temp_dir_file(&f->dir, "journal.db");
    sqlite3 *db;
    char *why = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, &why) != SQLITE_OK) {
        fail_msg("%s: %s", text, why);
    }
    sqlite3_close(db);
    free(path);
}

static void expect_refused(struct fixture *f, const char *word)
{
    struct error err = {0};
    journal_close(f->journal);
    f->journal = NULL;
    assert_false(try_open(f, &err));
    if (!strstr(err.msg, word) || !strstr(err.msg, f->dir.path)) {
        fail_msg("'%s' is not in: %s", word, err.msg);
    }
}

static void test_refuses_what_is_not_its_own(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    open_journal(f);
    struct fixture other = {.options = f->options};
    assert_false(try_open(&other, &err));
    assert_non_null(strstr(err.msg, "in use"));
    journal_close(f->journal);
    f->journal = NULL;
    sql(f, "PRAGMA user_version = 99");
    expect_refused(f, "version 99");
    sql(f, "PRAGMA user_version = 1; PRAGMA application_id = 5");
    expect_refused(f, "no journal");
}

static void test_refuses_damaged_files(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    char *path = temp_dir_file(&f->dir, "journal.db"), garbage[8192];
    assert_true(file_write_atomic(path, pattern(garbage, sizeof garbage, 3), &err));
    expect_refused(f, "damaged");
    unlink(path);
    open_journal(f);
    for (int i = 1; i <= 40; i++) {
        assert_true(insert(f, i));
    }
    journal_close(f->journal);
    f->journal = NULL;
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    for (long page = 2; page < 12; page++) {
        fseek(file, page * 4096 + 50, SEEK_SET);
        fwrite(garbage, 1, 2000, file);
    }
    fclose(file);
    expect_refused(f, "damaged");
    free(path);
}

static void test_never_gives_out_a_torn_row(void **state)
{
    struct fixture *f = *state;
    open_journal(f);
    assert_true(insert(f, 1));
    assert_true(append(f, 1, 0, 5, JOURNAL_RUNNING));
    assert_true(append(f, 1, 5, 5, JOURNAL_RUNNING));
    assert_true(append(f, 1, 10, 5, JOURNAL_COMPLETED));
    sql(f, "UPDATE tokens SET data = substr(data, 1, 19) WHERE first = 5");
    const struct journal_record *r = read_request(f, 1);
    assert_true(r->damaged);
    assert_int_equal(r->n_rows, 1); /* what is behind it has no place any more */
    assert_int_equal(r->rows[0].n, 5);
    sql(f, "UPDATE blobs SET data = zeroblob(length(data)) WHERE kind = 'body'");
    r = read_request(f, 1);
    assert_int_equal(r->body.len, 0);
    assert_int_equal(journal_stats(f->journal).damaged, 3);
}

/* ---- limits ---- */

static void test_old_requests_go(void **state)
{
    struct fixture *f = *state;
    f->options.max_age_s = 1000;
    f->options.upkeep_ms = 10;
    open_journal(f);
    assert_true(insert(f, 1));
    assert_true(insert(f, 2));
    assert_true(insert(f, 3));
    assert_true(append(f, 1, 0, 5, JOURNAL_COMPLETED));
    assert_true(append(f, 2, 0, 5, JOURNAL_COMPLETED));
    assert_true(append(f, 3, 0, 5, JOURNAL_RUNNING));
    sql(f, "UPDATE requests SET finished = 1000, expires = 2000 WHERE id = 'r-1'; UPDATE requests SET expires = 1 "
           "WHERE id = 'r-3'");
    for (int i = 0; i < 500 && journal_stats(f->journal).dropped == 0; i++) {
        run_for(f, 10);
    }
    assert_null(read_request(f, 1));
    assert_non_null(read_request(f, 2));
    assert_non_null(read_request(f, 3)); /* never while it runs */
    struct journal_stats s = journal_stats(f->journal);
    assert_int_equal(s.dropped, 1);
}

static void test_finished_ones_make_room(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    f->options.max_size = 1 << 20;
    open_journal(f);
    for (int i = 1; i <= 6; i++) {
        assert_true(insert_sized(f, i, 300000, &err));
        assert_true(append(f, i, 0, 5, JOURNAL_COMPLETED));
    }
    assert_null(read_request(f, 1)); /* the oldest went */
    assert_non_null(read_request(f, 6));
    assert_true(insert_sized(f, 7, 300000, &err) && insert_sized(f, 8, 300000, &err) &&
                insert_sized(f, 9, 300000, &err));
    assert_null(read_request(f, 6));
    assert_false(insert_sized(f, 10, 300000, &err)); /* full of what has not ended */
    assert_int_equal(err.code, ERR_OVERLOADED);
    assert_non_null(strstr(err.msg, "--journal-max-mb"));
    for (int i = 7; i <= 9; i++) {
        assert_non_null(read_request(f, i));
    }
    assert_int_equal(journal_stats(f->journal).refused, 1);
    struct error ignored;
    assert_false(journal_failing(f->journal, &ignored)); /* full by its own limit is not broken */
}

/* ---- a disk that fails, and a process that dies: SQLite's writes, seen from below ---- */

struct disk {                          /* of this process; the tests run one after another */
    const sqlite3_io_methods *real[2]; /* of other files, of the database */
    sqlite3_io_methods patched[2];
    sqlite3_vfs vfs;
    int (*real_open)(sqlite3_vfs *, const char *, sqlite3_file *, int, int *);
    bool full;
    int n_writes, kill_at; /* 0: never */
    bool torn;
};
static struct disk disk;

static int disk_write(sqlite3_file *file, const void *bytes, int n, sqlite3_int64 offset)
{
    const sqlite3_io_methods *real = disk.real[file->pMethods == &disk.patched[1]];
    if (disk.full) {
        return SQLITE_FULL;
    }
    if (disk.kill_at && ++disk.n_writes == disk.kill_at) {
        if (disk.torn) {
            (void)real->xWrite(file, bytes, n / 2, offset);
        }
        kill(getpid(), SIGKILL);
    }
    return real->xWrite(file, bytes, n, offset);
}

static int disk_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    int rc = disk.real_open(vfs, name, file, flags, out_flags);
    int which = (flags & SQLITE_OPEN_MAIN_DB) != 0; /* it is locked, the others are not */
    if (rc == SQLITE_OK && file->pMethods) {
        disk.real[which] = file->pMethods;
        disk.patched[which] = *file->pMethods;
        disk.patched[which].xWrite = disk_write;
        file->pMethods = &disk.patched[which];
    }
    return rc;
}

static void use_disk(void)
{
    if (!disk.real_open) {
        disk.vfs = *sqlite3_vfs_find(NULL);
        disk.real_open = disk.vfs.xOpen;
        disk.vfs.xOpen = disk_open;
        disk.vfs.zName = "disk";
        disk.vfs.pNext = NULL;
        sqlite3_vfs_register(&disk.vfs, 1);
    }
    disk.full = disk.torn = false;
    disk.n_writes = disk.kill_at = 0;
}

static void test_full_disk(void **state)
{
    struct fixture *f = *state;
    struct error err = {0}, why = {0};
    use_disk();
    f->options.upkeep_ms = 10;
    open_journal(f);
    assert_true(insert(f, 1));
    assert_true(append(f, 1, 0, 5, JOURNAL_RUNNING));
    disk.full = true;
    assert_false(append(f, 1, 5, 5, JOURNAL_RUNNING));
    assert_int_equal(f->answer.error.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(f->answer.error.msg, "disk is full"));
    assert_true(journal_failing(f->journal, &why));
    assert_false(insert_sized(f, 2, 100, &err)); /* at once, without trying */
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_int_equal(check_whole(read_request(f, 1), 1), 5); /* what is there can be read */
    assert_int_equal(journal_stats(f->journal).refused, 1);
    disk.full = false;
    for (int i = 0; i < 500 && journal_failing(f->journal, &why); i++) {
        run_for(f, 20); /* nobody writes: it finds out by itself */
    }
    assert_false(journal_failing(f->journal, &why));
    assert_true(append(f, 1, 5, 5, JOURNAL_RUNNING));
    assert_true(insert(f, 2));
    assert_int_equal(check_whole(read_request(f, 1), 1), 10);
}

/* ---- dying ---- */

enum step_kind { STEP_INSERT, STEP_TOKENS, STEP_END, STEP_REMOVE };
struct step {
    enum step_kind kind;
    int request;
    uint32_t first, n;
};
static const struct step steps[] = {
    {STEP_INSERT, 1, 0, 0}, {STEP_TOKENS, 1, 0, 4}, {STEP_INSERT, 2, 0, 0},  {STEP_TOKENS, 1, 4, 9},
    {STEP_TOKENS, 2, 0, 7}, {STEP_END, 1, 13, 2},   {STEP_INSERT, 3, 0, 0},  {STEP_TOKENS, 2, 7, 20},
    {STEP_END, 3, 0, 3},    {STEP_REMOVE, 1, 0, 0}, {STEP_TOKENS, 2, 27, 6},
};
#define N_STEPS ((int)(sizeof steps / sizeof steps[0]))

static bool take_step(struct fixture *f, const struct step *s)
{
    char id[16];
    struct error err = {0};
    switch (s->kind) {
    case STEP_INSERT:
        return insert(f, s->request);
    case STEP_TOKENS:
        return append(f, s->request, s->first, s->n, JOURNAL_RUNNING);
    case STEP_END:
        return append(f, s->request, s->first, s->n, JOURNAL_COMPLETED);
    case STEP_REMOVE:
        assert_true(journal_remove(f->journal, id_of(s->request, id), STR("key"), done_of(f), &err));
        return wait_done(f);
    }
    return false;
}

struct statement_bomb {
    int n, kill_at;
};

static void count_statement(void *arg)
{
    struct statement_bomb *b = arg;
    if (++b->n == b->kill_at) {
        kill(getpid(), SIGKILL);
    }
}

/* The child: takes all steps, and says after each that it was told of its commit. */
static void live(const struct fixture *parent, int told, struct statement_bomb *bomb, bool full_sync)
{
    struct fixture f = {.dir = parent->dir};
    struct error err = {0};
    start_fixture(&f);
    f.options.full_sync = full_sync;
    f.options.on_statement = bomb ? count_statement : NULL;
    f.options.on_statement_arg = bomb;
    if (!try_open(&f, &err)) {
        (void)!write(STDERR_FILENO, err.msg, strlen(err.msg));
        _exit(4); /* never back into the tests */
    }
    for (int i = 0; i < N_STEPS; i++) {
        char step = (char)i;
        if (!take_step(&f, &steps[i]) || write(told, &step, 1) != 1) {
            _exit(3);
        }
    }
    end_fixture(&f);
    _exit(0);
}

/* Everything up to the step that was acknowledged last is there, the one behind it wholly or not at all. */
static void check_survivors(struct fixture *f, int n_acknowledged)
{
    uint32_t tokens[4] = {0}, more[4] = {0};
    bool there[4] = {0}, maybe_there[4] = {0}, gone[4] = {0}, maybe_gone[4] = {0};
    for (int i = 0; i <= n_acknowledged && i < N_STEPS; i++) {
        const struct step *s = &steps[i];
        bool sure = i < n_acknowledged;
        there[s->request] |= s->kind == STEP_INSERT && sure;
        maybe_there[s->request] |= s->kind == STEP_INSERT;
        gone[s->request] |= s->kind == STEP_REMOVE && sure;
        maybe_gone[s->request] |= s->kind == STEP_REMOVE;
        more[s->request] = sure ? 0 : s->n;
        tokens[s->request] += sure ? s->n : 0;
    }
    open_journal(f);
    for (int i = 1; i <= 3; i++) {
        const struct journal_record *r = read_request(f, i);
        if (!r) {
            assert_false(there[i] && !maybe_gone[i]);
            continue;
        }
        assert_true(maybe_there[i] && !gone[i]);
        uint32_t n = check_whole(r, i);
        assert_true(n == tokens[i] || n == tokens[i] + more[i]);
    }
    assert_int_equal(journal_stats(f->journal).damaged, 0);
    assert_true(insert(f, 100)); /* and it goes on */
    journal_close(f->journal);
    f->journal = NULL;
}

static void clear_dir(struct fixture *f)
{
    static const char *const names[] = {"journal.db", "journal.db-wal", "journal.db-shm", "journal.lock"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *path = temp_dir_file(&f->dir, names[i]);
        unlink(path);
        free(path);
    }
}

struct death { /* how the child is to die; all 0: not */
    int at_statement, at_write;
    bool torn, full_sync; /* torn: half of that write is done */
    int64_t after_us;     /* from outside */
};

static void child(const struct fixture *f, int told, const struct death *d)
{
    struct statement_bomb bomb = {.kill_at = d->at_statement};
    disk.kill_at = d->at_write;
    disk.torn = d->torn;
    live(f, told, d->at_statement ? &bomb : NULL, d->full_sync);
}

/* One life and one death; true: it lived to the end. */
static bool live_and_die(struct fixture *f, const struct death *d)
{
    int told[2], status, n_acknowledged = 0;
    char step;
    clear_dir(f);
    use_disk();
    assert_int_equal(pipe(told), 0);
    end_fixture(f); /* a fork takes no threads along, but the locks that they hold */
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(told[0]);
        child(f, told[1], d);
    }
    start_fixture(f);
    close(told[1]);
    if (d->after_us) {
        usleep((unsigned)d->after_us);
        kill(pid, SIGKILL);
    }
    while (read(told[0], &step, 1) == 1) {
        assert_int_equal(step, n_acknowledged++);
    }
    close(told[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    bool lived = WIFEXITED(status);
    if (lived) {
        assert_int_equal(WEXITSTATUS(status), 0);
        assert_int_equal(n_acknowledged, N_STEPS);
    } else {
        assert_int_equal(WTERMSIG(status), SIGKILL);
    }
    check_survivors(f, n_acknowledged);
    return lived;
}

static void test_dies_at_every_statement(void **state)
{
    struct death d = {.at_statement = 1};
    while (!live_and_die(*state, &d)) {
        assert_true(++d.at_statement < 2000);
    }
    assert_true(d.at_statement > 60); /* it was at them */
}

static void die_at_every_write(struct fixture *f, bool torn, bool full_sync)
{
    struct death d = {.at_write = 1, .torn = torn, .full_sync = full_sync};
    while (!live_and_die(f, &d)) {
        assert_true(++d.at_write < 2000);
    }
    assert_true(d.at_write > 20);
}

static void test_dies_at_every_write(void **state)
{
    die_at_every_write(*state, false, false);
}

static void test_dies_within_every_write(void **state)
{
    die_at_every_write(*state, true, true);
}

static void test_dies_at_random_moments(void **state)
{
    int64_t start_ns = clock_ns();
    assert_true(live_and_die(*state, &(struct death){0}));
    uint64_t life_us = (uint64_t)(clock_ns() - start_ns) / 1000;
    for (int i = 0; i < 20; i++) {
        (void)live_and_die(*state, &(struct death){.after_us = 1 + (int64_t)(rng_entropy64() % life_us)});
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_keeps_what_it_was_given, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_key_does_not_see_anothers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lists_in_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files_are_their_owners, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refuses_what_is_not_its_own, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refuses_damaged_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_never_gives_out_a_torn_row, setup, teardown),
        cmocka_unit_test_setup_teardown(test_old_requests_go, setup, teardown),
        cmocka_unit_test_setup_teardown(test_finished_ones_make_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dies_at_every_statement, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dies_at_every_write, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dies_within_every_write, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dies_at_random_moments, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
