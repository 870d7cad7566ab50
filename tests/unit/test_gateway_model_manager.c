/* Which models are loaded: the rules one by one, then a world of random jobs in which they have to hold. */
#include "gateway/model_manager.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX_ACTS 64

/* ---- rules ---- */

struct bench {
    struct model_manager m;
    struct model_slot slots[6];
    int64_t now_ms;
    char acts[MAX_ACTS * 4]; /* "L0 H1 U1": what was done, in order */
};

static void note(void *arg, struct model_slot *s, enum slot_act act)
{
    struct bench *b = arg;
    size_t len = strlen(b->acts);
    snprintf(b->acts + len, sizeof b->acts - len, "%s%c%d", len ? " " : "", "LHRUX"[act], (int)(s - b->slots));
}

/* Slots of these sizes, 0 behind the last, under this budget. */
static struct bench begin(uint64_t budget, const uint64_t *sizes)
{
    struct bench b = {.m.budget = budget, .now_ms = 100000};
    for (int i = 0; i < 6 && sizes[i]; i++) {
        b.slots[i] = (struct model_slot){.size = sizes[i], .keep_alive_ms = -1};
    }
    return b;
}

static void add(struct bench *b)
{
    for (int i = 0; i < 6 && b->slots[i].size; i++) {
        assert_true(model_manager_add(&b->m, &b->slots[i]));
    }
}

static const char *look(struct bench *b)
{
    b->acts[0] = '\0';
    model_manager_look(&b->m, b->now_ms, note, b);
    assert_true(model_manager_used(&b->m) <= b->m.budget);
    return b->acts;
}

static void queue(struct bench *b, int i, uint32_t n)
{
    b->slots[i].n_queued += n;
    model_manager_want(&b->m, &b->slots[i]);
}

/* What waits for it is in its engine now. */
static void loaded(struct bench *b, int i)
{
    model_manager_loaded(&b->m, &b->slots[i], b->now_ms);
    b->slots[i].n_running += b->slots[i].n_queued;
    b->slots[i].n_queued = 0;
}

static void finish(struct bench *b, int i)
{
    b->slots[i].n_running = 0;
}

static void out(struct bench *b, int i)
{
    model_manager_out(&b->m, &b->slots[i]);
}

/* In, with something that runs. */
static void make_busy(struct bench *b, int i)
{
    queue(b, i, 1);
    look(b);
    loaded(b, i);
}

static void test_loads_what_is_wanted(void **state)
{
    (void)state;
    struct bench b = begin(100, (uint64_t[6]){40, 40, 40});
    add(&b);
    assert_string_equal(look(&b), "");
    queue(&b, 1, 1);
    queue(&b, 0, 1);
    assert_string_equal(look(&b), "L1 L0");
    assert_string_equal(look(&b), "");
    assert_int_equal(model_manager_used(&b.m), 80);
    loaded(&b, 1);
    assert_int_equal(b.slots[1].state, SLOT_IN);
    assert_int_equal(b.slots[0].state, SLOT_LOADING);
}

static void test_least_recently_used_goes_first(void **state)
{
    (void)state;
    struct bench b = begin(100, (uint64_t[6]){40, 40, 40});
    add(&b);
    make_busy(&b, 0);
    make_busy(&b, 1);
    b.now_ms += 10;
    finish(&b, 1);
    look(&b); /* 0 is still used */
    b.now_ms += 10;
    finish(&b, 0);
    look(&b);
    queue(&b, 2, 1);
    assert_string_equal(look(&b), "H1 U1"); /* not loaded before the memory is there */
    assert_string_equal(look(&b), "");
    out(&b, 1);
    assert_string_equal(look(&b), "L2");
    assert_int_equal(b.m.n_evictions, 1);
}

static void test_busy_one_has_its_share_and_drains(void **state)
{
    (void)state;
    struct bench b = begin(100, (uint64_t[6]){60, 60});
    add(&b);
    make_busy(&b, 0);
    queue(&b, 1, 1);
    b.now_ms += MANAGER_SHARE_MS - 1;
    assert_string_equal(look(&b), "");
    b.now_ms += 1;
    assert_string_equal(look(&b), "H0");
    queue(&b, 0, 2); /* came while it drains */
    assert_string_equal(look(&b), "");
    finish(&b, 0);
    assert_string_equal(look(&b), "U0");
    out(&b, 0);
    assert_string_equal(look(&b), "L1"); /* who waited before */
    loaded(&b, 1);
    finish(&b, 1);
    assert_string_equal(look(&b), "H1 U1");
    out(&b, 1);
    assert_string_equal(look(&b), "L0"); /* and it comes back */
    assert_int_equal(b.slots[0].n_queued, 2);
}

static void test_share_grows_with_the_time_to_load(void **state)
{
    (void)state;
    struct bench b = begin(100, (uint64_t[6]){60, 60});
    add(&b);
    queue(&b, 0, 1);
    look(&b);
    b.now_ms += 5000;
    loaded(&b, 0);
    queue(&b, 1, 1);
    b.now_ms += 9999;
    assert_string_equal(look(&b), "");
    b.now_ms += 1;
    assert_string_equal(look(&b), "H0");
}

static void test_who_drains_goes_on_when_nobody_waits_any_more(void **state)
{
    (void)state;
    struct bench b = begin(100, (uint64_t[6]){60, 60});
    add(&b);
    make_busy(&b, 0);
    queue(&b, 1, 1);
    b.now_ms += MANAGER_SHARE_MS;
    assert_string_equal(look(&b), "H0");
    queue(&b, 0, 1);
    b.slots[1].n_queued = 0; /* cancelled */
    assert_string_equal(look(&b), "R0");
    assert_int_equal(b.slots[0].state, SLOT_IN);
    assert_int_equal(b.slots[0].ticket, 0);
}

static void test_later_one_takes_only_what_is_not_needed(void **state)
{
    (void)state;
    struct bench b = begin(100, (uint64_t[6]){60, 50, 40, 10});
    add(&b);
    make_busy(&b, 0);
    queue(&b, 1, 1); /* needs 50 of the 40 that are free: it waits for 0 */
    queue(&b, 2, 1); /* would fit; then 1 would have to wait for nobody longer: 100 - 50 - 40 */
    assert_string_equal(look(&b), "");
    b.now_ms += MANAGER_SHARE_MS;
    assert_string_equal(look(&b), "H0 L2");
    queue(&b, 3, 1);
    assert_string_equal(look(&b), ""); /* nothing is free */
    finish(&b, 0);
    look(&b);
    out(&b, 0);
    assert_string_equal(look(&b), "L1 L3");
}

static void test_pinned_stays_and_what_cannot_fit_is_refused(void **state)
{
    (void)state;
    struct bench b = begin(100, (uint64_t[6]){60, 50, 40});
    b.slots[0].pinned = true;
    b.slots[0].keep_alive_ms = 1;
    add(&b);
    model_manager_load(&b.m, &b.slots[0]);
    assert_string_equal(look(&b), "L0");
    loaded(&b, 0);
    b.now_ms += 10;
    assert_string_equal(look(&b), "");
    queue(&b, 1, 1);
    assert_string_equal(look(&b), "X1");
    b.slots[1].n_queued = 0;
    queue(&b, 2, 1);
    assert_string_equal(look(&b), "L2");
    b.slots[0].keep_alive_ms = 0; /* which asks for it */
    assert_string_equal(look(&b), "H0 U0");
}

static void test_keep_alive(void **state)
{
    (void)state;
    struct bench b = begin(100, (uint64_t[6]){40, 40});
    b.slots[0].keep_alive_ms = 5000;
    b.slots[1].keep_alive_ms = 0;
    add(&b);
    make_busy(&b, 0);
    make_busy(&b, 1);
    finish(&b, 0);
    finish(&b, 1);
    b.slots[1].in_use = true;
    assert_int_equal(model_manager_look(&b.m, b.now_ms, note, &b), 5000);
    b.now_ms += 4000;
    assert_string_equal(look(&b), "");
    b.slots[1].in_use = false;
    assert_string_equal(look(&b), "H1 U1");
    b.now_ms += 1000;
    assert_string_equal(look(&b), "H0 U0");
    assert_int_equal(b.m.n_idle_unloads, 2);
    assert_int_equal(b.m.n_evictions, 0);
}

static void test_unload_while_it_loads_and_while_it_works(void **state)
{
    (void)state;
    struct bench b = begin(100, (uint64_t[6]){40});
    add(&b);
    queue(&b, 0, 1);
    look(&b);
    model_manager_unload(&b.m, &b.slots[0]);
    assert_string_equal(look(&b), "U0");
    out(&b, 0);
    assert_string_equal(look(&b), "L0"); /* what is queued is not lost */
    loaded(&b, 0);
    model_manager_unload(&b.m, &b.slots[0]);
    assert_string_equal(look(&b), "H0");
    assert_string_equal(look(&b), "");
    finish(&b, 0);
    assert_string_equal(look(&b), "U0");
    out(&b, 0);
    assert_string_equal(look(&b), "");
}

/* Who is wanted after it was told to go comes back, whether or not that has been looked at. */
static void test_wanted_again_before_it_has_gone(void **state)
{
    (void)state;
    struct bench b = begin(100, (uint64_t[6]){40});
    add(&b);
    model_manager_load(&b.m, &b.slots[0]);
    assert_string_equal(look(&b), "L0");
    model_manager_unload(&b.m, &b.slots[0]);
    model_manager_load(&b.m, &b.slots[0]);
    assert_string_equal(look(&b), "U0");
    out(&b, 0);
    assert_string_equal(look(&b), "L0");
    loaded(&b, 0);
    model_manager_unload(&b.m, &b.slots[0]);
    model_manager_load(&b.m, &b.slots[0]);
    assert_string_equal(look(&b), "H0 U0");
    out(&b, 0);
    assert_string_equal(look(&b), "L0");
    loaded(&b, 0);
    assert_string_equal(look(&b), "");
    assert_int_equal(b.slots[0].state, SLOT_IN);
}

/* Nobody is loaded for somebody who has gone, and nobody goes for that. */
static void test_nothing_is_done_for_who_has_gone(void **state)
{
    (void)state;
    struct bench b = begin(100, (uint64_t[6]){60, 60});
    add(&b);
    make_busy(&b, 0);
    finish(&b, 0);
    look(&b);
    queue(&b, 1, 1);
    b.slots[1].n_queued = 0;
    assert_string_equal(look(&b), "");
    model_manager_load(&b.m, &b.slots[1]); /* this one nobody has to wait for */
    assert_string_equal(look(&b), "H0 U0");
    assert_string_equal(look(&b), "");
    out(&b, 0);
    assert_string_equal(look(&b), "L1");
}

static void test_failed_engine_frees_its_memory(void **state)
{
    (void)state;
    struct bench b = begin(100, (uint64_t[6]){60, 60});
    add(&b);
    queue(&b, 0, 1);
    look(&b);
    queue(&b, 1, 1);
    assert_string_equal(look(&b), "");
    b.slots[0].n_queued = 0; /* they have been told */
    out(&b, 0);
    assert_string_equal(look(&b), "L1");
    model_manager_remove(&b.m, &b.slots[0]);
    assert_int_equal(b.m.n, 1);
}

/* ---- rows of batches ---- */

static void queue_rows(struct bench *b, int i, uint32_t n)
{
    b->slots[i].n_rows += n;
    queue(b, i, n);
}

/* With requests in it, that have just ended. */
static void make_asked(struct bench *b, int i)
{
    make_busy(b, i);
    finish(b, i);
    model_manager_note_asked(&b->slots[i], b->now_ms);
}

static void test_rows_wait_until_others_are_quiet(void **state)
{
    (void)state;
    struct bench b = begin(100, (uint64_t[6]){60, 60, 60, 40});
    b.m.patience_ms = 60000;
    add(&b);
    make_asked(&b, 0);
    queue_rows(&b, 1, 1);
    assert_string_equal(look(&b), "");
    queue_rows(&b, 3, 1); /* what is free is for whoever needs no more */
    assert_string_equal(look(&b), "");
    b.slots[1].n_queued = b.slots[1].n_rows = 0;
    assert_string_equal(look(&b), "L3");
    loaded(&b, 3);
    finish(&b, 3);
    b.slots[3].n_rows = 0;
    queue_rows(&b, 1, 1);
    b.now_ms += MANAGER_QUIET_MS - 1;
    assert_string_equal(look(&b), "H3 U3"); /* only rows have used it; but it is not enough */
    b.now_ms += 1;
    assert_string_equal(look(&b), "H0 U0");
    out(&b, 0);
    assert_string_equal(look(&b), "L1");
    loaded(&b, 1);
    b.slots[1].n_rows = 0;
    queue(&b, 2, 1);
    assert_string_equal(look(&b), ""); /* what rows have loaded has its share */
    b.now_ms += MANAGER_SHARE_MS;
    assert_string_equal(look(&b), "H1");
}

static void test_rows_wait_no_longer_than_their_patience(void **state)
{
    (void)state;
    struct bench b = begin(100, (uint64_t[6]){60, 60});
    b.m.patience_ms = 60000;
    add(&b);
    make_busy(&b, 0);
    b.slots[0].asked = true;
    queue_rows(&b, 1, 1);
    look(&b);
    b.now_ms += 59999;
    assert_string_equal(look(&b), "");
    b.acts[0] = '\0';
    assert_int_equal(model_manager_look(&b.m, b.now_ms, note, &b), 1); /* it is worth looking again then */
    b.now_ms += 1;
    assert_string_equal(look(&b), "H0");
    finish(&b, 0);
    assert_string_equal(look(&b), "U0");
    queue(&b, 0, 5); /* requests that came meanwhile wait for their turn */
    out(&b, 0);
    assert_string_equal(look(&b), "L1");
}

static void test_requests_come_before_rows(void **state)
{
    (void)state;
    struct bench b = begin(100, (uint64_t[6]){60, 60, 60, 60});
    b.m.patience_ms = 1000; /* less than what is quiet enough: that is shorter too */
    add(&b);
    make_asked(&b, 0);
    queue_rows(&b, 1, 1);
    queue_rows(&b, 2, 1);
    assert_string_equal(look(&b), "");
    queue(&b, 3, 1); /* came last */
    assert_string_equal(look(&b), "H0 U0");
    queue(&b, 2, 1); /* a request for what rows wait for: behind the one that was there */
    out(&b, 0);
    assert_string_equal(look(&b), "L3");
    loaded(&b, 3);
    finish(&b, 3);
    assert_string_equal(look(&b), "H3 U3");
    out(&b, 3);
    assert_string_equal(look(&b), "L2"); /* before the rows that came first */
    loaded(&b, 2);
    b.slots[2].n_rows = 0;
    finish(&b, 2);
    assert_string_equal(look(&b), "H2 U2");
    out(&b, 2);
    assert_string_equal(look(&b), "L1");
}

/* One that drains for nobody but rows that can still wait goes on. */
static void test_who_drains_does_not_go_for_rows(void **state)
{
    (void)state;
    struct bench b = begin(100, (uint64_t[6]){60, 60, 60});
    b.m.patience_ms = 60000;
    add(&b);
    make_busy(&b, 0);
    queue_rows(&b, 1, 1);
    queue(&b, 2, 1);
    b.now_ms += MANAGER_SHARE_MS;
    assert_string_equal(look(&b), "H0");
    b.slots[2].n_queued = 0;
    assert_string_equal(look(&b), "R0");
}

/* ---- a world ---- */

#define MODELS   7
#define JOBS_MAX 4096

struct job { /* of one model, in the order they came */
    int64_t came_ms, begun_ms, left_ms;
};

struct model {
    struct model_slot slot;
    struct job jobs[JOBS_MAX]; /* [n_come] */
    size_t n_come, n_begun, n_done;
    bool held, rows;
    int64_t load_left_ms, unload_left_ms; /* -1: it is not being done */
    int64_t load_takes_ms;
    int n_failures;
};

struct world {
    struct model_manager m;
    struct model models[MODELS];
    int64_t now_ms, longest_wait_ms;
    unsigned seed;
    bool fails;
};

static unsigned draw(struct world *w, unsigned below)
{
    w->seed = w->seed * 1664525u + 1013904223u;
    return (w->seed >> 8) % below;
}

static void count(struct model *model)
{
    model->slot.n_queued = (uint32_t)(model->n_come - model->n_begun);
    model->slot.n_running = (uint32_t)(model->n_begun - model->n_done);
    model->slot.n_rows = model->rows ? model->slot.n_queued : 0;
    model->slot.asked = !model->rows && model->n_done < model->n_come;
}

static void begin_jobs(struct world *w, struct model *model)
{
    while (model->slot.state == SLOT_IN && !model->held && model->n_begun < model->n_come) {
        struct job *job = &model->jobs[model->n_begun++];
        job->begun_ms = w->now_ms;
        int64_t waited = w->now_ms - job->came_ms;
        waited -= model->rows ? w->m.patience_ms : 0; /* that is theirs besides */
        w->longest_wait_ms = waited > w->longest_wait_ms ? waited : w->longest_wait_ms;
    }
    count(model);
}

static void act_in_world(void *arg, struct model_slot *s, enum slot_act act)
{
    struct world *w = arg;
    struct model *model = (struct model *)(void *)s; /* its first member */
    switch (act) {
    case SLOT_LOAD:
        assert_true(model->load_left_ms < 0 && model->unload_left_ms < 0);
        model->held = false;
        model->load_left_ms = model->load_takes_ms;
        break;
    case SLOT_HOLD:
        assert_false(model->held);
        assert_true(model->load_left_ms < 0);
        model->held = true;
        break;
    case SLOT_RESUME:
        assert_true(model->held);
        model->held = false;
        begin_jobs(w, model);
        break;
    case SLOT_UNLOAD:
        assert_int_equal(s->n_running, 0);
        assert_false(s->pinned && !s->unload_asked);
        model->load_left_ms = -1;
        model->unload_left_ms = 1 + draw(w, 30);
        break;
    case SLOT_REFUSE:
        fail_msg("every model of this world fits");
    }
}

static void look_at_world(struct world *w)
{
    for (int i = 0; i < MODELS; i++) {
        count(&w->models[i]);
    }
    model_manager_look(&w->m, w->now_ms, act_in_world, w);
    assert_true(model_manager_used(&w->m) <= w->m.budget);
}

/* Ends what takes no more time. Jobs of one model run side by side, each for itself. */
static void pass_ms(struct world *w, struct model *model)
{
    if (model->load_left_ms >= 0 && --model->load_left_ms < 0) {
        if (w->fails && draw(w, 12) == 0) {
            model->n_failures++;
            model->n_begun = model->n_done = model->n_come; /* they are told */
            count(model);
            model_manager_out(&w->m, &model->slot);
        } else {
            model_manager_loaded(&w->m, &model->slot, w->now_ms);
        }
    }
    if (model->unload_left_ms >= 0 && --model->unload_left_ms < 0) {
        model_manager_out(&w->m, &model->slot);
    }
    begin_jobs(w, model);
    size_t n_over = 0;
    for (size_t i = model->n_done; i < model->n_begun; i++) {
        n_over += model->jobs[i].left_ms > 0 && --model->jobs[i].left_ms == 0;
    }
    while (model->n_done < model->n_begun && model->jobs[model->n_done].left_ms <= 0) {
        model->n_done++;
    }
    assert_true(n_over == 0 || model->slot.state == SLOT_IN || model->slot.state == SLOT_DRAINING);
}

static void come(struct world *w, int i, int64_t takes_ms)
{
    struct model *model = &w->models[i];
    if (model->n_come < JOBS_MAX) {
        model->jobs[model->n_come++] = (struct job){.came_ms = w->now_ms, .begun_ms = -1, .left_ms = takes_ms};
        model_manager_want(&w->m, &model->slot);
        begin_jobs(w, model);
    }
}

static void make_world(struct world *w, unsigned seed)
{
    memset(w, 0, sizeof *w);
    w->seed = seed;
    w->m.budget = 100;
    w->now_ms = 1;
    w->fails = seed % 3 == 0;
    w->m.patience_ms = 3000;
    for (int i = 0; i < MODELS; i++) {
        struct model *model = &w->models[i];
        model->slot = (struct model_slot){
            .size = 10 + draw(w, 60), .keep_alive_ms = (int64_t)draw(w, 4) * 500 - 1, .pinned = i == 0 && seed % 2};
        model->slot.size = i == 0 ? 20 : model->slot.size;
        model->rows = i > MODELS - 1 - (int)(seed % 3); /* all jobs of the last ones are rows */
        model->load_left_ms = model->unload_left_ms = -1;
        model->load_takes_ms = 1 + draw(w, 200);
        assert_true(model_manager_add(&w->m, &model->slot));
    }
}

static void disturb(struct world *w)
{
    struct model *model = &w->models[draw(w, MODELS)];
    if (draw(w, 100) == 0 && model->n_begun < model->n_come) { /* the last one that waits goes away */
        model->n_come--;
    }
    if (draw(w, 400) == 0) {
        model_manager_unload(&w->m, &model->slot);
    }
}

static bool all_done(const struct world *w)
{
    for (int i = 0; i < MODELS; i++) {
        if (w->models[i].n_done < w->models[i].n_come) {
            return false;
        }
    }
    return true;
}

/* Jobs begin in the order they came, all of them, and nobody waits longer than for a turn of each of the others. */
static void check_world(const struct world *w)
{
    int64_t turn_ms = 0;
    for (int i = 0; i < MODELS; i++) {
        const struct model *model = &w->models[i];
        assert_int_equal(model->n_done, model->n_come);
        for (size_t k = 1; k < model->n_come && model->n_failures == 0; k++) {
            assert_true(model->jobs[k].begun_ms >= model->jobs[k - 1].begun_ms);
        }
        int64_t share = 2 * model->load_takes_ms > MANAGER_SHARE_MS ? 2 * model->load_takes_ms : MANAGER_SHARE_MS;
        turn_ms += share + model->load_takes_ms + 30 + 300; /* what it has begun takes at most 300 */
    }
    assert_true(w->longest_wait_ms <= 2 * turn_ms);
}

static void run_world(unsigned seed)
{
    static struct world world; /* large; the tests run one by one */
    struct world *w = &world;
    make_world(w, seed);
    unsigned rate = 2 + draw(w, 60);
    for (; w->now_ms < 20000; w->now_ms++) {
        for (int i = 0; i < MODELS; i++) {
            if (draw(w, rate * (1 + (unsigned)i)) == 0) {
                come(w, i, 1 + draw(w, 300));
            }
        }
        disturb(w);
        look_at_world(w);
        for (int i = 0; i < MODELS; i++) {
            pass_ms(w, &w->models[i]);
        }
        look_at_world(w);
    }
    for (int64_t end = w->now_ms + 200000; w->now_ms < end && !all_done(w); w->now_ms++) {
        look_at_world(w);
        for (int i = 0; i < MODELS; i++) {
            pass_ms(w, &w->models[i]);
        }
    }
    check_world(w);
    assert_true(w->m.n_loads > 0);
}

static void test_random_worlds(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 24; seed++) {
        run_world(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loads_what_is_wanted),
        cmocka_unit_test(test_least_recently_used_goes_first),
        cmocka_unit_test(test_busy_one_has_its_share_and_drains),
        cmocka_unit_test(test_share_grows_with_the_time_to_load),
        cmocka_unit_test(test_who_drains_goes_on_when_nobody_waits_any_more),
        cmocka_unit_test(test_later_one_takes_only_what_is_not_needed),
        cmocka_unit_test(test_pinned_stays_and_what_cannot_fit_is_refused),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_unload_while_it_loads_and_while_it_works),
        cmocka_unit_test(test_wanted_again_before_it_has_gone),
        cmocka_unit_test(test_nothing_is_done_for_who_has_gone),
        cmocka_unit_test(test_failed_engine_frees_its_memory),
        cmocka_unit_test(test_rows_wait_until_others_are_quiet),
        cmocka_unit_test(test_rows_wait_no_longer_than_their_patience),
        cmocka_unit_test(test_requests_come_before_rows),
        cmocka_unit_test(test_who_drains_does_not_go_for_rows),
        cmocka_unit_test(test_random_worlds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
