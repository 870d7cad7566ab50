/* A generation whose memory runs out: at whichever allocation, its consumer has a whole answer or an error, never an
 * answer that lacks a part. */
#include "tests/support/pipeline_bench.h"

#include "tests/support/failing_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ANSWER "Hello"

static void ignore(void *arg)
{
    (void)arg;
}

static struct gen_request *make_request(struct pipeline_bench *b, struct gen_request *r)
{
    struct error err = {0};
    gen_request_init(r, arena_create(1 << 20), GEN_PROMPTS);
    r->prompts = arena_alloc_array(r->arena, 1, sizeof *r->prompts);
    r->prompts[0].text = STR("ab");
    r->n_prompts = 1;
    r->max_tokens = 16;
    r->logprobs = true;
    r->n_top = 1;
    assert_true(pipeline_prepare(b->pipeline, r, &err));
    return r;
}

static void send_answer(struct pipeline_bench *b)
{
    int32_t ids[sizeof ANSWER];
    struct token_logprob logprobs[sizeof ANSWER];
    struct token_top tops[sizeof ANSWER];
    uint32_t n = sizeof ANSWER;
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = i + 1 < n ? ANSWER[i] : BENCH_EOS;
        tops[i] = (struct token_top){ids[i], -1};
        logprobs[i] = (struct token_logprob){ids[i], -1, 1, 1, &tops[i], 0};
    }
    pipeline_bench_send(b, (struct engine_event){.kind = ENGINE_TOKENS,
                                                 .job = pipeline_bench_last(b)->id,
                                                 .n = n,
                                                 .ids = ids,
                                                 .logprobs = logprobs,
                                                 .finish = FINISH_STOP,
                                                 .stop_id = BENCH_EOS});
}

/* Whether the whole answer came; else an error did. */
static bool take_all(struct generation *g)
{
    struct gen_event e = {.kind = GEN_PROGRESS};
    char text[64]; /* of its own: a buf's memory could fail here too */
    size_t n_tokens = 0, size = 0;
    while (e.kind != GEN_DONE && e.kind != GEN_ERROR) {
        assert_true(generation_next(g, 0, &e));
        if (e.kind == GEN_DELTA) {
            n_tokens += e.n_tokens;
            assert_true(size + e.text.len <= sizeof text);
            memcpy(text + size, e.text.ptr, e.text.len);
            size += e.text.len;
        }
        if (e.kind == GEN_FINISH) {
            assert_int_equal(size, strlen(ANSWER));
            assert_memory_equal(text, ANSWER, size);
            assert_int_equal(n_tokens, strlen(ANSWER));
        }
    }
    assert_false(generation_next(g, 0, &e));
    return e.kind == GEN_DONE;
}

static void an_answer_is_whole_or_an_error(void **state)
{
    struct pipeline_bench b = {0};
    int n_failed = 0;
    bool whole = false;
    (void)state;
    if (!CAN_FAIL) {
        skip();
    }
    pipeline_bench_open(&b, &(struct pipeline_observer){0});
    for (long nth = 0; !whole && nth < 1000; nth++) {
        struct gen_request request;
        struct error err = {0};
        struct generation *g = generation_start(b.pipeline, make_request(&b, &request), ignore, NULL, &err);
        assert_non_null(g);
        n_allocations = 0;
        fail_at = nth;
        send_answer(&b);
        n_failed += !take_all(g);
        whole = n_allocations <= nth; /* none failed any more */
        fail_at = -1;
        generation_free(g);
        pipeline_bench_forget_jobs(&b);
    }
    assert_true(whole);
    assert_true(n_failed > 0);
    pipeline_bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(an_answer_is_whole_or_an_error)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
