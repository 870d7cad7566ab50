/* The text of /metrics against the rules of Prometheus' text format 0.0.4, read by a small strict parser: HELP and TYPE
 * once before the samples of each name, labels quoted, no series twice, histograms that add up. And what the observer
 * and the engine's statistics put into it. */
#include "gateway/metrics.h"

#include "gateway/api_keys.h"

#include "base/clock.h"

#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX_FAMILIES 192
#define MAX_SAMPLES  8192
#define MAX_LABELS   8

struct family {
    char name[96], type[16];
    bool has_samples;
};

struct sample {
    char name[112];
    struct {
        char name[32], value[96]; /* unescaped */
    } labels[MAX_LABELS];
    int n_labels;
    double value;
};

struct page {
    struct metrics *metrics;
    struct buf text;
    struct family families[MAX_FAMILIES];
    struct sample samples[MAX_SAMPLES];
    int n_families, n_samples;
};

/* ---- parser ---- */

static bool is_name(const char *s)
{
    if (!*s || isdigit((unsigned char)*s)) {
        return false;
    }
    for (; *s; s++) {
        if (!isalnum((unsigned char)*s) && *s != '_' && *s != ':') {
            return false;
        }
    }
    return true;
}

static void copy(char *out, size_t size, const char *text)
{
    assert_true(strlen(text) < size);
    memcpy(out, text, strlen(text) + 1);
}

static void take_help(struct page *p, char *line)
{
    char *name = line + strlen("# HELP "), *help = strchr(name, ' ');
    assert_non_null(help);
    *help++ = '\0';
    assert_true(is_name(name));
    assert_true(strlen(help) > 3);
    assert_int_equal(help[strlen(help) - 1], '.');
    for (int i = 0; i < p->n_families; i++) {
        assert_string_not_equal(p->families[i].name, name);
    }
    assert_true(p->n_families < MAX_FAMILIES);
    copy(p->families[p->n_families++].name, sizeof p->families[0].name, name);
}

static void take_type(struct page *p, char *line)
{
    char *name = line + strlen("# TYPE "), *type = strchr(name, ' ');
    assert_non_null(type);
    *type++ = '\0';
    assert_true(p->n_families > 0);
    struct family *f = &p->families[p->n_families - 1];
    assert_string_equal(f->name, name); /* right behind its HELP */
    assert_string_equal(f->type, "");
    assert_true(strcmp(type, "counter") == 0 || strcmp(type, "gauge") == 0 || strcmp(type, "histogram") == 0);
    copy(f->type, sizeof f->type, type);
}

/* name="value" at *at; steps over it. */
static void take_label(struct sample *s, char **at)
{
    char *equals = strchr(*at, '='), *out;
    assert_non_null(equals);
    assert_int_equal(equals[1], '"');
    *equals = '\0';
    assert_true(is_name(*at));
    assert_true(s->n_labels < MAX_LABELS);
    copy(s->labels[s->n_labels].name, sizeof s->labels[0].name, *at);
    out = s->labels[s->n_labels++].value;
    char *c = equals + 2, *out_end = out + sizeof s->labels[0].value - 1;
    for (; *c != '"'; c++) {
        assert_int_not_equal(*c, '\0');
        assert_true(out < out_end);
        if (*c == '\\') {
            c++;
            assert_non_null(strchr("\\\"n", *c));
            *out++ = (char)(*c == 'n' ? '\n' : *c);
        } else {
            *out++ = *c;
        }
    }
    *out = '\0';
    *at = c + 1;
}

/* Belongs `name` to the family: itself, or a histogram's parts? */
static bool is_of_family(const struct family *f, const char *name)
{
    size_t n = strlen(f->name);
    if (strcmp(f->type, "histogram") != 0) {
        return strcmp(f->name, name) == 0;
    }
    return strncmp(f->name, name, n) == 0 &&
           (strcmp(name + n, "_bucket") == 0 || strcmp(name + n, "_sum") == 0 || strcmp(name + n, "_count") == 0);
}

static void take_sample(struct page *p, char *line)
{
    assert_true(p->n_samples < MAX_SAMPLES && p->n_families > 0);
    struct sample *s = &p->samples[p->n_samples++];
    char *at = line + strcspn(line, "{ "), *end;
    bool labelled = *at == '{';
    *at++ = '\0';
    assert_true(is_name(line));
    copy(s->name, sizeof s->name, line);
    while (labelled) {
        take_label(s, &at);
        labelled = *at == ',';
        assert_true(labelled || at[0] == '}');
        assert_true(labelled || at[1] == ' ');
        at += labelled ? 1 : 2;
    }
    s->value = strtod(at, &end);
    assert_true(end > at && *end == '\0' && isfinite(s->value));
    struct family *f = &p->families[p->n_families - 1];
    if (!is_of_family(f, s->name)) {
        fail_msg("%s stands under %s", s->name, f->name);
    }
    f->has_samples = true;
}

static bool same_series(const struct sample *a, const struct sample *b)
{
    bool same = strcmp(a->name, b->name) == 0 && a->n_labels == b->n_labels;
    for (int i = 0; same && i < a->n_labels; i++) {
        same = strcmp(a->labels[i].name, b->labels[i].name) == 0 && strcmp(a->labels[i].value, b->labels[i].value) == 0;
    }
    return same;
}

static void parse(struct page *p)
{
    struct error err = {0};
    char line[1024];
    buf_clear(&p->text);
    metrics_write(p->metrics, &p->text);
    assert_true(buf_ok(&p->text, "metrics", &err));
    struct str rest = buf_view(&p->text), part;
    assert_true(str_ends(rest, STR("\n")));
    rest.len--;
    p->n_families = p->n_samples = 0;
    memset(p->families, 0, sizeof p->families);
    memset(p->samples, 0, sizeof p->samples);
    while (str_split(&rest, '\n', &part)) {
        assert_true(part.len > 0 && part.len < sizeof line);
        snprintf(line, sizeof line, STR_FMT, STR_ARG(part));
        if (strncmp(line, "# HELP ", 7) == 0) {
            take_help(p, line);
        } else if (line[0] == '#') {
            assert_int_equal(strncmp(line, "# TYPE ", 7), 0);
            take_type(p, line);
        } else {
            take_sample(p, line);
        }
    }
    for (int i = 0; i < p->n_samples; i++) {
        for (int j = 0; j < i; j++) {
            assert_false(same_series(&p->samples[i], &p->samples[j]));
        }
    }
}

static const char *label(const struct sample *s, const char *name)
{
    for (int i = 0; i < s->n_labels; i++) {
        if (strcmp(s->labels[i].name, name) == 0) {
            return s->labels[i].value;
        }
    }
    return "";
}

static const char *model_of(const struct sample *s)
{
    return strncmp(s->name, "vllm:", 5) == 0 ? label(s, "model_name") : label(s, "model");
}

/* Of the series of this name with model (NULL: any) and the one label more (NULL: none). */
static double value_of(const struct page *p, const char *name, const char *model, const char *key, const char *value)
{
    for (int i = 0; i < p->n_samples; i++) {
        const struct sample *s = &p->samples[i];
        if (strcmp(s->name, name) == 0 && (!model || strcmp(model_of(s), model) == 0) &&
            (!key || strcmp(label(s, key), value) == 0)) {
            return s->value;
        }
    }
    fail_msg("there is no %s of %s", name, model ? model : "all");
    return -1;
}

static const char *type_of(const struct page *p, const char *family)
{
    for (int i = 0; i < p->n_families; i++) {
        if (strcmp(p->families[i].name, family) == 0) {
            return p->families[i].type;
        }
    }
    fail_msg("there is no %s", family);
    return "";
}

/* ---- fixture ---- */

static int setup(void **state)
{
    struct page *p = calloc(1, sizeof *p);
    buf_init(&p->text, 1 << 20);
    p->metrics = metrics_create();
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct page *p = *state;
    metrics_free(p->metrics);
    buf_release(&p->text);
    free(p);
    return 0;
}

static void check_histogram(const struct page *p, const char *family, const char *model)
{
    char bucket[112], name[112];
    double last_bound = -1, last_count = 0;
    bool ended = false;
    snprintf(bucket, sizeof bucket, "%s_bucket", family);
    for (int i = 0; i < p->n_samples; i++) {
        const struct sample *s = &p->samples[i];
        if (strcmp(s->name, bucket) != 0 || strcmp(model_of(s), model) != 0) {
            continue;
        }
        assert_false(ended); /* +Inf is the last */
        ended = strcmp(label(s, "le"), "+Inf") == 0;
        double bound = ended ? INFINITY : strtod(label(s, "le"), NULL);
        assert_true(bound > last_bound);
        assert_true(s->value >= last_count);
        last_bound = bound;
        last_count = s->value;
    }
    assert_true(ended);
    snprintf(name, sizeof name, "%s_count", family);
    assert_true(value_of(p, name, model, NULL, NULL) == last_count);
    snprintf(name, sizeof name, "%s_sum", family);
    assert_true(value_of(p, name, model, NULL, NULL) >= 0);
}

static const struct engine_stats stats = {.steps = 10,
                                          .steps_decode = 7,
                                          .steps_mixed = 3,
                                          .rows_decode = 30,
                                          .rows_prefill = 70,
                                          .generated_tokens = 25,
                                          .queried_tokens = 80,
                                          .cached_tokens = 20,
                                          .preemptions = 2,
                                          .step_ns = 1500000000,
                                          .step_decode_ns = 500000000,
                                          .step_mixed_ns = 1000000000,
                                          .running = 3,
                                          .pages_total = 40,
                                          .pages_referenced = 10,
                                          .pages_cached = 4,
                                          .kv_size = 40 << 20,
                                          .weights_size = 77,
                                          .rows_per_step = {1, 2, 0, 3, [15] = 4},
                                          .seqs_per_step = {5, 5}};

static const struct engine_info info = {.page_tokens = 32, .backend = "cpu test", .fingerprint = "0123456789abcdef"};

static void set_model(struct page *p, int model, const struct engine_stats *s)
{
    struct metrics_model_now now = {
        .ready = true,
        .prefix_cache = true,
        .kv_type = "f16",
        .info = &info,
        .phases = {[GEN_QUEUED] = 4, [GEN_PREFILL] = 1, [GEN_DECODE] = 2, [GEN_CALLING] = 3}};
    metrics_engine_stats(p->metrics, model, s);
    metrics_set_model(p->metrics, model, &now);
}

/* A request that ended after a second: 10 prompt tokens, of which 4 were cached, 3 generated. */
static struct gen_outcome outcome(enum finish_reason reason)
{
    return (struct gen_outcome){
        .reason = reason,
        .usage = {.prompt_tokens = 10, .cached_tokens = 4, .completion_tokens = 3},
        .longest = 3,
        .timings =
            {.queue_us = 100000, .prefill_us = 500000, .decode_us = 400000, .ttft_us = 600000, .total_us = 1000000},
    };
}

static const struct gen_request request = {.n = 2, .max_tokens = 30};

/* ---- tests ---- */

static void without_a_model_it_is_well_formed(void **state)
{
    struct page *p = *state;
    parse(p);
    assert_true(p->n_families > 20);
    assert_string_equal(type_of(p, "process_open_fds"), "gauge");
    assert_true(value_of(p, "process_resident_memory_bytes", NULL, NULL, NULL) > 100000);
    assert_true(value_of(p, "process_cpu_seconds_total", NULL, NULL, NULL) > 0);
    assert_true(value_of(p, "process_start_time_seconds", NULL, NULL, NULL) > 1.6e9);
}

/* Counters end in _total, and nothing else does but a histogram of vLLM's. */
static void every_family_has_help_type_and_samples(void **state)
{
    struct page *p = *state;
    set_model(p, metrics_add_model(p->metrics, "m"), &stats);
    parse(p);
    for (int i = 0; i < p->n_families; i++) {
        const struct family *f = &p->families[i];
        bool total = str_ends(str_of(f->name), STR("_total")) && strcmp(f->name, "vllm:iteration_tokens_total") != 0;
        if (!f->has_samples || !f->type[0] || total != (strcmp(f->type, "counter") == 0)) {
            fail_msg("%s: type '%s', samples %d", f->name, f->type, f->has_samples);
        }
    }
}

static void keys_have_series_of_their_own(void **state)
{
    struct page *p = *state;
    struct api_keys *keys = api_keys_create();
    struct api_key_refusal why = {0};
    struct error err = {0};
    char list[] = "sk-0123456789abcdef,sk-123456789abcdef0";
    assert_true(api_keys_set_list(keys, list, &err));
    uint64_t id = api_keys_check(keys, STR("sk-123456789abcdef0"));
    assert_true(api_keys_begin(keys, id, 0, &why) && api_keys_take_tokens(keys, id, 7, 0, &why));
    api_keys_charge(keys, id, 0, 5, 0);
    set_model(p, metrics_add_model(p->metrics, "m"), &stats);
    metrics_set_keys(p->metrics, keys);
    parse(p);
    assert_float_equal(value_of(p, "tandem_key_requests_total", NULL, "key", "env-1"), 0, 0);
    assert_float_equal(value_of(p, "tandem_key_requests_total", NULL, "key", "env-2"), 1, 0);
    assert_non_null(strstr(p->text.data, "tandem_key_tokens_total{key=\"env-2\",kind=\"prompt\"} 7\n"));
    assert_non_null(strstr(p->text.data, "tandem_key_tokens_total{key=\"env-2\",kind=\"generated\"} 5\n"));
    metrics_set_keys(p->metrics, NULL);
    api_keys_free(keys);
}

#define METRICS_TEXT_MAX (4 << 20)

/* However many models come, the series have a bound: the last row is that of all who have none. */
static void many_models_share_a_row(void **state)
{
    struct page *p = *state;
    char name[32];
    int last = -1;
    for (int i = 0; i < 2 * METRICS_MAX_MODELS; i++) {
        snprintf(name, sizeof name, "model-%d", i);
        last = metrics_add_model(p->metrics, name);
        assert_int_equal(last, i < METRICS_MAX_MODELS ? i : METRICS_MAX_MODELS - 1);
    }
    assert_int_equal(metrics_add_model(p->metrics, "model-3"), 3); /* it has come back */
    struct pipeline_observer o = metrics_observer(p->metrics, last);
    o.started(o.arg, &request);
    o.started(o.arg, &request);
    metrics_engine_stats(p->metrics, last, &stats);
    struct buf text;
    struct error err = {0};
    buf_init(&text, METRICS_TEXT_MAX);
    metrics_write(p->metrics, &text);
    assert_true(buf_ok(&text, "metrics", &err)); /* api/info_routes.c has room for as much */
    assert_non_null(strstr(text.data, "tandem_requests_total{model=\"(others)\"} 2\n"));
    assert_non_null(strstr(text.data, "tandem_memory_bytes{model=\"(others)\",kind=\"weights\"} 0\n"));
    assert_null(strstr(text.data, "model-31"));
    buf_release(&text);
}

static void every_histogram_adds_up(void **state)
{
    struct page *p = *state;
    int a = metrics_add_model(p->metrics, "a"), b = metrics_add_model(p->metrics, "b"), n_histograms = 0;
    struct pipeline_observer o = metrics_observer(p->metrics, a);
    set_model(p, a, &stats);
    set_model(p, b, &(struct engine_stats){0});
    for (int64_t us = 1; us < 10000000000; us = us * 3 + 1) {
        struct gen_outcome end = outcome(FINISH_STOP);
        end.timings.total_us = end.timings.prefill_us = end.timings.decode_us = us;
        o.started(o.arg, &request);
        o.admitted(o.arg, &request, 10, 4, us);
        o.first_token(o.arg, &request, us);
        o.tokens(o.arg, &request, 2, us);
        o.finished(o.arg, &request, &end);
    }
    parse(p);
    for (int i = 0; i < p->n_families; i++) {
        if (strcmp(p->families[i].type, "histogram") == 0) {
            check_histogram(p, p->families[i].name, "a");
            check_histogram(p, p->families[i].name, "b");
            n_histograms++;
        }
    }
    assert_in_range(n_histograms, 20, 40);
}

static void values_fall_into_their_buckets(void **state)
{
    struct page *p = *state;
    int m = metrics_add_model(p->metrics, "m");
    struct pipeline_observer o = metrics_observer(p->metrics, m);
    static const char name[] = "tandem_time_to_first_token_seconds_bucket";
    o.first_token(o.arg, &request, 5000); /* exactly a bound: in its bucket */
    o.first_token(o.arg, &request, 5001);
    o.first_token(o.arg, &request, 3000000000); /* beyond all */
    o.tokens(o.arg, &request, 4, 40000);
    o.tokens(o.arg, &request, 4, -1); /* the first of a choice: nothing before them */
    parse(p);
    assert_true(value_of(p, name, "m", "le", "0.005") == 1);
    assert_true(value_of(p, name, "m", "le", "0.01") == 2);
    assert_true(value_of(p, name, "m", "le", "80") == 2);
    assert_true(value_of(p, name, "m", "le", "+Inf") == 3);
    assert_float_equal(value_of(p, "tandem_time_to_first_token_seconds_sum", "m", NULL, NULL), 3000.010001, 1e-6);
    assert_true(value_of(p, "tandem_inter_token_seconds_bucket", "m", "le", "0.005") == 0);
    assert_true(value_of(p, "tandem_inter_token_seconds_bucket", "m", "le", "0.01") == 4); /* 4 tokens, 10 ms each */
    assert_float_equal(value_of(p, "tandem_inter_token_seconds_sum", "m", NULL, NULL), 0.04, 1e-9);
    assert_true(value_of(p, "tandem_generated_tokens_total", "m", NULL, NULL) == 8);
}

static void statistics_of_the_engine_are_in_base_units(void **state)
{
    struct page *p = *state;
    set_model(p, metrics_add_model(p->metrics, "m"), &stats);
    parse(p);
    assert_true(value_of(p, "tandem_engine_steps_total", "m", "phase", "decode") == 7);
    assert_true(value_of(p, "tandem_engine_steps_total", "m", "phase", "prefill") == 0);
    assert_true(value_of(p, "tandem_engine_steps_total", "m", "phase", "mixed") == 3);
    assert_float_equal(value_of(p, "tandem_engine_step_seconds_total", "m", "phase", "decode"), 0.5, 1e-9);
    assert_float_equal(value_of(p, "tandem_engine_step_seconds_total", "m", "phase", "mixed"), 1, 1e-9);
    assert_true(value_of(p, "tandem_memory_bytes", "m", "kind", "kv_pool") == 40 << 20);
    assert_true(value_of(p, "tandem_memory_bytes", "m", "kind", "kv_referenced") == 10 << 20);
    assert_true(value_of(p, "tandem_memory_bytes", "m", "kind", "kv_cached") == 4 << 20);
    assert_true(value_of(p, "tandem_memory_bytes", "m", "kind", "weights") == 77);
    assert_true(value_of(p, "tandem_engine_pages", "m", NULL, NULL) == 40);
    assert_string_equal(type_of(p, "tandem_engine_pages"), "gauge");
    assert_true(value_of(p, "tandem_engine_running", "m", NULL, NULL) == 3);
    assert_string_equal(type_of(p, "tandem_engine_running"), "gauge");
    assert_string_equal(type_of(p, "tandem_engine_step_seconds_total"), "counter");
    assert_true(value_of(p, "tandem_rows_per_step_bucket", "m", "le", "1") == 1);
    assert_true(value_of(p, "tandem_rows_per_step_bucket", "m", "le", "2") == 3);
    assert_true(value_of(p, "tandem_rows_per_step_bucket", "m", "le", "8") == 6);
    assert_true(value_of(p, "tandem_rows_per_step_count", "m", NULL, NULL) == 10);
    assert_true(value_of(p, "tandem_rows_per_step_sum", "m", NULL, NULL) == 100);
    assert_true(value_of(p, "tandem_model_ready", "m", NULL, NULL) == 1);
    assert_true(value_of(p, "tandem_requests_in_progress", "m", NULL, NULL) == 10);
    assert_true(value_of(p, "tandem_requests", "m", "state", "queued") == 4);
    assert_true(value_of(p, "tandem_requests", "m", "state", "decode") == 2);
    assert_true(value_of(p, "tandem_requests", "m", "state", "calling") == 3);
}

static int samples_of(const struct page *p, const char *name)
{
    int n = 0;
    for (int i = 0; i < p->n_samples; i++) {
        n += strcmp(p->samples[i].name, name) == 0;
    }
    return n;
}

/* A field that is added to the table appears by itself, whatever its name. */
static void every_field_of_the_engine_has_a_series(void **state)
{
    struct page *p = *state;
    struct engine_stats s = {0};
    int m = metrics_add_model(p->metrics, "m"), n = 0;
#define X(name, help) s.name = (uint64_t)1000003 + (uint64_t)++n * 7919;
    ENGINE_STATS_TABLE(X)
#undef X
    set_model(p, m, &s);
    parse(p);
#define X(field, help)                                                                         \
    if (strcmp(#field, "steps") != 0 && strcmp(#field, "step_ns") != 0) { /* sums of phases */ \
        bool found = false;                                                                    \
        double scale = str_ends(STR(#field), STR("_ns")) ? 1e-9 : 1;                           \
        for (int i = 0; i < p->n_samples; i++) {                                               \
            double value = p->samples[i].value;                                                \
            found |= fabs(value - (double)s.field * scale) < 1e-12 * value;                    \
        }                                                                                      \
        if (!found) {                                                                          \
            fail_msg("%s is nowhere", #field);                                                 \
        }                                                                                      \
    }
    ENGINE_STATS_TABLE(X)
#undef X
    assert_int_equal(samples_of(p, "tandem_engine_steps_total"), 3);
}

static void large_counters_keep_their_digits(void **state)
{
    struct page *p = *state;
    struct engine_stats s = {.generated_tokens = 123456789012345, .rows_prefill = 9007199254740991};
    set_model(p, metrics_add_model(p->metrics, "m"), &s);
    parse(p);
    assert_true(value_of(p, "tandem_engine_generated_tokens_total", "m", NULL, NULL) == 123456789012345.0);
    assert_true(value_of(p, "tandem_engine_rows_prefill_total", "m", NULL, NULL) == 9007199254740991.0);
}

static void requests_are_counted_by_how_they_end(void **state)
{
    struct page *p = *state;
    int m = metrics_add_model(p->metrics, "m");
    struct pipeline_observer o = metrics_observer(p->metrics, m);
    static const enum finish_reason ends[] = {FINISH_STOP, FINISH_STOP, FINISH_CANCELLED, FINISH_ERROR};
    for (int i = 0; i < 4; i++) {
        struct gen_outcome end = outcome(ends[i]);
        o.started(o.arg, &request);
        o.admitted(o.arg, &request, 10, 4, i == 0 ? 100000 : -1);
        o.tokens(o.arg, &request, 3, -1);
        o.finished(o.arg, &request, &end);
    }
    struct gen_outcome unanswered = {.reason = FINISH_CANCELLED,
                                     .timings = {.prefill_us = -1, .decode_us = -1, .ttft_us = -1, .total_us = 5}};
    o.started(o.arg, &request);
    o.finished(o.arg, &request, &unanswered); /* left while it was queued */
    parse(p);
    static const char name[] = "tandem_requests_finished_total", vllm[] = "vllm:request_success_total";
    assert_true(value_of(p, "tandem_requests_total", "m", NULL, NULL) == 5);
    assert_true(value_of(p, name, "m", "reason", "stop") == 2);
    assert_true(value_of(p, name, "m", "reason", "length") == 0);
    assert_true(value_of(p, name, "m", "reason", "cancelled") == 2);
    assert_true(value_of(p, name, "m", "reason", "error") == 1);
    assert_true(value_of(p, vllm, "m", "finished_reason", "stop") == 2);
    assert_true(value_of(p, vllm, "m", "finished_reason", "abort") == 2);
    assert_true(value_of(p, "tandem_prompt_tokens_total", "m", NULL, NULL) == 40);
    assert_true(value_of(p, "tandem_cached_prompt_tokens_total", "m", NULL, NULL) == 16);
    assert_true(value_of(p, "tandem_generated_tokens_total", "m", NULL, NULL) == 12);
    assert_true(value_of(p, "tandem_request_seconds_count", "m", NULL, NULL) == 5);
    assert_true(value_of(p, "tandem_queue_seconds_count", "m", NULL, NULL) == 1);
    assert_true(value_of(p, "tandem_prefill_seconds_count", "m", NULL, NULL) == 4);
    assert_float_equal(value_of(p, "tandem_prefill_seconds_sum", "m", NULL, NULL), 2, 1e-9);
    assert_float_equal(value_of(p, "tandem_decode_seconds_sum", "m", NULL, NULL), 1.6, 1e-9);
}

static void the_names_of_vllm(void **state)
{
    struct page *p = *state;
    int m = metrics_add_model(p->metrics, "m");
    struct pipeline_observer o = metrics_observer(p->metrics, m);
    struct gen_outcome end = outcome(FINISH_STOP);
    set_model(p, m, &stats);
    o.started(o.arg, &request);
    o.admitted(o.arg, &request, 10, 4, 100000);
    o.finished(o.arg, &request, &end);
    parse(p);
    assert_true(value_of(p, "vllm:num_requests_running", "m", "engine", "0") == 3);
    assert_true(value_of(p, "vllm:num_requests_waiting", "m", "engine", "0") == 4);
    assert_float_equal(value_of(p, "vllm:kv_cache_usage_perc", "m", NULL, NULL), 0.25, 1e-12);
    assert_true(value_of(p, "vllm:prefix_cache_queries_total", "m", NULL, NULL) == 80);
    assert_true(value_of(p, "vllm:prefix_cache_hits_total", "m", NULL, NULL) == 20);
    assert_true(value_of(p, "vllm:num_preemptions_total", "m", NULL, NULL) == 2);
    assert_true(value_of(p, "vllm:prompt_tokens_by_source_total", "m", "source", "local_compute") == 6);
    assert_true(value_of(p, "vllm:request_params_n_bucket", "m", "le", "1") == 0);
    assert_true(value_of(p, "vllm:request_params_n_bucket", "m", "le", "2") == 1);
    assert_true(value_of(p, "vllm:request_params_max_tokens_sum", "m", NULL, NULL) == 30);
    assert_true(value_of(p, "vllm:request_prefill_kv_computed_tokens_sum", "m", NULL, NULL) == 6);
    assert_float_equal(value_of(p, "vllm:request_time_per_output_token_seconds_sum", "m", NULL, NULL), 0.2, 1e-9);
    assert_float_equal(value_of(p, "vllm:request_inference_time_seconds_sum", "m", NULL, NULL), 0.9, 1e-9);
    assert_true(value_of(p, "vllm:cache_config_info", "m", "block_size", "32") == 1);
    assert_true(value_of(p, "vllm:cache_config_info", "m", "num_gpu_blocks", "40") == 1);
    assert_true(value_of(p, "tandem_model_info", "m", "backend", "cpu test") == 1);
}

/* Each process of an engine counts from zero; what is served to the outside does not. */
static void counters_grow_across_engines(void **state)
{
    struct page *p = *state;
    int m = metrics_add_model(p->metrics, "m");
    set_model(p, m, &stats);
    metrics_engine_lost(p->metrics, m, LOSS_SIGNAL);
    parse(p);
    assert_true(value_of(p, "tandem_engine_restarts_total", "m", NULL, NULL) == 1);
    assert_true(value_of(p, "tandem_engine_rows_prefill_total", "m", NULL, NULL) == 70);
    assert_true(value_of(p, "tandem_rows_per_step_count", "m", NULL, NULL) == 10);
    assert_true(value_of(p, "tandem_engine_running", "m", NULL, NULL) == 0);
    assert_true(value_of(p, "tandem_memory_bytes", "m", "kind", "weights") == 0);
    set_model(p, m, &(struct engine_stats){.rows_prefill = 5, .running = 1, .rows_per_step = {2}});
    metrics_engine_lost(p->metrics, m, LOSS_SIGNAL);
    set_model(p, m, &(struct engine_stats){.rows_prefill = 1, .running = 2});
    parse(p);
    assert_true(value_of(p, "tandem_engine_rows_prefill_total", "m", NULL, NULL) == 76);
    assert_true(value_of(p, "tandem_rows_per_step_bucket", "m", "le", "1") == 3);
    assert_true(value_of(p, "tandem_engine_running", "m", NULL, NULL) == 2);
    struct engine_stats totals;
    metrics_engine_totals(p->metrics, m, &totals);
    assert_int_equal(totals.rows_prefill, 76);
    assert_int_equal(totals.running, 2);
}

static void labels_are_escaped(void **state)
{
    struct page *p = *state;
    static const char name[] = "a\"b\\c\nd,e}f \xC3\xBC";
    set_model(p, metrics_add_model(p->metrics, name), &stats);
    parse(p); /* a break in the line or a quote would show here */
    assert_true(value_of(p, "tandem_requests_in_progress", name, NULL, NULL) == 10);
    assert_true(str_find(buf_view(&p->text), STR("{model=\"a\\\"b\\\\c\\nd,e}f \xC3\xBC\"}")) != STR_NPOS);
}

static void models_have_their_own_series(void **state)
{
    struct page *p = *state;
    int a = metrics_add_model(p->metrics, "a"), b = metrics_add_model(p->metrics, "b");
    struct pipeline_observer of_a = metrics_observer(p->metrics, a), of_b = metrics_observer(p->metrics, b);
    assert_int_not_equal(a, b);
    of_a.started(of_a.arg, &request);
    of_b.started(of_b.arg, &request);
    of_b.started(of_b.arg, &request);
    parse(p);
    assert_true(value_of(p, "tandem_requests_total", "a", NULL, NULL) == 1);
    assert_true(value_of(p, "tandem_requests_total", "b", NULL, NULL) == 2);
}

static void the_http_server_is_counted(void **state)
{
    struct page *p = *state;
    struct metrics_http_now now = {.connections_open = 1,
                                   .connections = 2,
                                   .requests = 3,
                                   .bytes_in = 4,
                                   .bytes_out = 5000000000,
                                   .parse_errors = 6,
                                   .timeouts = 7,
                                   .refused = 8,
                                   .tls_failures = 9,
                                   .tls_expires_s = 1800000000};
    metrics_set_http(p->metrics, &now);
    parse(p);
    assert_true(value_of(p, "tandem_http_connections_open", NULL, NULL, NULL) == 1);
    assert_true(value_of(p, "tandem_http_connections_total", NULL, NULL, NULL) == 2);
    assert_true(value_of(p, "tandem_http_requests_total", NULL, NULL, NULL) == 3);
    assert_true(value_of(p, "tandem_http_received_bytes_total", NULL, NULL, NULL) == 4);
    assert_true(value_of(p, "tandem_http_sent_bytes_total", NULL, NULL, NULL) == 5e9);
    assert_true(value_of(p, "tandem_http_parse_errors_total", NULL, NULL, NULL) == 6);
    assert_true(value_of(p, "tandem_http_timeouts_total", NULL, NULL, NULL) == 7);
    assert_true(value_of(p, "tandem_http_refused_connections_total", NULL, NULL, NULL) == 8);
    assert_true(value_of(p, "tandem_tls_handshake_failures_total", NULL, NULL, NULL) == 9);
    assert_true(value_of(p, "tandem_tls_certificate_expires_seconds", NULL, NULL, NULL) == 1.8e9);
}

static void latencies_have_percentiles(void **state)
{
    struct page *p = *state;
    int m = metrics_add_model(p->metrics, "m");
    struct pipeline_observer o = metrics_observer(p->metrics, m);
    assert_int_equal(metrics_latency_all(p->metrics, m, METRICS_LATENCY_TTFT).p50, -1);
    for (int i = 0; i < 100; i++) {
        o.first_token(o.arg, &request, 15000);
        o.tokens(o.arg, &request, 2, 8000);
    }
    struct quantiles ttft = metrics_latency_all(p->metrics, m, METRICS_LATENCY_TTFT);
    struct quantiles inter_token = metrics_latency_recent(p->metrics, m, METRICS_LATENCY_INTER_TOKEN, clock_ms());
    assert_in_range(ttft.p50, 14000, 16000);
    assert_in_range(ttft.p99, 14000, 16000);
    assert_int_equal(ttft.n, 100);
    assert_in_range(inter_token.p95, 3700, 4300);
    assert_int_equal(inter_token.n, 200);
    assert_int_equal(metrics_latency_all(p->metrics, m, METRICS_LATENCY_E2E).n, 0);
    assert_string_equal(metrics_latency_name(METRICS_LATENCY_QUEUE), "queue");
}

static void the_document_names_what_is_served(void **state)
{
    struct page *p = *state;
    struct buf text;
    buf_init(&text, 1 << 20);
    set_model(p, metrics_add_model(p->metrics, "m"), &stats);
    parse(p);
    metrics_write_docs(&text);
    for (int i = 0; i < p->n_families; i++) {
        char row[128];
        snprintf(row, sizeof row, "| `%s` | %s |", p->families[i].name, p->families[i].type);
        if (str_find(buf_view(&text), str_of(row)) == STR_NPOS) {
            fail_msg("the document lacks %s", row);
        }
    }
    buf_release(&text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_a_model_it_is_well_formed),
        TEST(every_family_has_help_type_and_samples),
        TEST(keys_have_series_of_their_own),
        TEST(many_models_share_a_row),
        TEST(every_histogram_adds_up),
        TEST(values_fall_into_their_buckets),
        TEST(statistics_of_the_engine_are_in_base_units),
        TEST(every_field_of_the_engine_has_a_series),
        TEST(large_counters_keep_their_digits),
        TEST(requests_are_counted_by_how_they_end),
        TEST(the_names_of_vllm),
        TEST(counters_grow_across_engines),
        TEST(labels_are_escaped),
        TEST(models_have_their_own_series),
        TEST(the_http_server_is_counted),
        TEST(latencies_have_percentiles),
        TEST(the_document_names_what_is_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
