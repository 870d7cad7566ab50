/* Memory that runs out in what the library does on the caller's thread: whichever allocation fails, there is an error
 * or the whole result, and nothing is left behind. */
#include "include/tandem.h"

#include "tests/support/engine_run.h"
#include "tests/support/failing_memory.h"
#include "tests/support/model_adapter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ALLOCATIONS_MAX 20000

#if CAN_FAIL
/* Never fails: json-c 0.16 does not check the copy it makes of a key, and crashes. */
char *strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(__libc_malloc(size), text, size);
}
#endif

static const char template[] = "{% for t in tools %}{{ t.function.name }} {% endfor %}{{ kind }}: "
                               "{% for m in messages %}{{ m.content }}{% endfor %}";

struct fixture {
    struct temp_dir dir;
    char *path, *adapter;
    struct tandem_model *model;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct tandem_model_options o;
    struct tandem_error error = {0};
    temp_dir_make(&f->dir);
    f->path = engine_random_model(&f->dir, "llama-plain");
    f->adapter = temp_dir_file(&f->dir, "adapter.gguf");
    random_adapter_write("llama-linear", 0, f->adapter);
    tandem_model_options_init(&o, sizeof o);
    o.backend = "cpu";
    o.kv_memory = 1 << 24;
    o.threads = 1;
    o.chat_template = template;
    o.tool_format = "hermes";
    f->model = tandem_model_load(f->path, &o, &error);
    if (!f->model) {
        fail_msg("%s", error.message);
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    tandem_model_free(f->model);
    free(f->path);
    free(f->adapter);
    temp_dir_remove(&f->dir);
    free(f);
    return 0;
}

static void *render(struct fixture *f, struct tandem_error *error)
{
    struct tandem_message messages[] = {{"system", "Be brief."}, {"user", "Hello"}};
    const char *stops[] = {"a", "b"};
    struct tandem_request r;
    tandem_request_init(&r, sizeof r);
    r.messages = messages;
    r.n_messages = 2;
    r.tools_json =
        "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"type\": \"object\"}}}]";
    r.template_variables_json = "{\"kind\": \"test\"}";
    r.stops = stops;
    r.n_stops = 2;
    r.regex = "[a-z]*";
    return tandem_render_chat(f->model, &r, NULL, error);
}

static void *tokenize(struct fixture *f, struct tandem_error *error)
{
    size_t n;
    return tandem_tokenize(f->model, "some words <|im_end|>", SIZE_MAX, TANDEM_PARSE_SPECIAL, &n, error);
}

static void *detokenize(struct fixture *f, struct tandem_error *error)
{
    return tandem_detokenize(f->model, (int32_t[]){'a', 'b', 258, 0xC3, 0xA9}, 5, 0, NULL, error);
}

/* Its name is free again, whatever happened. */
static void *load_adapter(struct fixture *f, struct tandem_error *error)
{
    static char loaded;
    if (!tandem_model_load_adapter(f->model, "x", f->adapter, error)) {
        return NULL;
    }
    return tandem_model_unload_adapter(f->model, "x", error) ? &loaded : NULL;
}

/* An error has a code of memory: an arena that cannot grow says that something is too large for it. */
static void fail_everywhere(struct fixture *f, void *(*run)(struct fixture *f, struct tandem_error *error))
{
    bool failed = true;
    long at = 0;
    for (; failed && at < ALLOCATIONS_MAX; at++) {
        struct tandem_error error = {0};
        n_allocations = 0;
        fail_at = at;
        void *result = run(f, &error);
        fail_at = -1;
        failed = n_allocations > at;
        if (!result && error.code != TANDEM_NO_MEMORY && error.code != TANDEM_TOO_LARGE) {
            fail_msg("allocation %ld: %s (%s)", at, error.message, tandem_code_name(error.code));
        }
        assert_true(result || failed);
        tandem_free(run == load_adapter ? NULL : result);
    }
    assert_true(at < ALLOCATIONS_MAX);
}

static void rendering(void **state)
{
    struct tandem_error error = {0};
    char *text = render(*state, &error);
    assert_string_equal(text, "f test: Be brief.Hello");
    tandem_free(text);
    fail_everywhere(*state, render);
}

static void tokenizing(void **state)
{
    fail_everywhere(*state, tokenize);
}

static void detokenizing(void **state)
{
    fail_everywhere(*state, detokenize);
}

static void loading_adapters(void **state)
{
    fail_everywhere(*state, load_adapter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rendering),
        cmocka_unit_test(tokenizing),
        cmocka_unit_test(detokenizing),
        cmocka_unit_test(loading_adapters),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
