/* What a model is made of, by names alone. */
#include "tensor/model_paths.h"

#include "base/str.h"
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

struct seen {
    char paths[16][600];
    int n;
};

static void note(void *arg, const char *path)
{
    struct seen *s = arg;
    assert_true(s->n < 16);
    snprintf(s->paths[s->n++], sizeof s->paths[0], "%s", path);
}

static bool has(const struct seen *s, const char *path)
{
    for (int i = 0; i < s->n; i++) {
        if (strcmp(s->paths[i], path) == 0) {
            return true;
        }
    }
    return false;
}

static void a_file_and_its_shards(void **state)
{
    (void)state;
    struct seen s = {.n = 0};
    model_paths_each("/no/such.gguf", note, &s);
    assert_int_equal(s.n, 1);
    assert_string_equal(s.paths[0], "/no/such.gguf");

    s.n = 0;
    model_paths_each("/no/such-00001-of-00003.gguf", note, &s);
    assert_true(has(&s, "/no/such-00001-of-00003.gguf"));
    assert_true(has(&s, "/no/such-00002-of-00003.gguf"));
    assert_true(has(&s, "/no/such-00003-of-00003.gguf"));

    s.n = 0;
    model_paths_each("/no/such-00001-of-99999.gguf", note, &s); /* the reader refuses it */
    assert_int_equal(s.n, 1);
}

static void a_folder_of_links(void **state)
{
    (void)state;
    struct temp_dir folder, blobs;
    struct error err = {0};
    struct seen s = {.n = 0};
    temp_dir_make(&folder);
    temp_dir_make(&blobs);
    char *blob = temp_dir_file(&blobs, "abc"), *link = temp_dir_file(&folder, "config.json");
    char *plain = temp_dir_file(&folder, "plain"), *to_dir = temp_dir_file(&folder, "dir");
    char *dead = temp_dir_file(&folder, "dead"), *below = temp_dir_file(&folder, "additional_chat_templates");
    char inner[600];
    assert_true(file_write_atomic(blob, STR("{}"), &err) && file_write_atomic(plain, STR("x"), &err));
    snprintf(inner, sizeof inner, "%s/tool.jinja", below);
    assert_int_equal(mkdir(below, 0700), 0);
    assert_int_equal(symlink(blob, link) | symlink("/", to_dir) | symlink("/no/such", dead) | symlink(blob, inner), 0);
    model_paths_each(folder.path, note, &s);
    assert_string_equal(s.paths[0], folder.path);
    assert_true(has(&s, link) && has(&s, inner));
    assert_int_equal(s.n, 3); /* not the folder that a link leads to, which would be all below it */
    unlink(inner);
    rmdir(below);
    char *const all[] = {blob, link, plain, to_dir, dead, below};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        free(all[i]);
    }
    temp_dir_remove(&folder);
    temp_dir_remove(&blobs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_and_its_shards),
        cmocka_unit_test(a_folder_of_links),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
