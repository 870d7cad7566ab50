/* Constraints in the scheduler and in the engine, on the toy model, whose samples are anything that a mask allows. What
 * comes out is what the grammar describes, whatever happens on the way; and those beside do not notice. */
#include "tests/support/engine_bench.h"
#include "tests/support/engine_run.h"
#include "tests/support/grammar_vocab.h"

#include "base/array.h"
#include "base/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define N_PROMPT   40
#define MAX_TOKENS 60
#define WORDS      "(ab|b|12|abc\\.5|\\{\"a\":0\\}){10,30}(true|false)"

static struct grammar_vocab vocab, poor; /* poor: hardly anything may be computed */
static struct constraint_cache *cache, *poor_cache;
static struct buf words, ambiguous, later; /* later: words, behind one of some triggers */
static int32_t prompt[N_PROMPT + 12], ends[2];
static bool with_states; /* there is a group of states */

/* ---- jobs ---- */

static struct job job_of(uint64_t id, const struct buf *spec)
{
    return (struct job){.id = id,
                        .n_choices = 1,
                        .seed = id,
                        .prompt = prompt + id % 12, /* few have a page in common */
                        .n_prompt = N_PROMPT,
                        .max_tokens = MAX_TOKENS,
                        .flags = JOB_IGNORE_EOS,
                        .constraint = spec ? spec->data : NULL,
                        .constraint_size = spec ? (uint32_t)spec->len : 0,
                        .sampling = sampling_default()};
}

static struct engine_config config_of(size_t pages)
{
    struct engine_config config = toy_config(pages);
    config.n_vocab = (uint32_t)constraint_vocab_size(vocab.vocab);
    config.eog_ids = ends;
    config.n_eog_ids = 2;
    config.constraints = true;
    if (with_states) {
        toy_add_states(&config, 240);
    }
    return config;
}

struct bench {
    struct engine_config config;
    struct toy toy;
    struct toy_log *log;
    struct scheduler *s;
};

static void open_bench(struct bench *b, size_t pages)
{
    b->config = config_of(pages);
    b->s = bench_scheduler(&b->toy, &b->config, bench_mode, &b->log);
}

static void close_bench(struct bench *b)
{
    scheduler_free(b->s);
    toy_log_release(b->log);
    free(b->log);
    toy_release(&b->toy);
}

static void submit(struct bench *b, const struct job *job, struct constraint_cache *from)
{
    bench_submit(b->s, &b->config, job);
    if (job->constraint) {
        struct constrained *c = constrained_create(from, job);
        assert_non_null(c);
        scheduler_constrained(b->s, c);
    }
}

static void run(struct bench *b)
{
    int n = 0;
    do { /* a step also sends what happened before it */
        (void)scheduler_step(b->s);
        bench_check(b->s, b->log);
    } while (!scheduler_idle(b->s) && ++n < 100000);
    assert_true(scheduler_idle(b->s));
}

/* ---- what came out ---- */

/* Every token was allowed, and nothing is missing when it stopped by itself. */
static void check_choice(const struct toy_choice *c, const struct buf *spec)
{
    struct error err = {0};
    struct constraint *constraint = constraint_cache_get(cache, buf_view(spec), NULL, &err);
    struct constraint_state *s = constraint_state_create(constraint, &err);
    uint32_t mask[64];
    for (uint32_t i = 0; i < c->n; i++) {
        assert_int_equal(constraint_state_mask(s, mask, &err), 1);
        assert_true(mask[c->ids[i] / 32] >> (c->ids[i] % 32) & 1);
        assert_true(constraint_state_accept(s, c->ids[i], &err));
    }
    if (c->finish == FINISH_STOP) {
        assert_true(constraint_state_done(s));
    } else {
        assert_int_equal(c->finish, FINISH_LENGTH);
        assert_int_equal(c->n, MAX_TOKENS);
        assert_false(constraint_state_done(s));
    }
    constraint_state_free(s);
    constraint_release(constraint);
}

static void what_comes_out_is_what_the_grammar_describes(void **state)
{
    (void)state;
    struct bench b;
    uint32_t n_stopped = 0;
    open_bench(&b, 400);
    for (uint64_t id = 1; id <= 12; id++) {
        struct job job = job_of(id, &words);
        job.n_choices = 1 + (uint32_t)id % 4;
        job.flags = id % 2 ? JOB_IGNORE_EOS : 0;
        job.speculation = SPECULATION_ON;
        submit(&b, &job, cache);
    }
    run(&b);
    for (uint64_t id = 1; id <= 12; id++) {
        for (uint32_t i = 0; i < 1 + id % 4; i++) {
            check_choice(&b.log->jobs[id].choices[i], &words);
            n_stopped += b.log->jobs[id].choices[i].finish == FINISH_STOP;
        }
    }
    assert_true(n_stopped > 5);
    const struct engine_stats *stats = scheduler_stats(b.s);
    assert_int_equal(stats->constraints, 12);
    assert_true(stats->masks >= stats->generated_tokens - 30 && stats->masks > 0);
    assert_true(stats->mask_ns > 0);
    assert_int_equal(stats->spec_drafts, 0);
    close_bench(&b);
}

static void run_mix(struct bench *b, size_t pages, bool with)
{
    open_bench(b, pages);
    for (uint64_t id = 1; id <= 10; id++) {
        struct job job = job_of(id, id % 2 ? &words : NULL);
        job.n_choices = 2;
        if (with || id % 2 == 0) {
            submit(b, &job, cache);
        }
    }
    run(b);
}

static void those_beside_do_not_notice(void **state)
{
    (void)state;
    struct bench with, without;
    run_mix(&with, 400, true);
    run_mix(&without, 400, false);
    for (uint64_t id = 2; id <= 10; id += 2) {
        assert_true(toy_same(&with.log->jobs[id], &without.log->jobs[id], 2));
    }
    close_bench(&with);
    close_bench(&without);
}

static void preemption_changes_nothing(void **state)
{
    (void)state;
    struct bench roomy, tight;
    uint32_t n_preempted = 0;
    run_mix(&roomy, 400, true);
    for (size_t pages = 30; pages < 100; pages += 10) {
        run_mix(&tight, pages, true);
        for (uint64_t id = 1; id <= 10; id++) {
            n_preempted += id % 2 ? tight.log->jobs[id].n_preempted : 0;
            assert_true(toy_same(&roomy.log->jobs[id], &tight.log->jobs[id], 2));
        }
        close_bench(&tight);
    }
    assert_true(n_preempted > 0);
    close_bench(&roomy);
}

static void resuming_changes_nothing(void **state)
{
    (void)state;
    struct bench whole, rest;
    struct job job = job_of(1, &words);
    open_bench(&whole, 100);
    submit(&whole, &job, cache);
    run(&whole);
    const struct toy_choice *c = &whole.log->jobs[1].choices[0];
    for (uint32_t n = 0; n <= c->n; n++) {
        struct job_accepted accepted = {.ids = c->ids, .n = n};
        job.accepted = &accepted;
        open_bench(&rest, 100);
        submit(&rest, &job, cache);
        run(&rest);
        const struct toy_choice *r = &rest.log->jobs[1].choices[0];
        assert_int_equal(r->finish, c->finish);
        assert_int_equal(r->n, c->n);
        assert_memory_equal(r->ids + n, c->ids + n, (c->n - n) * sizeof *c->ids);
        close_bench(&rest);
    }
    close_bench(&whole);
}

/* ---- computed once more ---- */

static struct job *handed;

static bool take_bad(void *arg, const struct bad_job *bad, struct error *err)
{
    (void)arg;
    (void)err;
    handed = bad->job;
    return true;
}

/* Numbers that are not finite at some token: the job that is handed out has its constraint and its tokens, and whoever
 * computes it writes the rest of the same answer. */
static void a_replay_goes_on_in_the_grammar(void **state)
{
    (void)state;
    struct bench whole, bad, again;
    struct job job = job_of(1, &words);
    open_bench(&whole, 100);
    submit(&whole, &job, cache);
    run(&whole);
    const struct toy_choice *c = &whole.log->jobs[1].choices[0];
    open_bench(&bad, 100);
    bad.toy.bad_id = c->ids[c->n / 2];
    scheduler_on_bad_numbers(bad.s, take_bad, NULL);
    submit(&bad, &job, cache);
    run(&bad);
    assert_non_null(handed);
    assert_true(handed->constraint && handed->accepted[0].n > 0 && handed->accepted[0].n < c->n);
    open_bench(&again, 100);
    submit(&again, handed, cache);
    run(&again);
    const struct toy_choice *r = &again.log->jobs[1].choices[0];
    uint32_t n = handed->accepted[0].n;
    assert_int_equal(r->finish, c->finish);
    assert_int_equal(r->n, c->n);
    assert_memory_equal(r->ids + n, c->ids + n, (c->n - n) * sizeof *c->ids);
    free(handed);
    close_bench(&whole);
    close_bench(&bad);
    close_bench(&again);
}

/* Accepted tokens that the grammar does not know. */
static void a_resume_that_cannot_be_fails_alone(void **state)
{
    (void)state;
    struct bench b;
    struct job bad = job_of(1, &words), good = job_of(2, &words);
    int32_t name = grammar_vocab_id(&vocab, "name");
    struct job_accepted accepted = {.ids = &name, .n = 1};
    bad.accepted = &accepted;
    open_bench(&b, 100);
    submit(&b, &bad, cache);
    submit(&b, &good, cache);
    run(&b);
    assert_int_equal(b.log->jobs[1].failed, ERR_INTERNAL);
    check_choice(&b.log->jobs[2].choices[0], &words);
    close_bench(&b);
}

static void running_out_of_fuel_fails_one_job(void **state)
{
    (void)state;
    struct bench b;
    struct job costly = job_of(1, &ambiguous), other = job_of(2, &words), free_one = job_of(3, NULL);
    costly.n_choices = 2;
    open_bench(&b, 100);
    submit(&b, &costly, poor_cache);
    submit(&b, &other, cache);
    submit(&b, &free_one, NULL);
    run(&b);
    assert_int_equal(b.log->jobs[1].failed, ERR_UNSUPPORTED);
    assert_int_equal(b.log->jobs[2].failed, ERR_NONE);
    check_choice(&b.log->jobs[2].choices[0], &words);
    assert_int_equal(b.log->jobs[3].choices[0].n, MAX_TOKENS);
    close_bench(&b);
}

/* ---- the end ---- */

static void a_grammar_ends_in_spite_of_min_tokens(void **state)
{
    (void)state;
    struct bench b;
    struct buf choice = grammar_encode(CONSTRAINT_CHOICE, "[\"ab\",\"12\"]");
    struct buf digits = grammar_encode(CONSTRAINT_REGEX, "[0-9]+");
    open_bench(&b, 100);
    for (uint64_t id = 1; id <= 40; id++) { /* with so many ends of generation that they are a mask, too */
        struct job job = job_of(id, id % 2 ? &choice : &digits);
        int32_t stops[40];
        job.min_tokens = 20;
        job.flags = 0;
        for (int i = 0; i < 40; i++) {
            stops[i] = 100 + i;
        }
        job.stop_ids = stops;
        job.n_stop_ids = id % 3 ? 0 : 40;
        submit(&b, &job, cache);
    }
    run(&b);
    for (uint64_t id = 1; id <= 40; id++) {
        const struct toy_choice *c = &b.log->jobs[id].choices[0];
        if (id % 2) {
            assert_int_equal(c->finish, FINISH_STOP);
            assert_in_range(c->n, 1, 2);
        } else {
            assert_true(c->n >= 20);
        }
    }
    close_bench(&b);
    buf_release(&choice);
    buf_release(&digits);
}

/* ---- waiting ---- */

static void a_job_waits_for_its_constraint(void **state)
{
    (void)state;
    struct bench b;
    struct job waiting = job_of(1, &words), cancelled = job_of(2, &words), other = job_of(3, NULL);
    open_bench(&b, 100);
    bench_submit(b.s, &b.config, &waiting);
    bench_submit(b.s, &b.config, &cancelled);
    bench_submit(b.s, &b.config, &other);
    while (scheduler_step(b.s)) {
    }
    assert_int_equal(b.log->jobs[3].choices[0].n, MAX_TOKENS);
    assert_int_equal(b.log->jobs[1].n_started, 0);
    scheduler_cancel(b.s, 2, 0);
    scheduler_constrained(b.s, constrained_create(cache, &cancelled));
    scheduler_constrained(b.s, constrained_create(cache, &waiting));
    run(&b);
    assert_int_equal(b.log->jobs[2].choices[0].finish, FINISH_CANCELLED);
    check_choice(&b.log->jobs[1].choices[0], &words);
    close_bench(&b);
}

static void a_grammar_that_does_not_compile_fails_one_job(void **state)
{
    (void)state;
    struct bench b;
    struct buf bad = grammar_encode(CONSTRAINT_LARK, "start: (");
    struct job job = job_of(1, &bad), other = job_of(2, &words), garbage = job_of(3, NULL);
    garbage.constraint = "no spec";
    garbage.constraint_size = 7;
    open_bench(&b, 100);
    submit(&b, &job, cache);
    submit(&b, &other, cache);
    submit(&b, &garbage, cache);
    run(&b);
    assert_int_equal(b.log->jobs[1].failed, ERR_INVALID);
    assert_int_equal(b.log->jobs[3].failed, ERR_PROTOCOL);
    check_choice(&b.log->jobs[2].choices[0], &words);
    close_bench(&b);
    buf_release(&bad);
}

/* ---- the engine ---- */

/* Its thread compiles; what is still compiling when the engine ends is dropped. */
static void the_engine_compiles_beside_its_steps(void **state)
{
    (void)state;
    struct error err = {0};
    struct toy toy;
    struct engine_config config = config_of(200);
    struct engine_run r;
    toy_init(&toy, &config);
    struct engine_parts parts = {.config = config, .executor = &toy.base, .tokenizer = vocab.tokenizer};
    struct engine *engine = engine__assemble(&parts, &err);
    assert_non_null(engine);
    engine_run_start(&r, engine);
    for (uint64_t id = 1; id <= 8; id++) {
        struct job job = job_of(id, id % 4 ? &words : NULL);
        engine_run_submit(&r, &job);
    }
    engine_run_wait(&r, 8);
    for (uint64_t id = 9; id <= 12; id++) {
        struct job job = job_of(id, &words);
        engine_run_submit(&r, &job);
    }
    engine_run_close(&r);
    for (uint64_t id = 1; id <= 8; id++) {
        if (id % 4) {
            check_choice(&r.log->jobs[id].choices[0], &words);
        }
    }
    engine_run_release(&r);
    toy_release(&toy);
}

static void without_a_tokenizer_there_are_none(void **state)
{
    (void)state;
    struct engine_config config = config_of(100);
    struct job job = job_of(1, &words);
    struct error err = {0};
    config.constraints = false;
    assert_null(request_create(&config, &job, &err));
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_string_equal(err.param, "constraint");
}

/* ---- before a call begins ---- */

/* Of a lazy grammar, each with what it is expected to say, if that is known. */
static void run_free(struct bench *b, enum speculation speculation, const struct toy_log *expected)
{
    open_bench(b, 400);
    for (uint64_t id = 1; id <= 24; id++) {
        struct job job = job_of(id, id % 6 ? &later : NULL);
        job.speculation = speculation;
        if (expected) {
            job.prediction = expected->jobs[id].choices[0].ids;
            job.n_prediction = expected->jobs[id].choices[0].n;
        }
        submit(b, &job, cache);
    }
    run(b);
}

/* How many of its tokens were written under a mask; all of them were allowed. */
static uint32_t n_masked(const struct toy_choice *c)
{
    struct error err = {0};
    struct constraint *constraint = constraint_cache_get(cache, buf_view(&later), NULL, &err);
    struct constraint_state *s = constraint_state_create(constraint, &err);
    uint32_t mask[64], n = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        int applies = constraint_state_mask(s, mask, &err);
        assert_true(applies >= 0);
        assert_false(applies && constraint_state_is_free(s));
        n += applies > 0;
        assert_true(!applies || (mask[c->ids[i] / 32] >> (c->ids[i] % 32) & 1));
        assert_true(constraint_state_accept(s, c->ids[i], &err));
    }
    constraint_state_free(s);
    constraint_release(constraint);
    return n;
}

/* The same tokens with guesses and without, with steps enqueued ahead and without. */
static void free_text_is_guessed_and_run_ahead(void **state)
{
    (void)state;
    struct toy_mode mode = bench_mode;
    struct bench plain, same, guessed;
    uint32_t n_called = 0, n_masks = 0;
    bench_mode.lazy = false;
    run_free(&plain, SPECULATION_OFF, NULL);
    bench_mode = mode;
    run_free(&same, SPECULATION_OFF, NULL);
    run_free(&guessed, SPECULATION_ON, plain.log);
    for (uint64_t id = 1; id <= 24; id++) {
        assert_true(toy_same(&plain.log->jobs[id], &same.log->jobs[id], 1));
        assert_true(toy_same(&plain.log->jobs[id], &guessed.log->jobs[id], 1));
        uint32_t n = id % 6 ? n_masked(&plain.log->jobs[id].choices[0]) : 0;
        n_called += n > 0;
        n_masks += n;
    }
    assert_true(n_called > 3 && n_called < 18 && n_masks > 20);
    assert_int_equal(scheduler_stats(same.s)->steps_ahead > 0, mode.lazy);
    assert_true(with_states || scheduler_stats(guessed.s)->spec_accepted_tokens > 200);
    close_bench(&plain);
    close_bench(&same);
    close_bench(&guessed);
}

static int open_all(void **state)
{
    (void)state;
    static const struct str triggers[] = {{"12", 2}, {"world", 5}, {"null", 4}, {"true", 4}};
    grammar_vocab_open(&vocab, NULL);
    grammar_vocab_open(&poor, &(struct constraint_vocab_options){.limits = {.mask_items = 60}});
    ends[0] = vocab.end;
    ends[1] = vocab.turn_end;
    cache = constraint_cache_create(vocab.vocab);
    poor_cache = constraint_cache_create(poor.vocab);
    words = grammar_encode(CONSTRAINT_REGEX, WORDS);
    struct constraint_spec lazy = constraint_spec_none();
    lazy.kind = CONSTRAINT_REGEX;
    lazy.grammar = STR(WORDS);
    lazy.triggers = triggers;
    lazy.n_triggers = ARRAY_LEN(triggers);
    struct error err = {0};
    buf_init(&later, LIMIT_CONSTRAINT);
    if (!constraint_spec_encode(&lazy, &later, &err)) {
        return -1;
    }
    ambiguous = grammar_encode(
        CONSTRAINT_LARK,
        "start: \"a\" many\nmany: (x y z)*\nx: \"a\" | \"b\" x |\ny: \"a\" | \"c\" y |\nz: \"b\" | \"a\" z |");
    for (int32_t i = 0; i < N_PROMPT + 12; i++) {
        prompt[i] = 7 + i;
    }
    return cache && poor_cache ? 0 : -1;
}

static int close_all(void **state)
{
    (void)state;
    buf_release(&words);
    buf_release(&later);
    buf_release(&ambiguous);
    constraint_cache_free(cache);
    constraint_cache_free(poor_cache);
    grammar_vocab_close(&vocab);
    grammar_vocab_close(&poor);
    return 0;
}

static int lazy_states(void **state)
{
    with_states = true;
    return bench_lazy(state);
}

static int no_states(void **state)
{
    with_states = false;
    return bench_eager(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_out_is_what_the_grammar_describes),
        IN_OTHER_MODES(what_comes_out_is_what_the_grammar_describes),
        cmocka_unit_test(those_beside_do_not_notice),
        IN_OTHER_MODES(those_beside_do_not_notice),
        cmocka_unit_test(preemption_changes_nothing),
        IN_OTHER_MODES(preemption_changes_nothing),
        cmocka_unit_test(resuming_changes_nothing),
        cmocka_unit_test(free_text_is_guessed_and_run_ahead),
        IN_OTHER_MODES(free_text_is_guessed_and_run_ahead),
        cmocka_unit_test_setup_teardown(free_text_is_guessed_and_run_ahead, lazy_states, no_states),
        cmocka_unit_test(a_replay_goes_on_in_the_grammar),
        cmocka_unit_test(a_resume_that_cannot_be_fails_alone),
        cmocka_unit_test(running_out_of_fuel_fails_one_job),
        cmocka_unit_test(a_grammar_ends_in_spite_of_min_tokens),
        cmocka_unit_test(a_job_waits_for_its_constraint),
        cmocka_unit_test(a_grammar_that_does_not_compile_fails_one_job),
        cmocka_unit_test(the_engine_compiles_beside_its_steps),
        cmocka_unit_test(without_a_tokenizer_there_are_none),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
