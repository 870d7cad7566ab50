/* Files: mappings, bounded reads, atomic writes, folders. */
#include "base/sys_file.h"
#include "tests/support/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

static struct temp_dir dir;

static int set_up(void **state)
{
    (void)state;
    temp_dir_make(&dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_dir_remove(&dir);
    return 0;
}

static void write_map_read(void **state)
{
    (void)state;
    struct error err;
    struct mapped_file f;
    struct buf content;
    char *path = temp_dir_file(&dir, "file"), *text = malloc(100000);
    for (int i = 0; i < 100000; i++) {
        text[i] = (char)(i * 7);
    }
    assert_true(file_write_atomic(path, (struct str){text, 100000}, &err));
    assert_true(file_exists(path) && !dir_exists(path));
    assert_true(mapped_file_open(path, &f, &err));
    assert_int_equal(f.size, 100000);
    assert_memory_equal(f.data, text, 100000);
    mapped_file_prefetch(&f, 5000, 50000);
    mapped_file_prefetch(&f, 5000, SIZE_MAX);
    mapped_file_drop(&f, 5000, 50000);
    mapped_file_drop(&f, SIZE_MAX - 10, 50000);
    mapped_file_drop(&f, 0, 100000);
    assert_memory_equal(f.data, text, 100000); /* dropped pages come back from the file */
    mapped_file_close(&f);
    mapped_file_close(&f);
    assert_true(file_read(path, 100000, &content, &err));
    assert_int_equal(content.len, 100000);
    assert_memory_equal(content.data, text, 100000);
    buf_release(&content);
    assert_false(file_read(path, 99999, &content, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_null(content.data);
    assert_true(file_write_atomic(path, STR("new"), &err));
    assert_true(file_read(path, 10, &content, &err));
    assert_string_equal(content.data, "new");
    buf_release(&content);
    free(text);
    free(path);
}

static void empty_file(void **state)
{
    (void)state;
    struct error err;
    struct mapped_file f;
    struct buf content;
    char *path = temp_dir_file(&dir, "empty");
    assert_true(file_write_atomic(path, (struct str){NULL, 0}, &err));
    assert_true(mapped_file_open(path, &f, &err));
    assert_null(f.data);
    mapped_file_prefetch(&f, 0, 0);
    mapped_file_drop(&f, 0, 0);
    mapped_file_close(&f);
    assert_true(file_read(path, 0, &content, &err));
    assert_int_equal(content.len, 0);
    buf_release(&content);
    free(path);
}

static void what_is_no_file(void **state)
{
    (void)state;
    struct error err;
    struct mapped_file f;
    struct buf content;
    char *missing = temp_dir_file(&dir, "missing"), *fifo = temp_dir_file(&dir, "fifo");
    assert_false(mapped_file_open(missing, &f, &err));
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, "missing"));
    assert_false(mapped_file_open(dir.path, &f, &err));
    assert_int_equal(err.code, ERR_IO);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_false(file_read(fifo, 100, &content, &err)); /* at once, though nobody writes to it */
    assert_int_equal(err.code, ERR_IO);
    assert_false(file_exists(fifo));
    free(missing);
    free(fifo);
}

static void failed_write_leaves_nothing(void **state)
{
    (void)state;
    struct error err;
    char *path = temp_dir_file(&dir, "no/such/folder");
    assert_false(file_write_atomic(path, STR("x"), &err));
    assert_int_equal(err.code, ERR_IO);
    free(path);
    path = temp_dir_file(&dir, "sub");
    assert_int_equal(mkdir(path, 0700), 0);
    assert_false(file_write_atomic(path, STR("x"), &err)); /* a folder is in the way: the temporary file goes again */
    assert_int_equal(rmdir(path), 0);
    free(path);
    path = malloc(6000);
    memset(path, 'a', 5999);
    path[5999] = '\0';
    assert_false(file_write_atomic(path, STR("x"), &err));
    assert_false(dir_make(path, &err));
    free(path);
}

static void folders(void **state)
{
    (void)state;
    struct error err;
    char *deep = temp_dir_file(&dir, "a/b//c/"), *file = temp_dir_file(&dir, "plain"),
         *below = temp_dir_file(&dir, "plain/x");
    assert_true(dir_make(deep, &err));
    assert_true(dir_make(deep, &err));
    assert_true(dir_exists(deep) && !file_exists(deep));
    assert_true(dir_make("/", &err));
    assert_true(file_write_atomic(file, STR("x"), &err));
    assert_false(dir_make(file, &err));
    assert_false(dir_make(below, &err));
    assert_false(dir_make("", &err));
    for (int i = 0; i < 3; i++) {
        *strrchr(deep, '/') = '\0';
        (void)rmdir(deep);
    }
    free(deep);
    deep = temp_dir_file(&dir, "a/b");
    (void)rmdir(deep);
    *strrchr(deep, '/') = '\0';
    (void)rmdir(deep);
    assert_false(dir_exists(deep));
    free(deep);
    free(file);
    free(below);
}

static void known_paths(void **state)
{
    (void)state;
    char path[4096], small[8];
    setenv("XDG_CACHE_HOME", "/x/y", 1);
    assert_true(sys_cache_dir(path, sizeof path));
    assert_string_equal(path, "/x/y/tandem");
    assert_false(sys_cache_dir(small, sizeof small));
    setenv("XDG_CACHE_HOME", "relative", 1); /* not a valid value: as if it were not set */
    setenv("HOME", "/home/u", 1);
    assert_true(sys_cache_dir(path, sizeof path));
    assert_true(strncmp(path, "/home/u/", 8) == 0);
    unsetenv("XDG_CONFIG_HOME");
    assert_true(sys_config_dir(path, sizeof path));
    assert_true(strncmp(path, "/home/u/", 8) == 0 && strcmp(path + 8, ".config/tandem") == 0);
    setenv("XDG_CONFIG_HOME", "/x/c", 1);
    assert_true(sys_config_dir(path, sizeof path));
    assert_string_equal(path, "/x/c/tandem");
    assert_false(sys_config_dir(small, sizeof small));
    assert_true(sys_self_path(path, sizeof path));
    assert_non_null(strstr(path, "test_base_sys_file"));
    assert_true(file_exists(path));
    assert_false(sys_self_path(small, sizeof small));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_map_read),  cmocka_unit_test(empty_file),
        cmocka_unit_test(what_is_no_file), cmocka_unit_test(failed_write_leaves_nothing),
        cmocka_unit_test(folders),         cmocka_unit_test(known_paths),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
