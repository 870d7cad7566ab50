/* GET /v1/status: what the gateway knows at this moment of its models and of every request that runs.
 * docs/OBSERVABILITY.md explains the fields. */
#include "api/batch/batch.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/sys_memory.h"
#include "gateway/memory_need.h"

#define STATUS_MAX MIB(16)

/* ---- requests ---- */

static void put_times(struct json_writer *w, const struct gen_status *s)
{
    api__put_ms(w, "age_ms", s->timings.total_us);
    api__put_ms(w, "prepare_ms", s->timings.prepare_us);
    api__put_ms(w, "queue_ms", s->timings.queue_us);
    api__put_ms(w, "prefill_ms", s->timings.prefill_us);
    api__put_ms(w, "decode_ms", s->timings.decode_us);
    api__put_ms(w, "ttft_ms", s->timings.ttft_us);
    api__put_ms(w, "deadline_ms", s->left_ms < 0 ? -1 : s->left_ms * 1000);
}

static void put_progress(struct json_writer *w, const struct gen_status *s)
{
    json_member_uint(w, "prompt_tokens", s->usage.prompt_tokens);
    json_member_uint(w, "cached_tokens", s->usage.cached_tokens);
    json_member_uint(w, "prefilled_tokens", s->n_prefilled);
    json_member_double(w, "prefilled", (double)s->n_prefilled / (double)s->usage.prompt_tokens);
    json_member_double(w, "prompt_tokens_per_second", s->prompt_rate);
    json_member_uint(w, "generated_tokens", s->usage.completion_tokens);
    json_member_uint(w, "generated_tokens_limit", s->max_tokens);
    json_member_double(w, "generated_tokens_per_second", s->token_rate);
    json_member_uint(w, "preemptions", s->n_preemptions);
}

static bool put_request(void *arg, struct generation *g)
{
    struct json_writer *w = arg;
    const struct gen_request *r = generation_request(g);
    struct gen_status s;
    generation_status(g, clock_us(), &s);
    json_begin_object(w);
    json_member_cstr(w, "id", r->id);
    json_member_cstr(w, "request_id", r->request_id[0] ? r->request_id : NULL);
    json_member_str(w, "model", r->model);
    json_member_cstr(w, "phase", gen_phase_name(s.phase));
    json_member_bool(w, "stream", r->stream);
    json_member_uint(w, "prompts", r->n_jobs);
    json_member_uint(w, "n", r->n);
    json_member_uint(w, "max_tokens", r->jobs[0].max_tokens);
    json_member_int(w, "priority", r->priority);
    put_progress(w, &s);
    put_times(w, &s);
    json_end_object(w);
    return true;
}

/* ---- a model ---- */

static void put_engine(struct json_writer *w, struct served_model *m)
{
    const struct engine_info *info = served_model_info(m);
    const struct engine_stats *s = served_model_stats(m);
    json_key(w, "engine");
    json_begin_object(w);
    json_member_int(w, "pid", served_model_pid(m));
    json_member_int(w, "restarts", served_model_restarts(m));
    if (info) {
        json_member_cstr(w, "backend", info->backend);
        json_member_cstr(w, "fingerprint", info->fingerprint);
        json_member_cstr(w, "sandbox", info->sandbox);
        json_member_uint(w, "context", info->n_context);
        json_member_uint(w, "max_sequences", info->max_sequences);
        json_member_uint(w, "max_batch_tokens", info->max_batch_tokens);
        json_member_uint(w, "page_tokens", info->page_tokens);
        json_member_uint(w, "parameters", info->n_params);
        json_member_uint(w, "load_ms", info->load_ms);
    }
    api__put_ms(w, "stats_age_ms", served_model_stats_age_ms(m) * 1000);
    json_key(w, "stats");
    json_begin_object(w);
#define X(name, help) json_member_uint(w, #name, s->name);
    ENGINE_STATS_TABLE(X)
#undef X
    json_end_object(w);
    json_end_object(w);
}

static void put_precision(struct json_writer *w, const struct served_model_options *o)
{
    json_key(w, "precision");
    json_begin_object(w);
    json_member_int(w, "bits", o->precision_bits);
    json_member_cstr(w, "why", o->precision_why);
    json_end_object(w);
}

static void put_queue(struct json_writer *w, struct served_model *m)
{
    struct admission_status s = admission_status(served_model_admission(m));
    const uint64_t *late = served_model_late(m);
    json_key(w, "queue");
    json_begin_object(w);
    json_member_uint(w, "waiting", s.view.n_waiting);
    json_member_uint(w, "limit", s.max_waiting);
    json_member_uint(w, "free", s.view.n_free);
    json_member_double(w, "tokens_per_second", s.view.rate);
    api__put_ms(w, "predicted_wait_ms", s.wait_ms * 1000);
    json_member_uint(w, "refused_full", s.n_refused_full);
    json_member_uint(w, "refused_wait", s.n_refused_late);
    json_key(w, "late");
    json_begin_object(w);
    for (int i = 0; i < GEN_LIMIT_COUNT; i++) {
        json_member_uint(w, gen_limit_name((enum gen_limit)i), late[i]);
    }
    json_end_object(w);
    json_end_object(w);
}

static void put_memory(struct json_writer *w, const struct engine_stats *s, size_t pool_limit)
{
    uint64_t in_use = s->pages_referenced + s->pages_cached;
    json_key(w, "memory");
    json_begin_object(w);
    json_member_uint(w, "weights", s->weights_size);
    json_member_uint(w, "kv_pool", s->kv_size);
    json_member_uint(w, "kv_limit", pool_limit);
    json_member_uint(w, "kv_usable", s->kv_usable_size);
    json_member_uint(w, "kv_referenced", metrics_page_bytes(s, s->pages_referenced));
    json_member_uint(w, "kv_cached", metrics_page_bytes(s, s->pages_cached));
    json_member_uint(w, "scratch", s->scratch_size);
    json_member_uint(w, "engine_resident", s->resident_size);
    json_end_object(w);
    json_key(w, "pages");
    json_begin_object(w);
    json_member_uint(w, "total", s->pages_total);
    json_member_uint(w, "referenced", s->pages_referenced);
    json_member_uint(w, "cached", s->pages_cached);
    json_member_uint(w, "free", s->pages_total > in_use ? s->pages_total - in_use : 0);
    json_member_uint(w, "evicted", s->pages_evicted);
    json_end_object(w);
}

static void put_prefix_cache(struct json_writer *w, const struct engine_stats *s)
{
    json_key(w, "prefix_cache");
    json_begin_object(w);
    json_member_uint(w, "queried_tokens", s->queried_tokens);
    json_member_uint(w, "saved_tokens", s->cached_tokens);
    json_key(w, "hit_rate");
    if (s->queried_tokens) {
        json_put_double(w, (double)s->cached_tokens / (double)s->queried_tokens);
    } else {
        json_put_null(w);
    }
    json_end_object(w);
}

static void put_steps(struct json_writer *w, const struct engine_stats *s)
{
    const struct {
        const char *phase;
        uint64_t n, ns;
    } phases[] = {{"decode", s->steps_decode, s->step_decode_ns},
                  {"prefill", s->steps_prefill, s->step_prefill_ns},
                  {"mixed", s->steps_mixed, s->step_mixed_ns}};
    json_key(w, "steps");
    json_begin_object(w);
    for (size_t i = 0; i < ARRAY_LEN(phases); i++) {
        json_key(w, phases[i].phase);
        json_begin_object(w);
        json_member_uint(w, "count", phases[i].n);
        api__put_ms(w, "total_ms", (int64_t)(phases[i].ns / 1000));
        api__put_ms(w, "mean_ms", phases[i].n ? (int64_t)(phases[i].ns / phases[i].n / 1000) : -1);
        json_end_object(w);
    }
    json_end_object(w);
}

static void put_warm(struct json_writer *w, const struct warmer *warmer)
{
    json_key(w, "warm_prompts");
    if (!warmer) {
        json_put_null(w);
        return;
    }
    struct warmer_status s = warmer_status(warmer);
    json_begin_object(w);
    json_member_uint(w, "prompts", s.n);
    json_member_uint(w, "cached", s.n_done);
    json_member_uint(w, "left_out", s.n_left_out);
    json_member_uint(w, "tokens", s.n_tokens);
    json_member_uint(w, "computed_tokens", s.n_computed);
    json_member_uint(w, "rounds", s.n_rounds);
    json_member_bool(w, "running", s.running);
    json_end_object(w);
}

static void put_quantiles(struct json_writer *w, const char *key, struct quantiles q)
{
    json_key(w, key);
    json_begin_object(w);
    api__put_ms(w, "p50_ms", q.p50);
    api__put_ms(w, "p95_ms", q.p95);
    api__put_ms(w, "p99_ms", q.p99);
    json_member_uint(w, "count", q.n);
    json_end_object(w);
}

static void put_latencies(struct json_writer *w, const struct metrics *metrics, int model)
{
    json_key(w, "latency");
    json_begin_object(w);
    for (int i = 0; i < METRICS_LATENCY_COUNT; i++) {
        enum metrics_latency which = (enum metrics_latency)i;
        json_key(w, metrics_latency_name(which));
        json_begin_object(w);
        put_quantiles(w, "since_start", metrics_latency_all(metrics, model, which));
        put_quantiles(w, "last_minute", metrics_latency_recent(metrics, model, which, clock_ms()));
        json_end_object(w);
    }
    json_end_object(w);
}

static void put_need(struct json_writer *w, const struct memory_need *n)
{
    json_key(w, "need");
    json_begin_object(w);
    json_member_uint(w, "weights", n->weights);
    json_member_uint(w, "kv", n->kv);
    json_member_uint(w, "adapters", n->adapters);
    json_member_uint(w, "scratch", n->scratch);
    json_member_uint(w, "process", n->process);
    json_member_uint(w, "total", n->total);
    json_end_object(w);
}

static void put_open_model(struct app *a, struct json_writer *w, struct served_model *m)
{
    const struct metrics *metrics = gateway_metrics(a->gateway);
    struct engine_stats totals;
    metrics_engine_totals(metrics, served_model_metrics(m), &totals);
    put_need(w, served_model_need(m));
    put_precision(w, served_model_options(m));
    put_engine(w, m);
    api__put_adapters(w, m);
    put_queue(w, m);
    put_memory(w, &totals, served_model_pool_limit(m));
    put_prefix_cache(w, &totals);
    put_warm(w, served_model_warmer(m));
    put_steps(w, &totals);
    put_latencies(w, metrics, served_model_metrics(m));
    json_key(w, "requests");
    json_begin_array(w);
    pipeline_each(served_model_pipeline(m), put_request, w);
    json_end_array(w);
}

/* null: it is not brought now. */
static void put_download(struct json_writer *w, const struct served_model *m)
{
    uint64_t done, total;
    json_key(w, "download");
    if (!served_model_is_brought(m, &done, &total)) {
        json_put_null(w);
        return;
    }
    json_begin_object(w);
    json_member_uint(w, "bytes", done);
    json_member_uint(w, "total", total);
    json_end_object(w);
}

static void put_served_model(struct app *a, struct json_writer *w, struct served_model *m)
{
    bool open = served_model_is_open(m);
    json_begin_object(w);
    json_member_cstr(w, "model", served_model_name(m));
    json_member_cstr(w, "architecture", open ? served_model_config(m)->arch : NULL);
    api__put_residence(w, m);
    api__put_formats(w, m);
    json_member_double(w, "load_fraction", (double)served_model_load_fraction(m));
    put_download(w, m);
    json_member_cstr(w, "failure", served_model_failure(m)->msg[0] ? served_model_failure(m)->msg : NULL);
    if (open) {
        put_open_model(a, w, m);
    }
    json_end_object(w);
}

/* ---- all ---- */

/* What --memory allows, and what is planned of it. */
static void put_plan(struct json_writer *w, const struct gateway *g)
{
    struct memory_plan plan = gateway_memory_plan(g);
    json_key(w, "models_budget");
    if (plan.budget) {
        json_put_uint(w, plan.budget);
    } else {
        json_put_null(w);
    }
    json_member_uint(w, "models_used", plan.used);
    json_member_uint(w, "models_pinned", plan.pinned);
    json_member_uint(w, "models_waiting", plan.n_waiting);
    json_member_uint(w, "loads", plan.n_loads);
    json_member_uint(w, "loads_failed", plan.n_failed_loads);
    json_member_uint(w, "evictions", plan.n_evictions);
    json_member_uint(w, "idle_unloads", plan.n_idle_unloads);
}

void api__status(struct app *a, struct http_exchange *x, struct str rest)
{
    struct buf out;
    struct error why = {0};
    struct sys_memory memory = sys_memory();
    (void)rest;
    buf_init(&out, STATUS_MAX);
    struct json_writer w = json_writer(&out);
    json_begin_object(&w);
    json_member_cstr(&w, "version", a->options.version);
    json_member_bool(&w, "ready", gateway_ready(a->gateway, &why));
    json_member_int(&w, "uptime_ms", gateway_uptime_ms(a->gateway));
    json_member_int(&w, "connections", http_server_connections(a->server));
    json_key(&w, "preparing"); /* requests whose text a worker reads, or that wait for one */
    json_put_int(&w, loop_work_queued(a->loop));
    json_key(&w, "memory");
    json_begin_object(&w);
    json_member_uint(&w, "system_total", memory.total);
    json_member_uint(&w, "system_available", memory.available);
    json_member_cstr(&w, "pressure", pressure_level_name(gateway_pressure(a->gateway)));
    json_member_uint(&w, "gateway_resident", sys_memory_resident());
    put_plan(&w, a->gateway);
    json_end_object(&w);
    api__put_ms(&w, "gateway_cpu_ms", clock_cpu_ns() / 1000);
    json_member_int(&w, "gateway_descriptors", sys_open_descriptors());
    api__put_batches(&w, a);
    json_key(&w, "models");
    json_begin_array(&w);
    for (size_t i = 0; i < gateway_n_present(a->gateway); i++) {
        put_served_model(a, &w, gateway_present_at(a->gateway, i));
    }
    json_end_array(&w);
    json_end_object(&w);
    api__reply_json(x, &out);
}
