#include "base/limits.h"
#include "base/sys_file.h"
#include "hub/registry.h"
#include "tests/support/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct fixture {
    struct temp_dir dir;
    char *path;
    struct arena *arena;
    struct hub_registry r;
    struct error err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    temp_dir_make(&f->dir);
    f->path = temp_dir_file(&f->dir, "models.json");
    f->arena = arena_create(MIB(4));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    arena_free(f->arena);
    free(f->path);
    temp_dir_remove(&f->dir);
    free(f);
    return 0;
}

static void must_fail(struct fixture *f, struct str text, const char *message)
{
    f->err = (struct error){0};
    if (hub_registry_parse(text, f->arena, &f->r, &f->err)) {
        fail_msg("'" STR_FMT "' was taken", STR_ARG(text));
    }
    assert_int_equal(f->r.n, 0);
    if (!strstr(f->err.msg, message)) {
        fail_msg("'%s', not '%s'", f->err.msg, message);
    }
}

static void aliases_are_kept_and_removed(void **state)
{
    struct fixture *f = *state;
    assert_true(hub_registry_read(f->path, f->arena, &f->r, &f->err)); /* no file yet */
    assert_int_equal(f->r.n, 0);
    assert_true(hub_registry_set(f->path, "fast", "a/b@v1:Q4_0", &f->err));
    assert_true(hub_registry_set(f->path, "mine:2", "/models/\"x\".gguf", &f->err));
    assert_true(hub_registry_set(f->path, "fast", "a/c", &f->err));
    assert_true(hub_registry_read(f->path, f->arena, &f->r, &f->err));
    assert_int_equal(f->r.n, 2);
    assert_string_equal(hub_registry_find(&f->r, "fast"), "a/c");
    assert_string_equal(hub_registry_find(&f->r, "mine:2"), "/models/\"x\".gguf");
    assert_null(hub_registry_find(&f->r, "mine"));
    assert_true(hub_registry_remove(f->path, "mine:2", &f->err));
    assert_false(hub_registry_remove(f->path, "mine:2", &f->err));
    assert_int_equal(f->err.code, ERR_NOT_FOUND);
    assert_true(hub_registry_remove(f->path, "fast", &f->err));
    assert_true(hub_registry_read(f->path, f->arena, &f->r, &f->err));
    assert_int_equal(f->r.n, 0);
}

static void bad_names_and_references_change_nothing(void **state)
{
    struct fixture *f = *state;
    assert_false(hub_registry_set(f->path, "a/b", "c/d", &f->err));
    assert_false(hub_registry_set(f->path, "../x", "c/d", &f->err));
    assert_false(hub_registry_set(f->path, "x", "c/d@..", &f->err));
    assert_false(hub_registry_set(f->path, "x", "", &f->err));
    assert_false(file_exists(f->path));
}

static void errors_name_the_line(void **state)
{
    struct fixture *f = *state;
    must_fail(f, STR(""), "line 1");
    must_fail(f, STR("[]"), "object is expected");
    must_fail(f, STR("{\n\"alias\": {}}"), "line 2: 'alias'");
    must_fail(f, STR("{\n\n\"aliases\": []}"), "line 3");
    must_fail(f, STR("{\"aliases\": {\n\"x\": 1}}"), "line 2, alias 'x': its reference is integer");
    must_fail(f, STR("{\"aliases\": {\n\"x\": \"a/b:../c.gguf\"}}"), "line 2, alias 'x'");
    must_fail(f, STR("{\"aliases\": {\"x/y\": \"a/b\"}}"), "alias 'x/y'");
    must_fail(f, STR("{\"aliases\": {\"x\": \"a\\u0000b\"}}"), "NUL");
    must_fail(f, STR("{\"aliases\": {\"x\": \"a/b\", \"x\": \"a/c\"}}"), "");
}

static void a_broken_file_is_not_overwritten(void **state)
{
    struct fixture *f = *state;
    struct buf text;
    assert_true(file_write_atomic(f->path, STR("{\"aliases\": {"), &f->err));
    assert_false(hub_registry_set(f->path, "x", "a/b", &f->err));
    assert_non_null(strstr(f->err.msg, "models.json"));
    assert_true(file_read(f->path, MIB(1), &text, &f->err));
    assert_true(str_eq(buf_view(&text), STR("{\"aliases\": {")));
    buf_release(&text);
}

static void its_folder_is_made(void **state)
{
    struct fixture *f = *state;
    char path[512];
    snprintf(path, sizeof path, "%s/sub/models.json", f->dir.path);
    assert_true(hub_registry_set(path, "x", "a/b", &f->err));
    assert_true(file_exists(path));
    remove(path);
    snprintf(path, sizeof path, "%s/sub", f->dir.path);
    remove(path);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(aliases_are_kept_and_removed), TEST(bad_names_and_references_change_nothing),
        TEST(errors_name_the_line),         TEST(a_broken_file_is_not_overwritten),
        TEST(its_folder_is_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
