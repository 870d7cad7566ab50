/* A random model in the library, as its tests have it: loaded with little memory and a template of its own; requests
 * whose answers have a length and a seed. For the one file of a test program. */
#ifndef TANDEM_TESTS_SUPPORT_LIBRARY_RUN_H
#define TANDEM_TESTS_SUPPORT_LIBRARY_RUN_H

#include "include/tandem.h"

#include "tests/support/engine_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define PATIENCE_MS 120000
#define LONG_TOKENS 400

static const char template[] =
    "{% if tools %}{% for t in tools %}<tools>{{ t.function.name }}</tools>{% endfor %}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking %}<think>\n{% endif %}{% endif %}";

struct fixture {
    struct temp_dir dir;
    char *path;
    struct tandem_model *model;
};

static inline struct tandem_model_options small_options(void)
{
    struct tandem_model_options o;
    tandem_model_options_init(&o, sizeof o);
    o.backend = "cpu";
    o.kv_memory = 1 << 24;
    o.threads = 1;
    o.chat_template = template;
    o.tool_format = "hermes";
    o.reasoning_format = "think";
    return o;
}

static inline struct tandem_model *load(const char *path)
{
    struct tandem_error error;
    struct tandem_model_options o = small_options();
    struct tandem_model *m = tandem_model_load(path, &o, &error);
    if (!m) {
        fail_msg("%s", error.message);
    }
    return m;
}

static inline struct tandem_request request_of(const char *prompt, int64_t max_tokens)
{
    struct tandem_request r;
    tandem_request_init(&r, sizeof r);
    r.prompt = prompt;
    r.max_tokens = max_tokens;
    r.has_seed = true;
    r.seed = 7;
    r.ignore_eos = true;
    return r;
}

static inline struct tandem_request chat_of(const struct tandem_message *message, int64_t max_tokens)
{
    struct tandem_request r = request_of(NULL, max_tokens);
    r.messages = message;
    r.n_messages = 1;
    return r;
}

static inline struct tandem_answer *must_answer(struct tandem_model *model, const struct tandem_request *r)
{
    struct tandem_error error = {0};
    struct tandem_answer *a = tandem_generate_wait(model, r, &error);
    if (!a) {
        fail_msg("%s", error.message);
    }
    return a;
}

static inline int group_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    temp_dir_make(&f->dir);
    f->path = engine_random_model(&f->dir, "llama-plain");
    f->model = load(f->path);
    *state = f;
    return 0;
}

static inline int group_teardown(void **state)
{
    struct fixture *f = *state;
    tandem_model_free(f->model);
    free(f->path);
    temp_dir_remove(&f->dir);
    free(f);
    return 0;
}

static inline struct tandem_generation *must_start(struct tandem_model *model, const struct tandem_request *r,
                                                   tandem_event_fn *fn, void *arg)
{
    struct tandem_error error = {0};
    struct tandem_generation *g = tandem_generate(model, r, fn, arg, &error);
    if (!g) {
        fail_msg("%s", error.message);
    }
    return g;
}

static inline void must_end(struct tandem_generation *g)
{
    assert_true(tandem_generation_wait(g, PATIENCE_MS));
}

#endif
