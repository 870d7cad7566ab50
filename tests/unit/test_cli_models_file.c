/* The file of --models: what it says, and how it is refused; the list that is made of it; every allocation of its
 * arena failing in turn. */
#include "base/limits.h"
#include "base/sys_file.h"
#include "cli/models_list.h"
#include "tests/support/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    struct options base;
    struct models_file file;
    struct error err;
    struct arena *arena;
    struct temp_dir dir;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    char *no_words[] = {NULL};
    temp_dir_make(&f->dir);
    setenv("TANDEM_MODELS", f->dir.path, 1);
    f->arena = arena_create(MIB(4));
    *state = f;
    return options_parse(COMMAND_SERVE, 0, no_words, f->arena, &f->base, &f->err) ? 0 : 1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    arena_free(f->arena);
    temp_dir_remove(&f->dir);
    free(f);
    return 0;
}

static void parse(struct fixture *f, const char *text)
{
    if (!models_file_parse(str_of(text), &f->base, f->arena, &f->file, &f->err)) {
        fail_msg("%s", f->err.msg);
    }
}

static void refuse(struct fixture *f, const char *text, const char *where, const char *why)
{
    f->err = (struct error){0};
    assert_false(models_file_parse(str_of(text), &f->base, f->arena, &f->file, &f->err));
    if (f->err.code != ERR_INVALID || !strstr(f->err.msg, where) || !strstr(f->err.msg, why)) {
        fail_msg("%s\nis refused with: %s", text, f->err.msg);
    }
}

static const char whole[] =
    "{\"memory\": \"2GiB\", \"keep_alive\": \"90s\", \"folder\": false, \"models\": [\n"
    "{\"name\": \"small\", \"model\": \"smollm2:135m\", \"names\": [\"gpt-*\", \"tiny\"], \"pin\": true,\n"
    " \"preload\": true, \"keep_alive\": -1, \"options\": {\"max_context\": 4096, \"kv-type\": \"f32\",\n"
    "  \"override-kv\": [\"a=int:1\", \"b=int:2\"], \"prefix-cache\": false, \"kv-memory\": \"64M\"}},\n"
    "{\"model\": \"large\"}]}";

static void everything_is_read(void **state)
{
    struct fixture *f = *state;
    parse(f, whole);
    const struct models_entry *small = &f->file.entries[0], *large = &f->file.entries[1];
    assert_int_equal(f->file.n, 2);
    assert_int_equal(f->file.memory, GIB(2));
    assert_int_equal(f->file.keep_alive_ms, 90000);
    assert_false(f->file.folder);
    assert_string_equal(small->name, "small");
    assert_string_equal(small->model, "smollm2:135m");
    assert_int_equal(small->aliases.n, 2);
    assert_string_equal(small->aliases.items[1], "tiny");
    assert_true(small->pinned && small->preload && small->has_keep_alive);
    assert_int_equal(small->keep_alive_ms, -1);
    assert_int_equal(small->options.max_context, 4096);
    assert_string_equal(small->options.kv_type, "f32");
    assert_int_equal(small->options.overrides.n, 2);
    assert_false(small->options.prefix_cache);
    assert_int_equal(small->options.kv_memory, MIB(64));
    assert_string_equal(large->name, "large");
    assert_false(large->pinned || large->preload || large->has_keep_alive);
    assert_int_equal(large->options.max_context, 0);
    assert_true(large->options.prefix_cache);
    assert_true(small->version != large->version);
}

static void nothing_is_a_list_too(void **state)
{
    struct fixture *f = *state;
    parse(f, "{}");
    assert_int_equal(f->file.n, 0);
    assert_true(f->file.folder);
    assert_false(f->file.has_keep_alive);
}

static void refusals_name_line_and_field(void **state)
{
    struct fixture *f = *state;
    refuse(f, "{\n\n\"memory\": true}", "line 3, 'memory'", "got boolean");
    refuse(f, "{\"memory\": \"lots\"}", "'memory'", "20GiB");
    refuse(f, "{\"keep_alive\": \"soon\"}", "'keep_alive'", "duration");
    refuse(f, "{\"modles\": []}", "'modles'", "no such field");
    refuse(f, "{\"models\": {}}", "'models'", "an array");
    refuse(f, "{\"models\": [\n{\"model\": \"a\"},\n7]}", "line 3, 'models[1]'", "an object");
    refuse(f, "{\"models\": [{\"name\": \"a\"}]}", "'models[0]'", "'model' is missing");
    refuse(f, "{\"models\": [{\"model\": \"\"}]}", "'models[0].model'", "1 to 200 bytes");
    refuse(f, "{\"models\": [{\"model\": \"x\", \"name\": \"a*\"}]}", "'models[0].name'", "patterns");
    refuse(f, "{\"models\": [{\"model\": \"x\", \"names\": [\"a\", 1]}]}", "'models[0].names[1]'", "got integer");
    refuse(f, "{\"models\": [{\"model\": \"x\", \"pin\": 1}]}", "'models[0].pin'", "a boolean");
    refuse(f, "{\"models\": [{\"model\": \"x\", \"options\": {\n\"port\": 1}}]}", "line 2, 'models[0].options.port'",
           "the server's");
    refuse(f, "{\"models\": [{\"model\": \"x\", \"options\": {\"journal\": \"x\"}}]}", "journal", "the server's");
    refuse(f, "{\"models\": [{\"model\": \"x\", \"options\": {\"colour\": 1}}]}", "colour", "no such option");
    refuse(f, "{\"models\": [{\"model\": \"x\", \"options\": {\n\"max-context\": -1}}]}",
           "line 2, 'models[0].options.max-context'", "from 0 to");
    refuse(f, "{\"models\": [{\"model\": \"x\", \"options\": {\"kv-type\": \"f64\"}}]}", "'models[0]'", "f64");
    refuse(f, "{\"models\": [{\"model\": \"x\", \"options\": {\"quantize\": \"q4_k\"}}]}", "'models[0]'",
           "none, 8, 6 or 4");
    refuse(f, "{\"models\": [{\"model\": \"x\", \"options\": {\"memory\": \"1G\"}}]}", "memory", "the server's");
    refuse(f, "{\"models\": [{\"model\": \"x\", \"options\": {\"kv-disk-gb\": 1}}]}", "'models[0]'", "--kv-disk-dir");
    refuse(f, "{\"models\": [{\"model\": \"x\", \"name\": \"a\"}, {\"model\": \"y\", \"names\": [\"a\"]}]}",
           "'models[1]'", "models[0] already");
}

static void too_many_are_refused(void **state)
{
    struct fixture *f = *state;
    struct buf text;
    buf_init(&text, MIB(1));
    buf_puts(&text, "{\"models\": [");
    for (int i = 0; i <= MODELS_FILE_MAX; i++) {
        buf_printf(&text, "%s{\"model\": \"m%d\"}", i ? "," : "", i);
    }
    buf_puts(&text, "]}");
    refuse(f, text.data, "'models'", "at most 256");
    buf_release(&text);
}

/* Whatever the arena has no room for. */
static void every_arena_that_is_too_small(void **state)
{
    struct fixture *f = *state;
    size_t size = 1;
    for (; size < MIB(1); size += size / 16 + 1) {
        struct arena *small = arena_create(size);
        f->err = (struct error){0};
        bool ok = small && models_file_parse(str_of(whole), &f->base, small, &f->file, &f->err);
        arena_free(small);
        if (ok) {
            break;
        }
        assert_true(!small || f->err.code == ERR_TOO_LARGE);
    }
    assert_true(size < MIB(1));
}

/* ---- the list ---- */

/* Its path; free(). */
static char *put_file(struct fixture *f, const char *name, const char *text)
{
    char *path = temp_dir_file(&f->dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    return path;
}

static void put_model(struct fixture *f, const char *file)
{
    free(put_file(f, file, "x"));
}

static void make(struct fixture *f, const char *text, struct models_list *list)
{
    char *path = put_file(f, "models.json", text);
    f->base.models = arena_strdup(f->arena, str_of(path));
    free(path);
    if (!models_list_make(&f->base, &(struct models_bring){.now = true}, list, &f->err)) {
        fail_msg("%s", f->err.msg);
    }
}

static void the_file_comes_first_then_the_folder(void **state)
{
    struct fixture *f = *state;
    struct models_list list;
    put_model(f, "one.gguf");
    put_model(f, "two.gguf");
    put_model(f, "three.gguf");
    make(f,
         "{\"keep_alive\": 7, \"models\": [{\"name\": \"best\", \"model\": \"two\", \"keep_alive\": \"1m\"}, "
         "{\"name\": \"three\", \"model\": \"one\"}]}",
         &list);
    assert_int_equal(list.n, 2); /* the folder's three has a name that is taken */
    assert_string_equal(list.items[0].names[0], "best");
    assert_int_equal(list.items[0].keep_alive_ms, 60000);
    assert_true(list.items[0].on_demand);
    assert_string_equal(list.items[1].names[0], "three");
    assert_int_equal(list.items[1].keep_alive_ms, 7000);
    uint64_t before[2] = {list.items[0].version, list.items[1].version};
    models_list_release(&list);
    make(f,
         "{\"keep_alive\": 7, \"models\": [{\"name\": \"best\", \"model\": \"two\", \"keep_alive\": \"1m\"}, "
         "{\"name\": \"three\", \"model\": \"one\", \"pin\": true}]}",
         &list);
    assert_true(list.items[0].version == before[0] && list.items[1].version != before[1]);
    models_list_release(&list);
    make(f, "{}", &list);
    assert_int_equal(list.n, 3);
    assert_string_equal(list.items[1].names[0], "three");
    assert_int_equal(list.items[1].keep_alive_ms, 300000);
    models_list_release(&list);
}

static void what_is_not_there_refuses_all(void **state)
{
    struct fixture *f = *state;
    struct models_list list;
    char *path = put_file(f, "models.json", "{\"models\": [{\"model\": \"gone\"}]}");
    f->base.models = path;
    assert_false(models_list_make(&f->base, &(struct models_bring){.now = true}, &list, &f->err));
    assert_non_null(strstr(f->err.msg, "gone"));
    models_list_release(&list);
    free(path);
}

/* Not by a commit or the name of a blob, which their files may have. */
static void models_of_the_command_line_have_the_names_they_were_given(void **state)
{
    struct fixture *f = *state;
    struct models_list list;
    char *path, text[400];
    put_model(f, "one.gguf");
    put_model(f, "two.gguf");
    snprintf(text, sizeof text, "{\"aliases\": {\"fast\": \"%s/one.gguf\"}}", f->dir.path);
    path = put_file(f, "registry.json", text);
    setenv("TANDEM_REGISTRY", path, 1);
    f->base.model = "fast";
    f->base.arguments.items[0] = "two";
    f->base.arguments.n = 1;
    if (!models_list_make(&f->base, &(struct models_bring){.now = true}, &list, &f->err)) {
        fail_msg("%s", f->err.msg);
    }
    assert_int_equal(list.n, 2);
    assert_string_equal(list.items[0].names[0], "fast");
    assert_string_equal(list.items[1].names[0], "two");
    models_list_release(&list);
    unsetenv("TANDEM_REGISTRY");
    free(path);
}

/* On SIGHUP: a download would hold up every stream. */
static void what_would_have_to_be_brought_is_refused_when_nobody_may_wait(void **state)
{
    static const char *const texts[] = {
        "{\"models\": [{\"name\": \"far\", \"model\": \"own/er\"}]}",
        "{\"models\": [{\"model\": \"one\", \"options\": {\"draft-model\": \"own/er:Q4_0\"}}]}",
    };
    struct fixture *f = *state;
    struct models_list list;
    setenv("HF_HUB_CACHE", f->dir.path, 1);
    setenv("HF_HUB_OFFLINE", "1", 1); /* so that a mistake here asks nobody */
    put_model(f, "one.gguf");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char *path = put_file(f, "models.json", texts[i]);
        f->base.models = path;
        assert_false(models_list_make(&f->base, &(struct models_bring){0}, &list, &f->err));
        assert_int_equal(f->err.code, ERR_NOT_FOUND);
        assert_non_null(strstr(f->err.msg, "tandem pull own/er"));
        models_list_release(&list);
        free(path);
    }
    unsetenv("HF_HUB_OFFLINE");
    unsetenv("HF_HUB_CACHE");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* Nothing of this machine is reached by what a request names. */
static void only_repositories_can_be_asked_for(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *name;
        bool is_one;
    } names[] = {{"own/er", true},        {"own/er@v1:Q4_0", true},
                 {"own/er:m.gguf", true}, {"mine", false},
                 {"own/er/x", false},     {"/etc/passwd", false},
                 {"./own/er", false},     {"../own", false},
                 {"~/own", false},        {"own/*", false},
                 {"own/e?", false},       {"own/m.gguf", false},
                 {"own/..", false},       {"", false},
                 {"own/er\n", false},     {"own/", false}};
    struct hub_settings settings = {.cache = "/nonexistent"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct served_model_options options;
        struct error err = {0};
        bool is_one = false;
        assert_true(models_list_ask(&f->base, &settings, str_of(names[i].name), &options, &is_one, &err));
        assert_int_equal(is_one, names[i].is_one);
        if (is_one) {
            assert_true(options.asked_for && options.on_demand && options.bring && options.model_path[0] == '\0');
            assert_string_equal(options.names[0], names[i].name);
        }
        arena_free(options.arena);
    }
    struct served_model_options options;
    struct error err = {0};
    bool is_one = true;
    struct str cut = {"own/er\0x", 8}; /* a NUL within */
    assert_true(models_list_ask(&f->base, &settings, cut, &options, &is_one, &err) && !is_one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(everything_is_read),
        TEST(nothing_is_a_list_too),
        TEST(refusals_name_line_and_field),
        TEST(too_many_are_refused),
        TEST(every_arena_that_is_too_small),
        TEST(the_file_comes_first_then_the_folder),
        TEST(what_is_not_there_refuses_all),
        TEST(models_of_the_command_line_have_the_names_they_were_given),
        TEST(what_would_have_to_be_brought_is_refused_when_nobody_may_wait),
        TEST(only_repositories_can_be_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
