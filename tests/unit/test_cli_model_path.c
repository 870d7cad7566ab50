/* From names to model files: the models folder from the environment, names with ':', what is ambiguous or missing,
 * split files, and that paths are taken as they are. */
#include "cli/model_path.h"

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

#include <unistd.h>

struct fixture {
    struct temp_dir dir;
    char path[MODEL_PATH_MAX];
    struct error err;
    struct buf listed; /* file names, a blank behind each */
};

static void touch(struct fixture *f, const char *name)
{
    struct error err = {0};
    char *path = temp_dir_file(&f->dir, name);
    assert_true(file_write_atomic(path, STR("GGUF"), &err));
    free(path);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    buf_init(&f->listed, 4096);
    temp_dir_make(&f->dir);
    setenv("TANDEM_MODELS", f->dir.path, 1);
    touch(f, "smollm2-135m-instruct-q4_1.gguf");
    touch(f, "smollm2-360m-instruct-q4_1.gguf");
    touch(f, "smollm2-360m-instruct-q8_0.gguf");
    touch(f, "qwen2.5-coder-0.5b.gguf");
    touch(f, "qwen2.5-coder-0.5b-instruct.gguf");
    touch(f, "big-q4-00001-of-00003.gguf");
    touch(f, "big-q4-00002-of-00003.gguf");
    touch(f, "big-q4-00003-of-00003.gguf");
    touch(f, "notes.txt");
    touch(f, ".hidden.gguf");
    touch(f, "smollm2-135m-instruct-q4_1.gguf.part");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    unsetenv("TANDEM_MODELS");
    temp_dir_remove(&f->dir);
    buf_release(&f->listed);
    free(f);
    return 0;
}

static void must_be(struct fixture *f, const char *model, const char *file)
{
    char *expected = temp_dir_file(&f->dir, file);
    if (!model_path_resolve(model, f->path, &f->err)) {
        fail_msg("'%s': %s", model, f->err.msg);
    }
    assert_string_equal(f->path, expected);
    free(expected);
}

static void must_fail(struct fixture *f, const char *model, enum error_code code, const char *word)
{
    f->err = (struct error){0};
    if (model_path_resolve(model, f->path, &f->err)) {
        fail_msg("'%s' became %s", model, f->path);
    }
    assert_int_equal(f->err.code, code);
    if (!strstr(f->err.msg, word)) {
        fail_msg("'%s': no '%s' in \"%s\"", model, word, f->err.msg);
    }
}

static void list(void *arg, const char *path, const char *file)
{
    struct fixture *f = arg;
    char *expected = temp_dir_file(&f->dir, file);
    assert_string_equal(path, expected);
    free(expected);
    buf_printf(&f->listed, "%s ", file);
}

/* ---- names ---- */

static void a_name_finds_the_file_that_begins_with_it(void **state)
{
    struct fixture *f = *state;
    must_be(f, "smollm2:135m", "smollm2-135m-instruct-q4_1.gguf");
    must_be(f, "smollm2-135m", "smollm2-135m-instruct-q4_1.gguf");
    must_be(f, "smollm2:135m:instruct", "smollm2-135m-instruct-q4_1.gguf");
    must_be(f, "smollm2-135m-instruct-q4_1", "smollm2-135m-instruct-q4_1.gguf");
    must_be(f, "smollm2-135m-instruct-q4_1.gguf", "smollm2-135m-instruct-q4_1.gguf");
    must_be(f, "smollm2:360m:instruct-q8", "smollm2-360m-instruct-q8_0.gguf");
}

static void among_several_the_whole_name_wins(void **state)
{
    struct fixture *f = *state;
    must_be(f, "qwen2.5-coder-0.5b", "qwen2.5-coder-0.5b.gguf");
    must_be(f, "qwen2.5-coder:0.5b", "qwen2.5-coder-0.5b.gguf");
    must_be(f, "qwen2.5-coder:0.5b:instruct", "qwen2.5-coder-0.5b-instruct.gguf");
}

static void several_are_an_error_that_names_two(void **state)
{
    struct fixture *f = *state;
    must_fail(f, "smollm2:360m", ERR_INVALID, "fits 2 models");
    assert_non_null(strstr(f->err.msg, "smollm2-360m-instruct-q4_1.gguf, smollm2-360m-instruct-q8_0.gguf"));
    must_fail(f, "smollm2", ERR_INVALID, "fits 3 models");
    must_fail(f, "qwen2.5", ERR_INVALID, "fits 2 models");
}

static void what_is_not_there_names_the_folder(void **state)
{
    struct fixture *f = *state;
    must_fail(f, "gpt-5", ERR_NOT_FOUND, "'gpt-5'");
    assert_non_null(strstr(f->err.msg, f->dir.path));
    must_fail(f, "SMOLLM2:135m", ERR_NOT_FOUND, "SMOLLM2");
    must_fail(f, "135m", ERR_NOT_FOUND, "135m"); /* names begin with it */
    must_fail(f, "notes", ERR_NOT_FOUND, "notes");
    must_fail(f, ".hidden", ERR_NOT_FOUND, ".hidden");
    must_fail(f, "smollm2-135m-instruct-q4_1.gguf.part", ERR_NOT_FOUND, "part");
    must_fail(f, "", ERR_NOT_FOUND, "no file");
}

static void of_a_split_file_the_first_part_is_taken(void **state)
{
    struct fixture *f = *state;
    must_be(f, "big", "big-q4-00001-of-00003.gguf");
    must_be(f, "big:q4", "big-q4-00001-of-00003.gguf");
    must_fail(f, "big-q4-00002-of-00003.gguf", ERR_NOT_FOUND, "big-q4-00002");
}

/* ---- paths ---- */

static void a_path_is_taken_as_it_is(void **state)
{
    struct fixture *f = *state;
    char *there = temp_dir_file(&f->dir, "notes.txt"), *missing = temp_dir_file(&f->dir, "smollm2-135m");
    must_be(f, there, "notes.txt");
    assert_non_null(strchr(missing, '/'));
    must_fail(f, missing, ERR_NOT_FOUND, missing); /* not a name below that folder */
    must_fail(f, "./smollm2:135m", ERR_NOT_FOUND, "./smollm2:135m");
    free(there);
    free(missing);
}

static void a_file_in_the_working_folder_comes_first(void **state)
{
    struct fixture *f = *state;
    char before[4096];
    struct temp_dir other;
    struct error err = {0};
    assert_non_null(getcwd(before, sizeof before));
    temp_dir_make(&other);
    char *local = temp_dir_file(&other, "smollm2:135m");
    assert_true(file_write_atomic(local, STR("GGUF"), &err));
    assert_int_equal(chdir(other.path), 0);
    bool ok = model_path_resolve("smollm2:135m", f->path, &f->err);
    assert_int_equal(chdir(before), 0);
    assert_true(ok);
    assert_string_equal(f->path, "smollm2:135m");
    free(local);
    temp_dir_remove(&other);
}

static void long_names_are_refused(void **state)
{
    struct fixture *f = *state;
    char name[5000];
    memset(name, 'a', sizeof name);
    name[sizeof name - 1] = '\0';
    must_fail(f, name, ERR_NOT_FOUND, "aaa");
    name[255] = '\0';
    must_fail(f, name, ERR_NOT_FOUND, "aaa");
    name[0] = '/';
    must_fail(f, name, ERR_NOT_FOUND, "/aaa");
}

/* ---- model folders ---- */

static void make_model_folder(const struct fixture *f, const char *name, const char *file, char *path, size_t size)
{
    struct error err = {0};
    char inside[MODEL_PATH_MAX];
    snprintf(path, size, "%s/%s", f->dir.path, name);
    snprintf(inside, sizeof inside, "%s/%s", path, file);
    assert_true(dir_make(path, &err));
    assert_true(file_write_atomic(inside, STR("{}"), &err));
}

static void remove_model_folder(const char *path, const char *file)
{
    char inside[MODEL_PATH_MAX];
    snprintf(inside, sizeof inside, "%s/%s", path, file);
    assert_int_equal(unlink(inside), 0);
    assert_int_equal(rmdir(path), 0);
}

static void a_folder_with_a_config_is_a_model(void **state)
{
    struct fixture *f = *state;
    char model[512], other[512], slash[600];
    make_model_folder(f, "tiny-llama-4bit", "config.json", model, sizeof model);
    make_model_folder(f, "tiny-notes", "notes.txt", other, sizeof other);
    must_be(f, "tiny:llama", "tiny-llama-4bit");
    must_be(f, "tiny", "tiny-llama-4bit"); /* the other is none */
    must_be(f, model, "tiny-llama-4bit");
    snprintf(slash, sizeof slash, "%s//", model);
    must_be(f, slash, "tiny-llama-4bit"); /* named after what is before it */
    must_fail(f, other, ERR_NOT_FOUND, "no config.json");
    assert_true(models_each(list, f, &f->err));
    assert_non_null(strstr(f->listed.data, " tiny-llama-4bit "));
    assert_null(strstr(f->listed.data, "tiny-notes"));
    remove_model_folder(model, "config.json");
    remove_model_folder(other, "notes.txt");
}

/* ---- the folder ---- */

static void the_folder_comes_from_the_environment(void **state)
{
    struct fixture *f = *state;
    char folder[256], cache[512], *home_before = getenv("HOME") ? strdup(getenv("HOME")) : NULL,
                                  *cache_before = getenv("XDG_CACHE_HOME") ? strdup(getenv("XDG_CACHE_HOME")) : NULL;
    assert_true(models_folder(folder, sizeof folder));
    assert_string_equal(folder, f->dir.path);
    assert_false(models_folder(folder, 3));
    setenv("TANDEM_MODELS", "", 1); /* as if it were not set */
    setenv("XDG_CACHE_HOME", "/cache", 1);
    assert_true(models_folder(folder, sizeof folder));
    assert_string_equal(folder, "/cache/tandem/models");
    unsetenv("TANDEM_MODELS");
    unsetenv("XDG_CACHE_HOME");
    setenv("HOME", "/home/someone", 1);
    assert_true(sys_cache_dir(cache, sizeof cache));
    assert_true(models_folder(folder, sizeof folder));
    assert_int_equal(strncmp(folder, cache, strlen(cache)), 0);
    assert_string_equal(folder + strlen(cache), "/models");
    unsetenv("HOME");
    must_fail(f, "smollm2:135m", ERR_NOT_FOUND, "no home folder");
    assert_false(models_each(NULL, NULL, &f->err));
    assert_non_null(strstr(f->err.msg, "TANDEM_MODELS"));
    if (home_before) {
        setenv("HOME", home_before, 1);
    }
    if (cache_before) {
        setenv("XDG_CACHE_HOME", cache_before, 1);
    }
    free(home_before);
    free(cache_before);
}

static void all_models_are_listed_sorted(void **state)
{
    struct fixture *f = *state;
    assert_true(models_each(list, f, &f->err));
    assert_true(str_eq(buf_view(&f->listed), STR("big-q4-00001-of-00003.gguf qwen2.5-coder-0.5b-instruct.gguf "
                                                 "qwen2.5-coder-0.5b.gguf smollm2-135m-instruct-q4_1.gguf "
                                                 "smollm2-360m-instruct-q4_1.gguf smollm2-360m-instruct-q8_0.gguf ")));
}

static void a_missing_folder_holds_no_models(void **state)
{
    struct fixture *f = *state;
    setenv("TANDEM_MODELS", "/nowhere/models", 1);
    assert_true(models_each(list, f, &f->err));
    assert_int_equal(f->listed.len, 0);
    must_fail(f, "smollm2:135m", ERR_NOT_FOUND, "/nowhere/models");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_name_finds_the_file_that_begins_with_it), TEST(among_several_the_whole_name_wins),
        TEST(several_are_an_error_that_names_two),       TEST(what_is_not_there_names_the_folder),
        TEST(of_a_split_file_the_first_part_is_taken),   TEST(a_path_is_taken_as_it_is),
        TEST(a_file_in_the_working_folder_comes_first),  TEST(long_names_are_refused),
        TEST(the_folder_comes_from_the_environment),     TEST(all_models_are_listed_sorted),
        TEST(a_missing_folder_holds_no_models),          TEST(a_folder_with_a_config_is_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
