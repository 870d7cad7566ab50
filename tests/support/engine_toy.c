#include "tests/support/engine_toy.h"

#include "base/clock.h"
#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- model ---- */

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t x = (a ^ (b + 0x9e3779b97f4a7c15u + (a << 6) + (a >> 2))) * 0xff51afd7ed558ccdu;
    return x ^ (x >> 33);
}

/* A page has the words that its size says, one of them for each position: the rest is there for the size. */
static uint64_t *page_words(const struct toy *t, int group, uint32_t page)
{
    return &t->kv[(size_t)page * (t->config->geometry.page_size[group] / sizeof(uint64_t))];
}

static void wrong(const char *what, int group, int32_t at)
{
    fprintf(stderr, "toy: %s (group %d, position %d)\n", what, group, at);
    abort();
}

/* Nobody else looks at a page that is written. */
static void check_own(const struct toy *t, int group, uint32_t page, int32_t position)
{
    if (t->pages && (kv_refs(t->pages, group, page) != 1 || kv_is_cached(t->pages, group, page))) {
        wrong("a page that is shared or cached is written", group, position);
    }
}

static uint64_t *slot(const struct toy *t, int group, const struct batch_seq *seq, int32_t position)
{
    int32_t page_tokens = (int32_t)t->config->page_tokens;
    uint32_t page = seq->pages[group][position / page_tokens];
    if (page == KV_PAGE_NONE || position / page_tokens >= seq->n_pages) {
        wrong("a position has no page", group, position);
    }
    return page_words(t, group, page) + position % page_tokens;
}

/* ---- states: word 0 is the state, word 1 behind which position it is ---- */

static const uint64_t no_state = UINT64_MAX;

/* The state behind the position before this one: of the sequence's first row it is read, and lies in t->running then.
 */
static void begin_states(struct toy *t, const struct batch_seq *seq)
{
    int32_t page_tokens = (int32_t)t->config->page_tokens, block = (seq->start - 1) / page_tokens;
    for (int g = 0; g < t->config->geometry.n_groups; g++) {
        if (!t->config->state[g]) {
            continue;
        }
        t->running[g] = 0;
        if (seq->start > 0) {
            uint32_t page = seq->pages[g][block];
            const uint64_t *words = page == KV_PAGE_NONE ? NULL : page_words(t, g, page);
            if (!words || words[1] != (uint64_t)seq->start) {
                wrong("there is no state to start from", g, seq->start);
            }
            t->running[g] = words[0];
        }
    }
}

/* What a step that fails midway leaves of the pages that it would have written, and any step until it has succeeded. */
static void spoil_states(struct toy *t, const struct batch_seq *seq)
{
    int32_t page_tokens = (int32_t)t->config->page_tokens, last = (seq->start + seq->n_rows - 1) / page_tokens;
    for (int g = 0; g < t->config->geometry.n_groups; g++) {
        for (int32_t i = seq->start / page_tokens; t->config->state[g] && i <= last; i++) {
            uint32_t page = seq->pages[g][i];
            if (page == KV_PAGE_NONE && i == last) {
                wrong("the last block of a step has no page", g, i * page_tokens);
            }
            if (page != KV_PAGE_NONE) {
                check_own(t, g, page, i * page_tokens);
                page_words(t, g, page)[0] ^= 0xbadu;
                page_words(t, g, page)[1] = no_state;
            }
        }
    }
}

static uint64_t move_state(struct toy *t, int group, const struct batch_seq *seq, int32_t position, uint64_t state)
{
    int32_t page_tokens = (int32_t)t->config->page_tokens, end = seq->start + seq->n_rows;
    uint32_t page = seq->pages[group][position / page_tokens];
    t->running[group] = mix(t->running[group], mix(state, (uint64_t)group + 177));
    if (page != KV_PAGE_NONE && (position + 1 == end || (position + 1) % page_tokens == 0)) {
        page_words(t, group, page)[0] = t->running[group];
        page_words(t, group, page)[1] = (uint64_t)position + 1;
        t->n_states++;
    }
    return mix(state, t->running[group]);
}

/* ---- rows ---- */

static uint64_t compute_row(struct toy *t, const struct batch_seq *seq, int32_t id, int32_t position)
{
    uint64_t state = mix((uint64_t)id + 1, (uint64_t)position + 1);
    for (int g = 0; g < t->config->geometry.n_groups; g++) {
        int window = t->config->window[g];
        int32_t from = window && position - window + 1 > 0 ? position - window + 1 : 0;
        uint64_t key = mix(state, (uint64_t)g + 77);
        if (t->config->state[g]) {
            state = move_state(t, g, seq, position, state);
            continue;
        }
        check_own(t, g, seq->pages[g][position / (int32_t)t->config->page_tokens], position);
        *slot(t, g, seq, position) = key;
        for (int32_t p = from; p <= position; p++) {
            state = mix(state, *slot(t, g, seq, p));
        }
    }
    return state;
}

static bool is_banned(const struct sample_row *row, int32_t id)
{
    for (int32_t i = 0; i < row->n_banned; i++) {
        if (row->banned[i] == id) {
            return true;
        }
    }
    return row->mask && !(row->mask[id / 32] >> (id % 32) & 1);
}

static bool is_finite(const struct toy *t, const struct executor_step *step, int i)
{
    int32_t row = step->batch->out_rows[step->rows[i].logits_row];
    bool bad_job = t->bad_job && step->owners[i].job == t->bad_job;
    return !bad_job && !(t->bad_id && step->batch->ids[row] == t->bad_id);
}

static void sample_row(struct toy *t, const struct executor_step *step, int i, struct sample_result *result)
{
    const struct sample_row *row = &step->rows[i];
    uint64_t state = t->states[step->batch->out_rows[row->logits_row]], bits;
    size_t n_history = (size_t)row->n_prompt + (size_t)row->n_output;
    memcpy(&bits, &row->uniform, sizeof bits);
    uint64_t h = mix(state, bits);
    if (!t->blind) {
        h = mix(mix(h, xxh3(row->history, n_history * 4, 0)), (uint64_t)row->n_output);
    }
    int32_t n_vocab = (int32_t)t->config->n_vocab, id = (int32_t)(h % (uint64_t)n_vocab);
    id = t->wrong_one_in && mix(h, 3) % t->wrong_one_in == 0 ? (id + 1) % n_vocab : id;
    while (is_banned(row, id)) {
        id = (id + 1) % n_vocab;
    }
    *result = (struct sample_result){.id = row->score_id >= 0 ? row->score_id : id,
                                     .logprob = -(float)(mix(state, 5) % 1000) / 100,
                                     .rank = 1,
                                     .finite = is_finite(t, step, i),
                                     .n_top = row->n_top,
                                     .digest = row->want_digest ? state : 0};
    for (int32_t k = 0; k < row->n_top; k++) {
        result->top[k] = (struct top_logprob){k, -(float)k};
    }
}

/* The token of a row: the batch's, or what the step before sampled, which nobody may have read yet. */
static int32_t id_of(const struct toy *t, const struct batch *b, int32_t row)
{
    const struct toy_samples *prev = (const struct toy_samples *)(const void *)b->prev_ids;
    if (!b->prev_row || b->prev_row[row] < 0) {
        return b->ids[row];
    }
    if (!prev || prev->step + 1 != t->n_steps || b->prev_row[row] >= prev->n) {
        fprintf(stderr, "toy: row %d takes its token from a step that is not the last\n", row);
        abort();
    }
    return prev->results[b->prev_row[row]].id;
}

/* Where pages are private, no two sequences of a step may have one in common. */
static void check_private(const struct toy *t, const struct batch *b)
{
    for (int g = 0; t->base.kv_private && g < t->config->geometry.n_groups; g++) {
        for (int i = 0; i < b->n_seqs; i++) {
            for (int32_t k = 0; k < b->seqs[i].n_pages; k++) {
                for (int j = i + 1; j < b->n_seqs; j++) {
                    for (int32_t m = 0; m < b->seqs[j].n_pages; m++) {
                        uint32_t page = b->seqs[i].pages[g][k];
                        if (page != KV_PAGE_NONE && page == b->seqs[j].pages[g][m]) {
                            fprintf(stderr, "toy: page %u of group %d is shared\n", page, g);
                            abort();
                        }
                    }
                }
            }
        }
    }
}

static bool sample_all(struct toy *t, const struct executor_step *step, struct tensor **ids)
{
    struct toy_samples *s = &t->samples[t->n_steps & 1];
    if (step->n_samples > s->cap) {
        struct sample_result *results = realloc(s->results, (size_t)step->n_samples * sizeof *results);
        if (!results) {
            return false;
        }
        s->results = results;
        s->cap = step->n_samples;
    }
    s->n = step->n_samples;
    s->step = t->n_steps;
    for (int i = 0; i < step->n_samples; i++) {
        sample_row(t, step, i, &s->results[i]);
    }
    *ids = (struct tensor *)(void *)s;
    return true;
}

static void compute_batch(struct toy *t, const struct batch *b)
{
    for (int i = 0; i < b->n_seqs; i++) {
        const struct batch_seq *seq = &b->seqs[i];
        begin_states(t, seq);
        spoil_states(t, seq);
        for (int32_t k = 0; k < seq->n_rows; k++) {
            int32_t row = seq->first_row + k;
            if (b->positions[row] != seq->start + k) {
                abort();
            }
            t->states[row] = compute_row(t, seq, id_of(t, b, row), b->positions[row]);
        }
    }
}

static bool run_step(struct executor *x, const struct executor_step *step, struct tensor **ids, struct error *err)
{
    struct toy *t = (struct toy *)x;
    const struct batch *b = step->batch;
    *ids = NULL;
    t->n_steps++;
    t->n_rows += (uint64_t)b->n_rows;
    t->max_rows = (uint32_t)b->n_rows > t->max_rows ? (uint32_t)b->n_rows : t->max_rows;
    t->max_seqs = (uint32_t)b->n_seqs > t->max_seqs ? (uint32_t)b->n_seqs : t->max_seqs;
    if (t->delay_ms) {
        clock_sleep_ms(t->delay_ms);
    }
    if (t->cost) {
        t->base.timed = true;
        t->base.eval_ns += t->cost(step);
    }
    if (t->fail_next) {
        error_set(err, t->fail_next, "The toy was told to fail.");
        t->fail_next = ERR_NONE;
        for (int i = 0; i < b->n_seqs; i++) {
            spoil_states(t, &b->seqs[i]);
        }
        return false;
    }
    check_private(t, b);
    compute_batch(t, b);
    return sample_all(t, step, ids);
}

static bool read_step(struct executor *x, const struct executor_step *step, struct tensor *ids,
                      struct sample_result *results, struct error *err)
{
    struct toy *t = (struct toy *)x;
    const struct toy_samples *s = (const struct toy_samples *)(const void *)ids;
    (void)err;
    if (!s || s->n != step->n_samples || s->step + 1 < t->n_steps) {
        fprintf(stderr, "toy: samples are read that are gone\n");
        abort();
    }
    if (s->n) { /* a step of a prompt's first rows has none */
        memcpy(results, s->results, (size_t)s->n * sizeof *results);
    }
    return true;
}

static void copy_page(struct executor *x, int group, uint32_t src, uint32_t dst, int n_tokens)
{
    struct toy *t = (struct toy *)x;
    uint64_t *to = page_words(t, group, dst);
    t->n_copies++;
    if (t->config->state[group]) { /* one state, whatever n_tokens is */
        memcpy(to, page_words(t, group, src), t->config->geometry.page_size[group]);
        return;
    }
    for (size_t i = 0; i < t->config->page_tokens; i++) {
        to[i] = i < (size_t)n_tokens ? page_words(t, group, src)[i] : 0xdeadu;
    }
}

static void *page_data(struct executor *x, int group, uint32_t page)
{
    return page_words((struct toy *)x, group, page);
}

static void nothing(struct executor *x)
{
    (void)x;
}

static const struct executor_ops toy_ops = {
    .step = run_step, .read = read_step, .copy_page = copy_page, .free = nothing, .page_data = page_data};
static const int32_t toy_eog[] = {0};

void toy_add_states(struct engine_config *config, size_t page_size)
{
    int g = config->geometry.n_groups++;
    config->geometry.page_size[g] = page_size;
    config->window[g] = 2;
    config->state[g] = true;
}

struct engine_config toy_config(size_t pool_pages)
{
    return (struct engine_config){
        .geometry = {.n_groups = 2, .page_size = {48, 80}, .pool_size = pool_pages * 80},
        .window = {0, 9},
        .page_tokens = 4,
        .n_vocab = 50,
        .n_context = 200,
        .max_sequences = 8,
        .max_batch_tokens = 32,
        .max_waiting = TOY_MAX_JOBS,
        .prefix_cache = true,
        .max_drafts = 7,
        .test_hooks = true,
        .eog_ids = toy_eog,
        .n_eog_ids = 1,
    };
}

void toy_init(struct toy *t, const struct engine_config *config)
{
    toy_init_mode(t, config, (struct toy_mode){0});
}

void toy_init_mode(struct toy *t, const struct engine_config *config, struct toy_mode mode)
{
    *t = (struct toy){
        .base = {.ops = &toy_ops, .lazy = mode.lazy, .kv_private = mode.kv_private, .no_guesses = mode.lazy},
        .blind = mode.blind,
        .config = config};
    for (int g = 0; g < config->geometry.n_groups; g++) {
        size_t size = config->geometry.page_size[g];
        if (size % sizeof(uint64_t) || size / sizeof(uint64_t) < (config->state[g] ? 2 : config->page_tokens)) {
            fprintf(stderr, "toy: a page of %zu bytes has no word for each position\n", size);
            abort();
        }
    }
    t->kv = calloc(config->geometry.pool_size / sizeof(uint64_t) + 1, sizeof(uint64_t));
    t->states = calloc(config->max_batch_tokens, sizeof(uint64_t));
}

void toy_release(struct toy *t)
{
    free(t->kv);
    free(t->states);
    free(t->samples[0].results);
    free(t->samples[1].results);
}

uint64_t toy_sum(void *toy, int group, uint32_t page, uint32_t from, uint32_t to, uint64_t seed, bool written)
{
    const uint64_t *words = page_words(toy, group, page);
    (void)written;
    for (uint32_t i = from; i < to; i++) {
        seed = xxh3(&words[i], sizeof *words, seed);
    }
    return seed;
}

/* ---- log ---- */

void toy_log_init(struct toy_log *log)
{
    memset(log, 0, sizeof *log);
}

void toy_log_release(struct toy_log *log)
{
    for (size_t i = 0; i < TOY_MAX_JOBS; i++) {
        for (size_t k = 0; k < TOY_MAX_CHOICES; k++) {
            free(log->jobs[i].choices[k].ids);
            free(log->jobs[i].choices[k].logprobs);
            free(log->jobs[i].choices[k].digests);
        }
    }
}

static void complain(struct toy_log *log, const char *what)
{
    log->wrong = log->wrong ? log->wrong : what;
}

static void grow(struct toy_choice *c)
{
    if (c->n == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 16;
        c->ids = realloc(c->ids, c->cap * sizeof *c->ids);
        c->logprobs = realloc(c->logprobs, c->cap * sizeof *c->logprobs);
        c->digests = realloc(c->digests, c->cap * sizeof *c->digests);
    }
}

static void take_tokens(struct toy_log *log, struct toy_job *job, const struct engine_event *e)
{
    struct toy_choice *c = &job->choices[e->choice];
    if (e->choice >= TOY_MAX_CHOICES || c->finish != FINISH_NONE || job->failed) {
        complain(log, "tokens after the end");
        return;
    }
    if (c->n == 0 && c->cap == 0) {
        c->n = e->index; /* resumed: it begins later */
        c->cap = e->index + 16;
        c->ids = calloc(c->cap, sizeof *c->ids);
        c->logprobs = calloc(c->cap, sizeof *c->logprobs);
        c->digests = calloc(c->cap, sizeof *c->digests);
    }
    if (e->index != c->n) {
        complain(log, "a gap or a repetition in the tokens");
        return;
    }
    for (uint32_t i = 0; i < e->n; i++) {
        grow(c);
        c->ids[c->n] = e->ids[i];
        c->logprobs[c->n] = e->logprobs ? e->logprobs[i].logprob : 0;
        c->digests[c->n++] = e->logprobs ? e->logprobs[i].digest : 0;
    }
    c->finish = e->finish;
    c->stop_id = e->stop_id;
    if (e->finish != FINISH_NONE) {
        c->finish_seq = ++log->seq;
        log->n_finished++;
        if (++job->n_ended == job->n_choices) {
            atomic_fetch_add(&log->n_jobs_ended, 1);
        }
    }
}

static void take_scores(struct toy_log *log, struct toy_job *job, const struct engine_event *e)
{
    if (e->index != job->n_scored || !e->logprobs) {
        complain(log, "a gap in the prompt's logprobs");
        return;
    }
    for (uint32_t i = 0; i < e->n; i++) {
        job->score_sum += e->logprobs[i].logprob * (float)(job->n_scored + 1);
        job->n_scored++;
    }
}

static void take(struct toy_log *log, const struct engine_event *e)
{
    struct toy_job *job = &log->jobs[e->job % TOY_MAX_JOBS];
    log->n_events++;
    switch (e->kind) {
    case ENGINE_STARTED:
        job->n_started++;
        job->n_cached = e->n_cached;
        job->queue_us = e->queue_us;
        job->start_seq = ++log->seq;
        break;
    case ENGINE_PROGRESS:
        if (e->n_done <= job->n_done) {
            complain(log, "progress that does not grow");
        }
        job->n_done = e->n_done;
        break;
    case ENGINE_PROMPT:
        take_scores(log, job, e);
        break;
    case ENGINE_TOKENS:
        take_tokens(log, job, e);
        break;
    case ENGINE_FAILED:
        job->failed = e->error.code;
        job->error = e->error;
        log->n_finished++;
        if (job->n_choices) {
            atomic_fetch_add(&log->n_jobs_ended, 1);
        }
        break;
    case ENGINE_STATS:
        log->stats = *e->stats;
        log->n_stats++;
        break;
    case ENGINE_PREEMPTED:
        job->n_preempted++;
        if (!job->n_started) {
            complain(log, "a preemption of what has not started");
        }
        break;
    case ENGINE_REPLAYED:
        job->n_replayed++;
        memcpy(job->fingerprint, e->fingerprint, sizeof job->fingerprint);
        break;
    case ENGINE_LOST:
        complain(log, "an engine does not report its own loss");
        break;
    }
}

void toy_sink(void *arg, const struct engine_event *events, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        take(arg, &events[i]);
    }
}

bool toy_same(const struct toy_job *a, const struct toy_job *b, uint32_t n_choices)
{
    for (uint32_t i = 0; i < n_choices; i++) {
        const struct toy_choice *x = &a->choices[i], *y = &b->choices[i];
        if (x->n != y->n || x->finish != y->finish || x->stop_id != y->stop_id ||
            (x->n && (memcmp(x->ids, y->ids, x->n * sizeof *x->ids) != 0 ||
                      memcmp(x->logprobs, y->logprobs, x->n * sizeof *x->logprobs) != 0 ||
                      memcmp(x->digests, y->digests, x->n * sizeof *x->digests) != 0))) {
            return false;
        }
    }
    return a->n_scored == b->n_scored && a->score_sum == b->score_sum;
}
