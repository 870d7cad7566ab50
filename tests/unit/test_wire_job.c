/* job_check names what is wrong; job_copy is deep. */
#include "tests/support/wire_random.h"

#include "base/limits.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct job valid_job(void)
{
    static const int32_t prompt[] = {1, 2, 3};
    return (struct job){
        .id = 1, .n_choices = 1, .prompt = prompt, .n_prompt = 3, .max_tokens = 4, .sampling = sampling_default()};
}

static void assert_refused(const struct job *job, const char *param)
{
    struct error err = {0};
    assert_false(job_check(job, &err));
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.param, param);
    assert_true(err.msg[0] != '\0');
}

static void defaults_are_valid(void **state)
{
    (void)state;
    struct error err = {0};
    struct job job = valid_job();
    assert_true(job_check(&job, &err));
    assert_true(job.sampling.temperature == 1 && job.sampling.top_p == 1 && job.sampling.dry_base == 1.75f);
    job.max_tokens = 0;
    assert_refused(&job, "max_tokens");
    job.flags = JOB_PROMPT_LOGPROBS;
    assert_true(job_check(&job, &err));
}

#define REFUSE(param, change)       \
    do {                            \
        struct job j = valid_job(); \
        change;                     \
        assert_refused(&j, param);  \
    } while (0)

static void names_the_field(void **state)
{
    (void)state;
    static const int32_t negative[] = {-1}, huge[] = {LIMIT_VOCAB}, five[5] = {0};
    static const struct job_bias bad_id[] = {{-1, 0}}, bad_bias[] = {{0, NAN}};
    struct job_accepted too_many = {.ids = five, .n = 5}, bad_token = {.ids = negative, .n = 1};
    REFUSE("kind", j.kind = JOB_KIND_COUNT);
    REFUSE("n", j.n_choices = 0);
    REFUSE("n", j.n_choices = LIMIT_CHOICES + 1);
    REFUSE("prompt", j.n_prompt = 0);
    REFUSE("prompt", j.prompt = NULL);
    REFUSE("prompt", j.prompt = negative; j.n_prompt = 1);
    REFUSE("prompt", j.prompt = huge; j.n_prompt = 1);
    REFUSE("max_tokens", j.max_tokens = LIMIT_CONTEXT + 1);
    REFUSE("min_tokens", j.min_tokens = 5);
    REFUSE("top_logprobs", j.n_top = JOB_MAX_TOP + 1);
    REFUSE("prompt_logprobs", j.n_prompt_top = JOB_MAX_TOP + 1);
    REFUSE("logit_bias", j.n_bias = JOB_MAX_BIAS + 1);
    REFUSE("logit_bias", j.n_bias = 1; j.bias = bad_id);
    REFUSE("logit_bias", j.n_bias = 1; j.bias = bad_bias);
    REFUSE("logit_bias", j.n_bias = 1);
    REFUSE("stop_token_ids", j.n_stop_ids = JOB_MAX_STOP_IDS + 1);
    REFUSE("stop_token_ids", j.n_stop_ids = 1; j.stop_ids = negative);
    REFUSE("dry_sequence_breakers", j.n_dry_breakers = JOB_MAX_DRY_BREAKERS + 1);
    REFUSE("accepted", j.accepted = &too_many);
    REFUSE("accepted", j.accepted = &bad_token);
    REFUSE("constraint", j.constraint_size = 4);
}

static void sampling_bounds_are_inclusive(void **state)
{
    (void)state;
    struct error err = {0};
#define X(name, type, fallback, min, max, help)             \
    {                                                       \
        struct job at = valid_job();                        \
        at.sampling.name = (type)(min);                     \
        assert_true(job_check(&at, &err));                  \
        at.sampling.name = (type)(max);                     \
        assert_true(job_check(&at, &err));                  \
        REFUSE(#name, j.sampling.name = (type)((max) + 1)); \
        REFUSE(#name, j.sampling.name = (type)((min)-1));   \
    }
    SAMPLING_TABLE(X)
#undef X
    REFUSE("temperature", j.sampling.temperature = NAN);
    REFUSE("top_p", j.sampling.top_p = NAN);
}

static void copies_are_deep(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct arena *arena = arena_create(MIB(1)), *same = arena_create(MIB(1));
        struct wire_random r = {.seed = seed}, again = r;
        struct job job, expected;
        wire_random_job(&r, arena, &job);
        wire_random_job(&again, same, &expected);
        struct job *copy = job_copy(&job);
        assert_non_null(copy);
        arena_free(arena); /* nothing of the copy may point there: address sanitizer sees it */
        assert_true(wire_jobs_equal(copy, &expected));
        free(copy);
        arena_free(same);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_valid),
        cmocka_unit_test(names_the_field),
        cmocka_unit_test(sampling_bounds_are_inclusive),
        cmocka_unit_test(copies_are_deep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
