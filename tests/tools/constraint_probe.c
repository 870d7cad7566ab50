/* Constraints for the parity checks and for measuring: constraint_probe MODEL.gguf | small [--canonical] [--bench]
 * Standard input: lines of JSON objects {"kind": "lark" | "json_schema" | "regex" | "choice" | "gbnf", "grammar": TEXT,
 * "n": walks, "seed": S, "max_tokens": M, "all": also walks that did not end, "feed": [TEXT]}; a "schema" instead of
 * the grammar goes through schema_widen (with "binding"). Per line one JSON object on standard output: {"texts": [of
 * walks that ended], "unfinished": N, "fed": [whether the constraint lets each text be written and end], "dropped":
 * [...]} or {"error": TEXT, "code": NAME}. A walk takes any allowed token, and ends where it may with a chance that
 * grows. With --bench: {"n": masks, "vocab": N, "compile_us", "clone_us", "mask_us_mean", "mask_us_p50", "mask_us_p99",
 * "mask_us_max", "accept_us_p50", "accept_us_p99", "own_us_p50"}; own: what is ours of a mask. "small" is the
 * vocabulary of tests/support/grammar_vocab.h, the only one that texts are fed to. */
#include "base/array.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/rng.h"
#include "grammar/constraint.h"
#include "grammar/gbnf.h"
#include "grammar/schema_widen.h"
#include "tests/support/grammar_vocab.h"
#include "tests/support/read_line.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_LINE  MIB(64)
#define MAX_TIMES 200000

struct probe {
    struct tokenizer *tokenizer;
    struct constraint_vocab *vocab;
    struct grammar_vocab *small; /* NULL: a model's */
    uint32_t *mask;
    bool bench;
    double *mask_us, *accept_us; /* [n_times] */
    size_t n_times;
};

struct walk {
    struct probe *p;
    struct constraint_state *state;
    uint64_t seed;
    uint32_t n, max;
    struct buf text;
};

/* ---- walking ---- */

static double uniform(const struct walk *w, uint32_t purpose)
{
    return rng_uniform(w->seed, w->n, purpose, 0, RNG_SAMPLE);
}

static bool is_allowed(const struct probe *p, int applies, int32_t id)
{
    return applies == 0 || (p->mask[id / 32] >> (id % 32) & 1);
}

/* Late in a walk, what closes things is preferred: it is to end. */
static int32_t pick_closing(const struct walk *w, int applies)
{
    static const char closing[] = "\"]}),10ae ";
    for (const char *c = closing; *c; c++) {
        int32_t id = tokenizer_find(w->p->tokenizer, (struct str){c, 1});
        if (id >= 0 && is_allowed(w->p, applies, id) && uniform(w, 2 + (uint32_t)(c - closing)) < 0.7) {
            return id;
        }
    }
    return -1;
}

/* Any allowed token among the first `n`: most others are rare words. */
static int32_t pick_among(const struct walk *w, int applies, int32_t n)
{
    int32_t n_allowed = 0, skip;
    for (int32_t id = 0; id < n; id++) {
        n_allowed += is_allowed(w->p, applies, id) && !tokenizer_is_eog(w->p->tokenizer, id);
    }
    skip = (int32_t)(uniform(w, 0) * n_allowed);
    for (int32_t id = 0; id < n && n_allowed; id++) {
        if (is_allowed(w->p, applies, id) && !tokenizer_is_eog(w->p->tokenizer, id) && skip-- == 0) {
            return id;
        }
    }
    return -1;
}

static int32_t pick(const struct walk *w, int applies)
{
    int32_t n = tokenizer_n_vocab(w->p->tokenizer);
    int32_t id = w->n > w->max / 3 ? pick_closing(w, applies) : -1;
    id = id < 0 && n > 20000 ? pick_among(w, applies, 20000) : id;
    return id < 0 ? pick_among(w, applies, n) : id;
}

static int timed_mask(struct walk *w, struct error *err)
{
    int64_t start = clock_ns();
    int applies = constraint_state_mask(w->state, w->p->mask, err);
    if (w->p->n_times < MAX_TIMES) {
        w->p->mask_us[w->p->n_times] = (double)(clock_ns() - start) / 1e3;
    }
    return applies;
}

static bool timed_accept(struct walk *w, int32_t id, struct error *err)
{
    int64_t start = clock_ns();
    bool ok = constraint_state_accept(w->state, id, err);
    if (w->p->n_times < MAX_TIMES) {
        w->p->accept_us[w->p->n_times++] = (double)(clock_ns() - start) / 1e3;
    }
    return ok;
}

/* 1: it ended where it may; 0: it did not in time; -1: an error. */
static int walk(struct walk *w, struct error *err)
{
    for (w->n = 0; w->n < w->max; w->n++) {
        bool may_stop = constraint_state_can_stop(w->state);
        if (constraint_state_done(w->state) || (may_stop && uniform(w, 1) < 0.1 + (double)w->n / w->max)) {
            return 1;
        }
        int applies = timed_mask(w, err);
        if (applies < 0) {
            return -1;
        }
        int32_t id = pick(w, applies);
        if (id < 0) {
            return may_stop ? 1 : error_set(err, ERR_INTERNAL, "No token is allowed, and the text may not end.") - 1;
        }
        if (!timed_accept(w, id, err)) {
            return -1;
        }
        buf_append(&w->text, tokenizer_bytes(w->p->tokenizer, id));
    }
    return 0;
}

/* ---- one line ---- */

static enum constraint_kind kind_of(struct str name)
{
    return str_eq(name, STR("json_schema")) ? CONSTRAINT_JSON_SCHEMA
           : str_eq(name, STR("regex"))     ? CONSTRAINT_REGEX
           : str_eq(name, STR("choice"))    ? CONSTRAINT_CHOICE
                                            : CONSTRAINT_LARK;
}

static bool prepare(struct probe *p, const struct json *line, struct constraint_spec *spec, struct buf *text,
                    struct arena *arena, struct schema_drops *drops, struct error *err)
{
    const struct json *schema = json_get(line, "schema");
    struct str grammar = json_str(json_get(line, "grammar"));
    *spec = constraint_spec_none();
    spec->kind = schema ? CONSTRAINT_JSON_SCHEMA : kind_of(json_str(json_get(line, "kind")));
    if (schema) {
        struct schema_widen_options o = {.binding = json_bool(json_get(line, "binding")), .vocab = p->vocab};
        if (!schema_widen(schema, &o, arena, text, drops, err)) {
            return false;
        }
        grammar = buf_view(text);
    } else if (str_eq(json_str(json_get(line, "kind")), STR("gbnf"))) {
        if (!gbnf_to_lark(grammar, text, err)) {
            return false;
        }
        grammar = buf_view(text);
    }
    spec->grammar = grammar;
    return true;
}

static bool walk_all(struct probe *p, struct constraint *c, const struct json *line, struct json_writer *w,
                     struct error *err)
{
    int64_t n = json_int(json_get(line, "n")), seed = json_int(json_get(line, "seed")), unfinished = 0;
    int64_t max = json_get(line, "max_tokens") ? json_int(json_get(line, "max_tokens")) : 300;
    json_key(w, "texts");
    json_begin_array(w);
    for (int64_t i = 0; i < n; i++) {
        struct walk one = {.p = p, .seed = (uint64_t)(seed + i), .max = (uint32_t)max};
        buf_init(&one.text, MIB(16));
        one.state = constraint_state_create(c, err);
        int ended = one.state ? walk(&one, err) : -1;
        if (ended == 1 || json_bool(json_get(line, "all"))) {
            json_put_str(w, buf_view(&one.text));
        }
        unfinished += ended == 0;
        constraint_state_free(one.state);
        buf_release(&one.text);
        if (ended < 0) {
            return false;
        }
    }
    json_end_array(w);
    json_member_int(w, "unfinished", unfinished);
    return true;
}

/* Byte by byte, each of which the mask has to allow. */
static bool feed(struct probe *p, struct constraint_state *s, struct str text, struct error *err)
{
    for (size_t i = 0; i < text.len; i++) {
        int32_t id = grammar_vocab_byte(p->small, (uint8_t)text.ptr[i]);
        int applies = constraint_state_mask(s, p->mask, err);
        if (applies < 0 || !is_allowed(p, applies, id) || !constraint_state_accept(s, id, err)) {
            return false;
        }
    }
    return constraint_state_can_stop(s);
}

static bool feed_all(struct probe *p, struct constraint *c, const struct json *line, struct json_writer *w,
                     struct error *err)
{
    const struct json *texts = json_get(line, "feed");
    json_key(w, "fed");
    json_begin_array(w);
    for (size_t i = 0; p->small && i < json_len(texts); i++) {
        struct constraint_state *s = constraint_state_create(c, err);
        if (!s) {
            return false;
        }
        bool fits = feed(p, s, json_str(json_at(texts, i)), err);
        constraint_state_free(s);
        if (err->code != ERR_NONE) {
            return false; /* out of fuel */
        }
        json_put_bool(w, fits);
    }
    json_end_array(w);
    return true;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double mean(const double *values, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += values[i];
    }
    return n ? sum / (double)n : 0;
}

static double percentile(double *values, size_t n, double p)
{
    qsort(values, n, sizeof *values, by_value);
    return n ? values[(size_t)((double)(n - 1) * p)] : 0;
}

/* What a mask costs without llguidance: one of the reasoning, of a binding grammar, is a copy. */
static double own_us(struct probe *p, struct error *err)
{
    static const int32_t end[] = {0};
    struct constraint_spec spec = {
        .kind = CONSTRAINT_REGEX, .grammar = STR("a"), .think_open = true, .think_budget = -1, .think_end = {end, 1}};
    struct constraint *c = constraint_compile(p->vocab, &spec, NULL, err);
    struct constraint_state *s = c ? constraint_state_create(c, err) : NULL;
    double us[1001] = {0};
    for (size_t i = 0; s && i < ARRAY_LEN(us); i++) {
        int64_t start = clock_ns();
        if (constraint_state_mask(s, p->mask, err) != 1) {
            break;
        }
        us[i] = (double)(clock_ns() - start) / 1e3;
    }
    constraint_state_free(s);
    constraint_release(c);
    return percentile(us, ARRAY_LEN(us), 0.5);
}

static void put_bench(struct probe *p, struct json_writer *w, double compile_us, double clone_us, struct error *err)
{
    json_member_uint(w, "n", p->n_times);
    json_member_int(w, "vocab", constraint_vocab_size(p->vocab));
    json_member_double(w, "compile_us", compile_us);
    json_member_double(w, "clone_us", clone_us);
    json_member_double(w, "mask_us_mean", mean(p->mask_us, p->n_times));
    json_member_double(w, "mask_us_p50", percentile(p->mask_us, p->n_times, 0.5));
    json_member_double(w, "mask_us_p99", percentile(p->mask_us, p->n_times, 0.99));
    json_member_double(w, "mask_us_max", percentile(p->mask_us, p->n_times, 1));
    json_member_double(w, "accept_us_p50", percentile(p->accept_us, p->n_times, 0.5));
    json_member_double(w, "accept_us_p99", percentile(p->accept_us, p->n_times, 0.99));
    json_member_double(w, "own_us_p50", own_us(p, err));
}

static double time_clone(struct constraint *c, struct error *err)
{
    int64_t start = clock_ns();
    constraint_state_free(constraint_state_create(c, err));
    return (double)(clock_ns() - start) / 1e3;
}

static bool run_line(struct probe *p, const struct json *line, struct arena *arena, struct json_writer *w,
                     struct error *err)
{
    struct constraint_spec spec;
    struct schema_drops drops = {0};
    struct buf text;
    buf_init(&text, MIB(8));
    p->n_times = 0;
    int64_t start = clock_ns();
    struct constraint *c = NULL;
    if (prepare(p, line, &spec, &text, arena, &drops, err)) {
        c = constraint_compile(p->vocab, &spec, json_get(line, "field") ? json_str(json_get(line, "field")).ptr : NULL,
                               err);
    }
    double compile_us = (double)(clock_ns() - start) / 1e3;
    bool ok = c && walk_all(p, c, line, w, err) && feed_all(p, c, line, w, err);
    if (ok) {
        json_key(w, "dropped");
        json_begin_array(w);
        for (size_t i = 0; i < drops.n; i++) {
            json_put_str(w, drops.pointers[i]);
        }
        json_end_array(w);
        json_member_double(w, "ms", compile_us / 1e3);
        if (p->bench) {
            put_bench(p, w, compile_us, time_clone(c, err), err);
        }
    }
    constraint_release(c);
    buf_release(&text);
    return ok;
}

static void answer(struct probe *p, struct str text)
{
    struct error err = {0};
    struct buf out;
    struct json *line = json_parse(text, 64, &err);
    struct arena *arena = arena_create(MIB(64));
    buf_init(&out, MIB(64));
    struct json_writer w = json_writer(&out);
    json_begin_object(&w);
    if (!line || !arena || !run_line(p, line, arena, &w, &err)) {
        buf_clear(&out);
        w = json_writer(&out);
        json_begin_object(&w);
        json_member_cstr(&w, "error", err.msg);
        json_member_cstr(&w, "code", error_info(err.code)->name);
    }
    json_end_object(&w);
    printf(STR_FMT "\n", STR_ARG(buf_view(&out)));
    fflush(stdout);
    arena_free(arena);
    json_free(line);
    buf_release(&out);
}

/* ---- the program ---- */

static void answer_all(struct probe *p)
{
    struct buf line;
    buf_init(&line, MAX_LINE);
    while (read_line(stdin, &line)) {
        if (line.len) {
            answer(p, buf_view(&line));
        }
    }
    buf_release(&line);
}

static bool run(struct probe *p)
{
    p->mask = calloc(constraint_vocab_mask_words(p->vocab), sizeof *p->mask);
    p->mask_us = calloc(MAX_TIMES, sizeof *p->mask_us);
    p->accept_us = calloc(MAX_TIMES, sizeof *p->accept_us);
    bool ok = p->mask && p->mask_us && p->accept_us;
    if (ok) {
        answer_all(p);
    }
    free(p->mask);
    free(p->mask_us);
    free(p->accept_us);
    return ok;
}

static bool run_model(const char *path, bool canonical, bool bench, struct error *err)
{
    struct probe p = {.bench = bench};
    struct model_file *file = model_file_open(path, err);
    p.tokenizer = file ? tokenizer_from_model_file(file, err) : NULL;
    int64_t start = clock_ns();
    if (p.tokenizer) {
        p.vocab = constraint_vocab_create(p.tokenizer, &(struct constraint_vocab_options){.canonical = canonical}, err);
    }
    if (p.vocab) {
        fprintf(stderr, "vocabulary: %.0f ms\n", (double)(clock_ns() - start) / 1e6);
    }
    bool ok = p.vocab && run(&p);
    constraint_vocab_free(p.vocab);
    tokenizer_free(p.tokenizer);
    model_file_close(file);
    return ok;
}

static bool run_small(bool canonical, bool bench)
{
    struct grammar_vocab small;
    grammar_vocab_open(&small, &(struct constraint_vocab_options){.canonical = canonical});
    struct probe p = {.tokenizer = small.tokenizer, .vocab = small.vocab, .small = &small, .bench = bench};
    bool ok = run(&p);
    grammar_vocab_close(&small);
    return ok;
}

int main(int argc, char **argv)
{
    struct error err = {0};
    bool canonical = false, bench = false;
    for (int i = 2; i < argc; i++) {
        canonical |= str_eq(str_of(argv[i]), STR("--canonical"));
        bench |= str_eq(str_of(argv[i]), STR("--bench"));
    }
    if (argc < 2) {
        fprintf(stderr, "usage: constraint_probe MODEL.gguf | small [--canonical] [--bench]\n");
        return 1;
    }
    bool is_small = str_eq(str_of(argv[1]), STR("small"));
    if (!(is_small ? run_small(canonical, bench) : run_model(argv[1], canonical, bench, &err))) {
        fprintf(stderr, "constraint_probe: %s\n", err.code ? err.msg : "no memory");
        return 1;
    }
    return 0;
}
