#include "base/limits.h"
#include "hub/choose.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MAX_FILES 16

struct fixture {
    struct arena *arena;
    struct hub_listing l;
    struct hub_choice c;
    struct error err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->arena = arena_create(MIB(1));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    arena_free(f->arena);
    free(f);
    return 0;
}

static void list(struct fixture *f, const char *const *names)
{
    f->l = (struct hub_listing){.files = arena_alloc_array(f->arena, MAX_FILES, sizeof(struct hub_file))};
    for (size_t i = 0; names[i]; i++) {
        assert_true(i < MAX_FILES);
        f->l.files[f->l.n++] = (struct hub_file){.path = str_of(names[i]), .size = 10};
    }
    hub_listing_sort(&f->l);
}
#define LIST(f, ...) list(f, (const char *const[]){__VA_ARGS__, NULL})

static bool choose(struct fixture *f, const char *selector, enum hub_folder_use folder)
{
    struct hub_reference r;
    char text[256];
    f->err = (struct error){0};
    snprintf(text, sizeof text, "a/b%s%s", selector[0] ? ":" : "", selector);
    assert_true(hub_reference_parse(text, &r, &f->err));
    return hub_choose(&f->l, &r, folder, f->arena, &f->c, &f->err);
}

static void is(struct fixture *f, const char *selector, const char *files)
{
    char got[1024] = "";
    size_t len = 0;
    if (!choose(f, selector, HUB_FOLDER_FIRST)) {
        fail_msg("%s", f->err.msg);
    }
    for (size_t i = 0; i < f->c.n; i++) {
        len += (size_t)snprintf(got + len, sizeof got - len, "%s%s", i ? " " : "", f->c.files[i]->path.ptr);
    }
    assert_string_equal(got, files);
    assert_int_equal(f->c.size, 10 * f->c.n);
}

static void fails(struct fixture *f, const char *selector, enum error_code code, const char *message)
{
    assert_false(choose(f, selector, HUB_FOLDER_FIRST));
    assert_int_equal(f->err.code, code);
    if (!strstr(f->err.msg, message)) {
        fail_msg("'%s', not '%s'", f->err.msg, message);
    }
}

static void a_folder_is_its_json_and_its_weights(void **state)
{
    struct fixture *f = *state;
    LIST(f, "README.md", "config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin", "modeling_x.py",
         "onnx/model.onnx", "additional_chat_templates/tool_use.jinja", "additional_chat_templates/run.py");
    is(f, "", "additional_chat_templates/tool_use.jinja config.json tokenizer.json model.safetensors");
    assert_true(f->c.is_folder);
    is(f, "safetensors", "additional_chat_templates/tool_use.jinja config.json tokenizer.json model.safetensors");
}

static void shards_come_by_the_index(void **state)
{
    struct fixture *f = *state;
    char missing[HUB_FILE_MAX + 1];
    LIST(f, "config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors",
         "model-00002-of-00002.safetensors", "consolidated.safetensors", "sub/model-00001-of-00002.safetensors",
         "consolidated-00001-of-00002.safetensors", "consolidated-00002-of-00002.safetensors",
         "z-00001-of-00002.safetensors");
    is(f, "",
       "config.json model.safetensors.index.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors");
    assert_false(hub_choice_lacks(&f->c, missing, sizeof missing));
    LIST(f, "config.json", "model.safetensors.index.json", "model-00002-of-00003.safetensors",
         "model-00003-of-00003.safetensors");
    assert_true(choose(f, "", HUB_FOLDER_FIRST));
    assert_true(hub_choice_lacks(&f->c, missing, sizeof missing));
    assert_string_equal(missing, "model-00001-of-00003.safetensors");
    LIST(f, "config.json", "model.safetensors.index.json", "consolidated-00001-of-00002.safetensors",
         "consolidated-00002-of-00002.safetensors", "model-00001-of-00002.safetensors");
    assert_true(choose(f, "", HUB_FOLDER_FIRST));
    assert_true(hub_choice_lacks(&f->c, missing, sizeof missing)); /* others do not make up for it */
    assert_string_equal(missing, "model-00002-of-00002.safetensors");
    LIST(f, "config.json", "model.safetensors.index.json", "x-00001-of-00002.safetensors",
         "x-00002-of-00002.safetensors");
    is(f, "", "config.json model.safetensors.index.json x-00001-of-00002.safetensors x-00002-of-00002.safetensors");
}

static void a_precision_names_a_gguf_file(void **state)
{
    struct fixture *f = *state;
    LIST(f, "m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "m-q6_k.gguf", "m-BF16.gguf", "mmproj-m-f16.gguf",
         "m.imatrix.gguf", "m-UD-Q4_K_XL.gguf");
    is(f, "", "m-Q4_K_M.gguf");
    is(f, "Q8_0", "m-Q8_0.gguf");
    is(f, "q8_0", "m-Q8_0.gguf");
    is(f, "Q4_K_S", "m-Q4_K_S.gguf");
    is(f, "Q6_K", "m-q6_k.gguf");
    is(f, "4bit", "m-Q4_K_M.gguf");
    is(f, "8bit", "m-Q8_0.gguf");
    is(f, "16-bit", "m-BF16.gguf");
    is(f, "Q4_K_XL", "m-UD-Q4_K_XL.gguf");
    is(f, "m-Q8_0.gguf", "m-Q8_0.gguf");
    is(f, "mmproj-m-f16.gguf", "mmproj-m-f16.gguf"); /* by its name anything */
    fails(f, "Q4_K", ERR_NOT_FOUND, "on offer: Q4_K_M, Q4_K_XL, Q4_K_S, Q6_K, Q8_0, BF16");
    fails(f, "F16", ERR_NOT_FOUND, "there is no 'F16'");
    fails(f, "x.gguf", ERR_NOT_FOUND, "there is no 'x.gguf'");
    fails(f, "safetensors", ERR_NOT_FOUND, "there is no 'safetensors'");
}

static void a_split_file_is_all_its_parts(void **state)
{
    struct fixture *f = *state;
    char missing[HUB_FILE_MAX + 1];
    LIST(f, "Q8_0/m-Q8_0-00001-of-00003.gguf", "Q8_0/m-Q8_0-00002-of-00003.gguf", "Q8_0/m-Q8_0-00003-of-00003.gguf",
         "m-Q4_0-00001-of-00002.gguf");
    is(f, "Q8_0", "Q8_0/m-Q8_0-00001-of-00003.gguf Q8_0/m-Q8_0-00002-of-00003.gguf Q8_0/m-Q8_0-00003-of-00003.gguf");
    assert_false(hub_choice_lacks(&f->c, missing, sizeof missing));
    is(f, "Q8_0/m-Q8_0-00003-of-00003.gguf",
       "Q8_0/m-Q8_0-00001-of-00003.gguf Q8_0/m-Q8_0-00002-of-00003.gguf Q8_0/m-Q8_0-00003-of-00003.gguf");
    assert_true(str_eq(f->c.main, STR("Q8_0/m-Q8_0-00001-of-00003.gguf")));
    is(f, "", "m-Q4_0-00001-of-00002.gguf");
    assert_true(hub_choice_lacks(&f->c, missing, sizeof missing));
    assert_string_equal(missing, "m-Q4_0-00002-of-00002.gguf");
}

static void of_both_the_caller_says(void **state)
{
    struct fixture *f = *state;
    LIST(f, "config.json", "model.safetensors", "m-Q8_0.gguf");
    is(f, "", "config.json model.safetensors");
    assert_true(choose(f, "", HUB_FOLDER_LAST) && !f->c.is_folder);
    assert_true(hub_choice_is_open(&f->l, &(struct hub_reference){.kind = HUB_REPO}, &f->c));
    assert_false(hub_choice_is_open(&f->l, &(struct hub_reference){.kind = HUB_REPO, .precision = "Q8_0"}, &f->c));
    assert_false(hub_choice_is_open(&f->l, &(struct hub_reference){.kind = HUB_REPO, .file = "m-Q8_0.gguf"}, &f->c));
    assert_true(choose(f, "safetensors", HUB_FOLDER_LAST) && f->c.is_folder);
    LIST(f, "config.json", "model.safetensors");
    assert_true(choose(f, "", HUB_FOLDER_LAST) && f->c.is_folder);
    assert_false(hub_choice_is_open(&f->l, &(struct hub_reference){.kind = HUB_REPO}, &f->c));
}

static void count(void *arg, const struct hub_choice *c)
{
    assert_int_equal(c->n, 1);
    ++*(size_t *)arg;
}

/* None is left out for want of memory. */
static void every_model_of_many_is_shown(void **state)
{
    enum { MANY = 2000 };
    static char names[MANY][24];
    struct fixture *f = *state;
    size_t n = 0;
    f->l = (struct hub_listing){.files = arena_alloc_array(f->arena, MANY, sizeof(struct hub_file))};
    assert_non_null(f->l.files);
    for (; f->l.n < MANY; f->l.n++) {
        snprintf(names[f->l.n], sizeof names[0], "%05zu-Q8_0.gguf", f->l.n);
        f->l.files[f->l.n].path = str_of(names[f->l.n]);
    }
    hub_choose_each_gguf(&f->l, f->arena, count, &n);
    assert_int_equal(n, MANY);
}

static void pickles_and_code_are_never_chosen(void **state)
{
    struct fixture *f = *state;
    LIST(f, "config.json", "pytorch_model.bin", "modeling_x.py");
    fails(f, "", ERR_UNSUPPORTED, "pickles");
    LIST(f, "x.ckpt");
    fails(f, "", ERR_UNSUPPORTED, "pickles");
    LIST(f, "config.json", "a.safetensors", "b.safetensors");
    fails(f, "", ERR_UNSUPPORTED, "make one model");
    LIST(f, "adapter_config.json", "adapter_model.safetensors");
    fails(f, "", ERR_UNSUPPORTED, "neither config.json");
    LIST(f, "README.md");
    fails(f, "", ERR_UNSUPPORTED, "no model");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_folder_is_its_json_and_its_weights), TEST(shards_come_by_the_index), TEST(a_precision_names_a_gguf_file),
        TEST(a_split_file_is_all_its_parts),        TEST(of_both_the_caller_says),  TEST(every_model_of_many_is_shown),
        TEST(pickles_and_code_are_never_chosen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
