#define _XOPEN_SOURCE 700 /* nftw */
/* The cache: what store.h writes is found, and removed, and nothing leads out of it. */
#include "base/limits.h"
#include "hub/cache.h"
#include "hub/store.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ONE  "1111111111111111111111111111111111111111"
#define TWO  "2222222222222222222222222222222222222222"
#define REPO "own/er.x"

static const char etags[][HUB_ETAG_MAX + 1] = {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                               "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
                                               "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
                                               "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"};

struct fixture {
    char cache[256];
    struct hub_store *store;
    struct error err;
};

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static void remove_all(const char *path)
{
    assert_int_equal(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* "CACHE" + rest, with the repository's folder before a rest that begins with '/'. */
static const char *at(const struct fixture *f, const char *rest)
{
    static char paths[4][700];
    static int n;
    char *path = paths[n++ % 4];
    snprintf(path, sizeof paths[0], "%s%s%s", f->cache, rest[0] == '/' ? "/models--own--er.x" : "", rest);
    return path;
}

static void make_folder(const char *path)
{
    struct error err = {0};
    assert_true(dir_make(path, &err));
}

static void make_file(const char *path)
{
    struct error err = {0};
    assert_true(file_write_atomic(path, STR("{}"), &err));
}

static void make_link(const char *target, const char *path)
{
    unlink(path);
    assert_int_equal(symlink(target, path), 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    snprintf(f->cache, sizeof f->cache, "%s/tandem-cache-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(f->cache));
    f->store = hub_store_open(f->cache, REPO, &f->err);
    assert_non_null(f->store);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    hub_store_free(f->store);
    remove_all(f->cache);
    free(f);
    return 0;
}

static void put(struct fixture *f, const char *etag, const char *content)
{
    struct hub_part part;
    if (hub_store_has(f->store, etag, strlen(content))) {
        return;
    }
    assert_true(hub_store_begin(f->store, etag, NULL, NULL, &part, &f->err));
    assert_true(file_write_at(part.fd, 0, content, strlen(content)));
    assert_true(hub_store_finish(f->store, &part, &f->err));
    assert_true(hub_store_has(f->store, etag, strlen(content)));
}

static void link_file(struct fixture *f, const char *commit, const char *path, const char *etag, const char *content)
{
    put(f, etag, content);
    if (!hub_store_link(f->store, commit, str_of(path), etag, &f->err)) {
        fail_msg("%s", f->err.msg);
    }
}

static struct hub_cached found(struct fixture *f, const char *reference)
{
    struct hub_reference r;
    struct hub_cached c;
    assert_true(hub_reference_parse(reference, &r, &f->err));
    if (!hub_cache_find(f->cache, &r, HUB_FOLDER_FIRST, &c, &f->err)) {
        fail_msg("%s", f->err.msg);
    }
    return c;
}

static bool removes(struct fixture *f, const char *reference, struct hub_removed *out)
{
    struct hub_reference r;
    f->err = (struct error){0};
    assert_true(hub_reference_parse(reference, &r, &f->err));
    return hub_cache_remove(f->cache, &r, out, &f->err);
}

static bool exists(const struct fixture *f, const char *below)
{
    struct stat st;
    return lstat(at(f, below), &st) == 0;
}

/* Two snapshots that share config.json and differ in the weights; the first is main. */
static void fill(struct fixture *f)
{
    link_file(f, ONE, "config.json", etags[0], "{}");
    link_file(f, ONE, "model.safetensors", etags[2], "weights");
    link_file(f, TWO, "config.json", etags[0], "{}");
    link_file(f, TWO, "sub/dir/m-Q8_0.gguf", etags[3], "other weights");
    assert_true(hub_store_ref(f->store, "main", ONE, &f->err));
    assert_true(hub_store_ref(f->store, "refs/pr/1", TWO, &f->err));
}

static void what_is_written_is_found(void **state)
{
    struct fixture *f = *state;
    fill(f);
    struct hub_cached c = found(f, REPO);
    assert_int_equal(c.state, HUB_COMPLETE);
    assert_true(c.is_folder);
    assert_int_equal(c.size, 9);
    assert_true(str_ends(str_of(c.path), STR("/models--own--er.x/snapshots/" ONE)));
    c = found(f, REPO "@refs/pr/1");
    assert_int_equal(c.state, HUB_COMPLETE);
    assert_string_equal(c.precision, "Q8_0");
    assert_true(str_ends(str_of(c.path), STR("/snapshots/" TWO "/sub/dir/m-Q8_0.gguf")));
    assert_true(file_exists(c.path));
    assert_int_equal(found(f, REPO "@" TWO).state, HUB_COMPLETE);
    assert_int_equal(found(f, REPO "@nothing").state, HUB_ABSENT);
    assert_int_equal(found(f, "own/other").state, HUB_ABSENT);
    assert_int_equal(found(f, REPO ":Q8_0").state, HUB_ABSENT);
}

static void what_lacks_is_incomplete(void **state)
{
    struct fixture *f = *state;
    struct hub_part part;
    assert_true(hub_store_snapshot(f->store, ONE, &f->err) && hub_store_ref(f->store, "main", ONE, &f->err));
    assert_int_equal(found(f, REPO).state, HUB_ABSENT);
    assert_true(hub_store_begin(f->store, etags[2], NULL, NULL, &part, &f->err));
    assert_true(file_write_at(part.fd, 0, "wei", 3));
    hub_store_leave(&part);
    assert_int_equal(hub_store_partial(f->store, etags[2]), 3);
    assert_int_equal(found(f, REPO).state, HUB_INCOMPLETE);
    link_file(f, ONE, "config.json", etags[0], "{}");
    link_file(f, ONE, "model.safetensors.index.json", etags[0], "{}");
    link_file(f, ONE, "model-00001-of-00002.safetensors", etags[3], "x");
    struct hub_cached c = found(f, REPO);
    assert_int_equal(c.state, HUB_INCOMPLETE);
    assert_string_equal(c.missing, "model-00002-of-00002.safetensors");
    assert_true(hub_store_begin(f->store, etags[2], NULL, NULL, &part, &f->err));
    assert_int_equal(part.size, 3); /* goes on */
    hub_store_drop(f->store, &part);
    assert_int_equal(hub_store_partial(f->store, etags[2]), 0);
}

static void count(void *arg, const char *repo, const struct hub_cached *c)
{
    assert_string_equal(repo, REPO);
    assert_int_equal(c->state, HUB_COMPLETE);
    ++*(int *)arg;
}

static void all_are_listed(void **state)
{
    struct fixture *f = *state;
    int n = 0;
    fill(f);
    char folder[300];
    snprintf(folder, sizeof folder, "%s/datasets--a--b/snapshots", f->cache);
    make_folder(folder);
    snprintf(folder, sizeof folder, "%s/models--broken", f->cache);
    make_folder(folder);
    assert_true(hub_cache_each(f->cache, count, &n, &f->err));
    assert_int_equal(n, 2);
    assert_true(hub_cache_each("/nowhere/at/all", count, &n, &f->err));
    assert_int_equal(n, 2);
}

static void append_name(void *arg, const char *repo, const struct hub_cached *c)
{
    char *names = arg;
    size_t len = strlen(names);
    (void)repo;
    snprintf(names + len, 400 - len, "%.1s%s%s:%s ", c->commit, c->is_main ? " main" : "",
             c->is_second ? " second" : "", strrchr(c->path, '/') + 1);
}

/* What is listed says by what name it is found again. */
static void what_names_each(void **state)
{
    struct fixture *f = *state;
    char names[400] = "";
    link_file(f, ONE, "a-Q8_0.gguf", etags[0], "a");
    link_file(f, ONE, "b-Q8_0.gguf", etags[1], "b");
    link_file(f, ONE, "c-Q4_0.gguf", etags[2], "c");
    link_file(f, TWO, "a-Q8_0.gguf", etags[3], "d");
    assert_true(hub_store_ref(f->store, "main", ONE, &f->err));
    assert_true(hub_cache_each(f->cache, append_name, names, &f->err));
    assert_string_equal(names, "1 main:c-Q4_0.gguf 1 main:a-Q8_0.gguf 1 main second:b-Q8_0.gguf 2:a-Q8_0.gguf ");
}

static void a_shared_content_outlives_a_snapshot(void **state)
{
    struct fixture *f = *state;
    struct hub_removed r;
    fill(f);
    assert_true(removes(f, REPO "@refs/pr/1", &r));
    assert_int_equal(r.n_files, 1);
    assert_int_equal(r.size, strlen("other weights"));
    assert_false(exists(f, "/snapshots/" TWO));
    assert_false(exists(f, "/refs/refs/pr/1"));
    assert_true(exists(f, "/refs/main"));
    assert_int_equal(found(f, REPO).state, HUB_COMPLETE);
    assert_true(removes(f, REPO, &r));
    assert_int_equal(r.n_files, 3); /* two contents, and refs/main */
    assert_false(exists(f, "/"));
    assert_false(removes(f, REPO, &r));
    assert_int_equal(f->err.code, ERR_NOT_FOUND);
}

/* However deep the other link lies, and whoever has made it. */
static void a_shared_content_outlives_a_snapshot_wherever_its_link_lies(void **state)
{
    struct fixture *f = *state;
    struct hub_removed r;
    char lengthy[HUB_FILE_MAX + 1], target[160], path[1200], blob[80];
    snprintf(lengthy, sizeof lengthy, "%0250d/%0250d", 0, 0);
    link_file(f, ONE, "a.json", etags[0], "{}");
    link_file(f, ONE, "b.json", etags[1], "[]");
    link_file(f, ONE, "m-Q4_0.gguf", etags[2], "four");
    link_file(f, ONE, "m-Q8_0.gguf", etags[3], "eight");
    link_file(f, TWO, "1/2/3/4/5/6/7/a.json", etags[0], "{}");
    link_file(f, TWO, lengthy, etags[1], "[]");
    make_folder(at(f, "/snapshots/" TWO "/1/2/3/4/5/6/7/8/9/10"));
    snprintf(path, sizeof path, "%s/1/2/3/4/5/6/7/8/9/10/m.gguf", at(f, "/snapshots/" TWO));
    snprintf(target, sizeof target, "../../../../../../../../../../../../blobs/%s", etags[2]);
    make_link(target, path);
    assert_true(removes(f, REPO "@" ONE, &r));
    assert_int_equal(r.n_files, 1); /* m-Q8_0.gguf's */
    assert_false(exists(f, "/snapshots/" ONE));
    for (int i = 0; i < 4; i++) {
        snprintf(blob, sizeof blob, "/blobs/%s", etags[i]);
        assert_true(exists(f, blob) == (i < 3));
    }
    assert_true(removes(f, REPO, &r)); /* a deep folder can be removed, too */
    assert_false(exists(f, "/"));
}

static void one_precision_is_removed(void **state)
{
    struct fixture *f = *state;
    struct hub_removed r;
    link_file(f, ONE, "a-Q8_0.gguf", etags[2], "eight");
    link_file(f, ONE, "a-Q4_0.gguf", etags[3], "four");
    assert_true(hub_store_ref(f->store, "main", ONE, &f->err));
    assert_true(removes(f, REPO ":Q8_0", &r));
    assert_int_equal(r.size, 5);
    assert_int_equal(found(f, REPO ":Q8_0").state, HUB_ABSENT);
    assert_int_equal(found(f, REPO ":Q4_0").state, HUB_COMPLETE);
    assert_false(removes(f, REPO ":Q8_0", &r));
    assert_non_null(strstr(f->err.msg, "Q4_0"));
}

static void links_that_lead_out_count_as_nothing(void **state)
{
    struct fixture *f = *state;
    const char *config = "/snapshots/" ONE "/config.json";
    fill(f);
    make_file(at(f, ".outside"));
    make_link("../../../../../../../../etc/passwd", at(f, config));
    assert_int_equal(found(f, REPO).state, HUB_ABSENT);
    make_link("/dev/zero", at(f, config));
    assert_int_equal(found(f, REPO).state, HUB_ABSENT);
    make_link(at(f, ".outside"), at(f, config));
    assert_int_equal(found(f, REPO).state, HUB_ABSENT);
    make_link("../../blobs/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", at(f, config));
    assert_int_equal(found(f, REPO).state, HUB_COMPLETE);
    assert_int_equal(unlink(at(f, ".outside")), 0);
}

/* The folders themselves may be links that somebody has put there. */
static void folders_are_not_followed_out(void **state)
{
    struct fixture *f = *state;
    struct hub_removed r;
    char linked[300];
    fill(f);
    make_folder(at(f, ".elsewhere/snapshots/" ONE));
    make_file(at(f, ".elsewhere/snapshots/" ONE "/config.json"));
    snprintf(linked, sizeof linked, "%s/models--a--linked", f->cache);
    make_link(at(f, ".elsewhere"), linked);
    assert_int_equal(found(f, "a/linked@" ONE).state, HUB_ABSENT);
    assert_false(removes(f, "a/linked", &r));
    assert_null(hub_store_open(f->cache, "a/linked", &f->err));
    assert_non_null(strstr(f->err.msg, "a link or a file"));
    make_link(at(f, ".elsewhere"), at(f, "/snapshots/" ONE "/x"));
    assert_true(removes(f, REPO, &r)); /* the link goes, what it leads to stays */
    assert_false(exists(f, "/"));
    assert_true(file_exists(at(f, ".elsewhere/snapshots/" ONE "/config.json")));
    remove_all(at(f, ".elsewhere"));
}

static void bad_names_are_refused(void **state)
{
    static const char *const paths[] = {"../x", "/x", "a/../../x", "a//b", "", "a/", ".", "a\\b", "a\nb", "C:x"};
    struct fixture *f = *state;
    struct hub_part part;
    put(f, etags[0], "{}");
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        f->err = (struct error){0};
        assert_false(hub_store_link(f->store, ONE, str_of(paths[i]), etags[0], &f->err));
        assert_int_equal(f->err.code, ERR_INVALID);
    }
    assert_false(hub_store_link(f->store, "../../x", STR("a"), etags[0], &f->err));
    assert_false(hub_store_link(f->store, ONE, STR("a"), "../x", &f->err));
    assert_false(hub_store_ref(f->store, "../../x", ONE, &f->err));
    assert_false(hub_store_ref(f->store, "main", "../x", &f->err));
    assert_false(hub_store_begin(f->store, "../x", NULL, NULL, &part, &f->err));
    assert_null(hub_store_open(f->cache, "../x", &f->err));
    assert_null(hub_store_open(f->cache, "a/..", &f->err));
}

/* What lies where a content is to be written is not written through. */
static void a_link_in_the_place_of_a_content_is_refused(void **state)
{
    struct fixture *f = *state;
    struct hub_part part;
    char name[512], target[300];
    snprintf(name, sizeof name, "%s/models--own--er.x/blobs/%s.incomplete", f->cache, etags[0]);
    snprintf(target, sizeof target, "%s.never", f->cache);
    make_link(target, name);
    assert_false(hub_store_begin(f->store, etags[0], NULL, NULL, &part, &f->err));
    assert_int_equal(f->err.code, ERR_IO);
    assert_false(file_exists(target));
    assert_int_equal(unlink(name), 0);
    assert_int_equal(mkfifo(name, 0600), 0);
    assert_false(hub_store_begin(f->store, etags[0], NULL, NULL, &part, &f->err));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_written_is_found),
        TEST(what_lacks_is_incomplete),
        TEST(all_are_listed),
        TEST(what_names_each),
        TEST(a_shared_content_outlives_a_snapshot),
        TEST(a_shared_content_outlives_a_snapshot_wherever_its_link_lies),
        TEST(one_precision_is_removed),
        TEST(links_that_lead_out_count_as_nothing),
        TEST(folders_are_not_followed_out),
        TEST(bad_names_are_refused),
        TEST(a_link_in_the_place_of_a_content_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
