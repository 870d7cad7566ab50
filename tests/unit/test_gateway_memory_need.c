/* What an engine will take: each part by itself, and the whole within its bounds. */
#include "base/limits.h"
#include "gateway/memory_need.h"
#include "tests/support/random_model.h"
#include "tests/support/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Llama's shape at the size of a 7B model; the file is never read but for its size. */
static const struct decoder_config config = {.arch = "llama",
                                             .n_layers = 32,
                                             .n_embd = 4096,
                                             .n_vocab = 32000,
                                             .n_context = 8192,
                                             .n_heads = 32,
                                             .n_kv_heads = 8,
                                             .k_dim = 128,
                                             .v_dim = 128,
                                             .n_ff = 11008};

struct fixture {
    struct temp_dir dir;
    char *path;
    struct model_file *file;
    struct served_model_options options;
};

static const char tiny[] =
    "{\"seed\": 1, \"vocab_size\": 320, \"metadata\": {\"general.architecture\": [\"str\", \"llama\"]}, \"tensors\": "
    "[{\"name\": \"token_embd.weight\", \"shape\": [320, 64], \"std\": 0.1, \"offset\": 0}]}";

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct error err = {0};
    temp_dir_make(&f->dir);
    f->path = temp_dir_file(&f->dir, "m.gguf");
    struct random_model *model = random_model_create(str_of(tiny), NULL, &err);
    bool ok = model && gguf_write_file(random_model_writer(model), f->path, &err);
    random_model_free(model);
    f->file = ok ? model_file_open(f->path, &err) : NULL;
    f->options = (struct served_model_options){.model_path = f->path, .kv_type = "f16"};
    *state = f;
    return f->file ? 0 : 1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    model_file_close(f->file);
    temp_dir_remove(&f->dir);
    free(f->path);
    free(f);
    return 0;
}

static struct memory_need need(struct fixture *f, uint64_t budget)
{
    struct memory_need n;
    struct error err = {0};
    if (!memory_need(&f->options, f->file, &config, budget, &n, &err)) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(n.total, n.weights + n.kv + n.scratch + n.process);
    assert_true(n.kv >= n.pool_size && n.pool_size % MIB(2) == 0);
    return n;
}

static void parts(void **state)
{
    struct fixture *f = *state;
    f->options.kv_memory = GIB(1);
    struct memory_need n = need(f, 0);
    assert_int_equal(n.weights, model_file_size(f->file));
    assert_int_equal(n.pool_size, GIB(1));
    assert_true(n.process >= MIB(32) && n.process < MIB(128));
    assert_true(n.scratch > MIB(64) && n.scratch < GIB(1)); /* 256 rows of 4096 to 11008 values, 64 of logits */
    assert_int_equal(need(f, GIB(64)).total, n.total);      /* the budget says nothing where the pool is given */
}

static void pool_is_a_share_and_never_more_than_can_be_used(void **state)
{
    struct fixture *f = *state;
    size_t token = memory_kv_token_size(&config, KV_F16);
    assert_int_equal(token, 32 * 8 * 256 * 2);
    struct memory_need large = need(f, GIB(1024));
    assert_int_equal(large.pool_size, token * 8192 * 64);
    struct memory_need middle = need(f, GIB(16));
    assert_true(middle.pool_size > GIB(3) && middle.pool_size < GIB(4));
    assert_int_equal(need(f, MIB(64)).pool_size, MIB(32)); /* and never less than is of any use */
    f->options.max_context = 100;
    f->options.max_sequences = 1;
    assert_int_equal(need(f, GIB(16)).pool_size, MIB(14)); /* 100 tokens, rounded up */
}

/* What Qwen3-Next's states take, beside its K and V: a constant for each sequence, and as much as those for what the
 * prefix cache keeps. */
static void states_are_a_constant(void **state)
{
    struct fixture *f = *state;
    struct decoder_config with = config;
    struct memory_need n;
    struct error err = {0};
    size_t token = memory_kv_token_size(&config, KV_F16);
    with.delta = (struct delta_params){.n_k_heads = 16, .n_v_heads = 32, .k_dim = 128, .v_dim = 128, .n_taps = 4};
    for (int i = 0; i < with.n_layers; i++) {
        with.layer_delta[i] = i % 4 != 3;
    }
    size_t state_page = 24 * (size_t)(32 * 128 * 128 + 3 * 8192) * 4 + 64;
    assert_int_equal(memory_kv_token_size(&with, KV_F16), 2 * token / 4);
    assert_int_equal(memory_least_pool(&with, KV_F16), 6 * state_page);
    assert_int_equal(memory_useful_pool(&with, KV_F16, 1000, 3), 3 * (1000 * (token / 2) + 6 * state_page));
    assert_true(memory_scratch(&with, 0, 0) > memory_scratch(&config, 0, 0));
    for (uint64_t budget = MIB(64); budget <= GIB(64); budget *= 1024) { /* a single short sequence, too */
        f->options.max_context = 100;
        f->options.max_sequences = 1;
        assert_true(memory_need(&f->options, f->file, &with, budget, &n, &err));
        assert_true(n.pool_size >= 6 * state_page && n.pool_size < 7 * state_page);
    }
}

static void draft_model_counts(void **state)
{
    struct fixture *f = *state;
    f->options.kv_memory = GIB(1);
    struct memory_need without = need(f, 0);
    f->options.draft_model_path = f->path;
    struct memory_need with = need(f, 0);
    assert_int_equal(with.weights, 2 * without.weights);
    assert_int_equal(with.kv - without.kv, GIB(1) / 8);
    f->options.draft_kv_memory = MIB(10);
    assert_int_equal(need(f, 0).kv - without.kv, MIB(10));
}

/* What is left for a pool is used, and not exceeded by what belongs to it. */
static void a_pool_and_what_belongs_to_it_fit(void **state)
{
    (void)state;
    for (int draft = 0; draft < 2; draft++) {
        for (uint64_t size = 0; size < GIB(40); size = size * 3 / 2 + MIB(1) + 12345) {
            uint64_t pool = memory_pool_within(size, draft);
            assert_true(memory_of_pool(pool, draft) <= size && pool % MIB(2) == 0);
            assert_true(memory_of_pool(pool + MIB(3), draft) > size);
        }
    }
}

/* An engine that gets the rest of a memory for its pool needs just that memory. */
static void the_rest_for_the_pool_is_the_whole(void **state)
{
    struct fixture *f = *state;
    for (int draft = 0; draft < 2; draft++) {
        f->options.draft_model_path = draft ? f->path : NULL;
        uint64_t weights = model_file_size(f->file) + memory_draft_weights(f->options.draft_model_path);
        uint64_t rest = weights + memory_scratch(&config, 0, 0) + memory_process(&config);
        f->options.kv_memory = memory_pool_within(GIB(8) - rest, draft);
        uint64_t total = need(f, GIB(8)).total;
        assert_true(total <= GIB(8) && total > GIB(8) - MIB(4));
    }
}

static void unknown_type_is_refused(void **state)
{
    struct fixture *f = *state;
    struct memory_need n;
    struct error err = {0};
    f->options.kv_type = "f64";
    assert_false(memory_need(&f->options, f->file, &config, 0, &n, &err));
    assert_int_equal(err.code, ERR_INVALID);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(parts),
                                       TEST(pool_is_a_share_and_never_more_than_can_be_used),
                                       TEST(states_are_a_constant),
                                       TEST(draft_model_counts),
                                       TEST(a_pool_and_what_belongs_to_it_fit),
                                       TEST(the_rest_for_the_pool_is_the_whole),
                                       TEST(unknown_type_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
