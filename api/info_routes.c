/* Routes that answer at once from what the loop knows: none asks an engine anything. */
#include "api/api_internal.h"

#include "base/clock.h"
#include "base/sys_memory.h"

#include <stdio.h>

#define INFO_MAX MIB(4)

/* ---- health ---- */

void api__health(struct app *a, struct http_exchange *x, struct str rest)
{
    (void)a;
    (void)rest;
    http_reply(x, 200, "application/json", STR("{\"status\":\"ok\"}"));
}

void api__ready(struct app *a, struct http_exchange *x, struct str rest)
{
    struct error why = {0};
    (void)rest;
    if (gateway_ready(a->gateway, &why)) {
        http_reply(x, 200, "application/json", STR("{\"status\":\"ready\"}"));
    } else {
        api__reply_error(x, &why);
    }
}

/* ---- models ---- */

static void put_model(struct json_writer *w, struct served_model *m, const char *id)
{
    json_begin_object(w);
    json_key(w, "id");
    json_put_cstr(w, id);
    json_key(w, "object");
    json_put_cstr(w, "model");
    json_key(w, "created");
    json_put_int(w, served_model_created_s(m));
    json_key(w, "owned_by");
    json_put_cstr(w, "tandem");
    json_key(w, "max_model_len"); /* vLLM's name for the context */
    json_put_uint(w, pipeline_n_context(served_model_pipeline(m)));
    json_key(w, "state");
    json_put_cstr(w, model_state_name(served_model_state(m)));
    json_end_object(w);
}

void api__models(struct app *a, struct http_exchange *x, struct str rest)
{
    struct buf out;
    (void)rest;
    buf_init(&out, INFO_MAX);
    struct json_writer w = json_writer(&out);
    json_begin_object(&w);
    json_key(&w, "object");
    json_put_cstr(&w, "list");
    json_key(&w, "data");
    json_begin_array(&w);
    for (size_t i = 0; i < gateway_n_models(a->gateway); i++) {
        struct served_model *m = gateway_model_at(a->gateway, i);
        for (size_t k = 0; k < served_model_n_names(m); k++) {
            const char *name = served_model_name_at(m, k);
            if (!strpbrk(name, "*?")) {
                put_model(&w, m, name);
            }
        }
    }
    json_end_array(&w);
    json_end_object(&w);
    api__reply_json(x, &out);
}

void api__model(struct app *a, struct http_exchange *x, struct str rest)
{
    struct served_model *m = gateway_model_find(a->gateway, rest);
    struct error err = {0};
    if (!m) {
        error_set_param(&err, ERR_MODEL_NOT_FOUND, "model",
                        "The model '" STR_FMT "' does not exist; GET /v1/models lists those served.",
                        STR_ARG(str_slice(rest, 0, 100)));
        api__reply_error(x, &err);
        return;
    }
    char id[256];
    struct buf out;
    snprintf(id, sizeof id, STR_FMT, STR_ARG(rest));
    buf_init(&out, INFO_MAX);
    struct json_writer w = json_writer(&out);
    put_model(&w, m, id);
    api__reply_json(x, &out);
}

/* ---- status ---- */

static const char *phase_name(enum gen_phase phase)
{
    static const char *const names[] = {"queued", "prefill", "decode", "ended"};
    return names[phase];
}

static void put_field_uint(struct json_writer *w, const char *key, uint64_t value)
{
    json_key(w, key);
    json_put_uint(w, value);
}

static bool put_request(void *arg, struct generation *g)
{
    struct json_writer *w = arg;
    struct gen_status s;
    generation_status(g, clock_ms(), &s);
    json_begin_object(w);
    json_key(w, "id");
    json_put_cstr(w, s.id);
    json_key(w, "phase");
    json_put_cstr(w, phase_name(s.phase));
    put_field_uint(w, "prompt_tokens", s.n_prompt);
    put_field_uint(w, "cached_tokens", s.n_cached);
    put_field_uint(w, "prefilled_tokens", s.n_prefilled);
    put_field_uint(w, "generated_tokens", s.n_generated);
    json_key(w, "age_ms");
    json_put_int(w, s.age_ms);
    json_key(w, "ttft_ms");
    if (s.ttft_ms >= 0) {
        json_put_int(w, s.ttft_ms);
    } else {
        json_put_null(w);
    }
    json_end_object(w);
    return true;
}

static void put_engine(struct json_writer *w, struct served_model *m)
{
    const struct engine_info *info = served_model_info(m);
    const struct engine_stats *s = served_model_stats(m);
    json_key(w, "engine");
    json_begin_object(w);
    json_key(w, "pid");
    json_put_int(w, served_model_pid(m));
    json_key(w, "restarts");
    json_put_int(w, served_model_restarts(m));
    if (info) {
        json_key(w, "backend");
        json_put_cstr(w, info->backend);
        json_key(w, "fingerprint");
        json_put_cstr(w, info->fingerprint);
        put_field_uint(w, "context", info->n_context);
        put_field_uint(w, "max_sequences", info->max_sequences);
        put_field_uint(w, "max_batch_tokens", info->max_batch_tokens);
        put_field_uint(w, "page_tokens", info->page_tokens);
        put_field_uint(w, "parameters", info->n_params);
        put_field_uint(w, "load_ms", info->load_ms);
    }
    json_key(w, "stats");
    json_begin_object(w);
#define X(name, help) put_field_uint(w, #name, s->name);
    ENGINE_STATS_TABLE(X)
#undef X
    json_end_object(w);
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
    put_field_uint(w, "prompts", s.n);
    put_field_uint(w, "cached", s.n_done);
    put_field_uint(w, "left_out", s.n_left_out);
    put_field_uint(w, "tokens", s.n_tokens);
    put_field_uint(w, "computed_tokens", s.n_computed);
    put_field_uint(w, "rounds", s.n_rounds);
    json_key(w, "running");
    json_put_bool(w, s.running);
    json_end_object(w);
}

static void put_latency(struct json_writer *w, const char *key, struct metrics_latency l)
{
    json_key(w, key);
    json_begin_object(w);
    const char *const names[] = {"p50_ms", "p95_ms", "p99_ms"};
    const int64_t values[] = {l.p50, l.p95, l.p99};
    for (int i = 0; i < 3; i++) {
        json_key(w, names[i]);
        if (values[i] < 0) {
            json_put_null(w);
        } else {
            json_put_double(w, (double)values[i] / 1000);
        }
    }
    json_end_object(w);
}

static void put_served_model(struct app *a, struct json_writer *w, struct served_model *m)
{
    json_begin_object(w);
    json_key(w, "model");
    json_put_cstr(w, served_model_name(m));
    json_key(w, "architecture");
    json_put_cstr(w, served_model_config(m)->arch);
    json_key(w, "state");
    json_put_cstr(w, model_state_name(served_model_state(m)));
    json_key(w, "load_fraction");
    json_put_double(w, (double)served_model_load_fraction(m));
    json_key(w, "failure");
    json_put_cstr(w, served_model_failure(m)->msg[0] ? served_model_failure(m)->msg : NULL);
    put_engine(w, m);
    put_warm(w, served_model_warmer(m));
    put_latency(w, "ttft", metrics_ttft(gateway_metrics(a->gateway), served_model_metrics(m)));
    put_latency(w, "inter_token", metrics_inter_token(gateway_metrics(a->gateway), served_model_metrics(m)));
    json_key(w, "requests");
    json_begin_array(w);
    pipeline_each(served_model_pipeline(m), put_request, w);
    json_end_array(w);
    json_end_object(w);
}

void api__status(struct app *a, struct http_exchange *x, struct str rest)
{
    struct buf out;
    struct error why = {0};
    struct sys_memory memory = sys_memory();
    (void)rest;
    buf_init(&out, INFO_MAX);
    struct json_writer w = json_writer(&out);
    json_begin_object(&w);
    json_key(&w, "version");
    json_put_cstr(&w, a->options.version);
    json_key(&w, "ready");
    json_put_bool(&w, gateway_ready(a->gateway, &why));
    json_key(&w, "uptime_ms");
    json_put_int(&w, gateway_uptime_ms(a->gateway));
    json_key(&w, "connections");
    json_put_int(&w, http_server_connections(a->server));
    json_key(&w, "memory");
    json_begin_object(&w);
    put_field_uint(&w, "system_total", memory.total);
    put_field_uint(&w, "system_available", memory.available);
    put_field_uint(&w, "gateway_resident", sys_memory_resident());
    json_end_object(&w);
    json_key(&w, "gateway_descriptors");
    json_put_int(&w, sys_open_descriptors());
    json_key(&w, "models");
    json_begin_array(&w);
    for (size_t i = 0; i < gateway_n_models(a->gateway); i++) {
        put_served_model(a, &w, gateway_model_at(a->gateway, i));
    }
    json_end_array(&w);
    json_end_object(&w);
    api__reply_json(x, &out);
}

/* ---- metrics ---- */

void api__metrics(struct app *a, struct http_exchange *x, struct str rest)
{
    struct metrics *metrics = gateway_metrics(a->gateway);
    struct http_server_stats http = http_server_stats(a->server);
    struct buf out;
    (void)rest;
    for (size_t i = 0; i < gateway_n_models(a->gateway); i++) {
        struct served_model *m = gateway_model_at(a->gateway, i);
        struct metrics_model_now now = {.ready = served_model_state(m) == MODEL_READY,
                                        .requests = pipeline_n_running(served_model_pipeline(m)),
                                        .stats = served_model_stats(m)};
        metrics_set_model(metrics, served_model_metrics(m), &now);
    }
    struct metrics_http_now http_now = {.connections_open = (uint64_t)http_server_connections(a->server),
                                        .connections = http.connections,
                                        .requests = http.requests,
                                        .bytes_in = http.bytes_in,
                                        .bytes_out = http.bytes_out,
                                        .parse_errors = http.parse_errors,
                                        .timeouts = http.timeouts};
    memcpy(http_now.replies, http.replies, sizeof http_now.replies);
    metrics_set_http(metrics, &http_now);
    buf_init(&out, INFO_MAX);
    metrics_write(metrics, &out);
    http_reply(x, 200, "text/plain; version=0.0.4; charset=utf-8", buf_view(&out));
    buf_release(&out);
}

/* ---- cancel, cache ---- */

void api__cancel(struct app *a, struct http_exchange *x, struct str rest)
{
    struct error err = {0};
    for (size_t i = 0; i < gateway_n_models(a->gateway); i++) {
        struct generation *g = pipeline_find(served_model_pipeline(gateway_model_at(a->gateway, i)), rest);
        if (g) {
            struct buf out;
            buf_init(&out, KIB(1));
            struct json_writer w = json_writer(&out);
            json_begin_object(&w);
            json_key(&w, "id");
            json_put_str(&w, rest);
            json_key(&w, "cancelled");
            json_put_bool(&w, true);
            json_end_object(&w);
            generation_cancel(g);
            api__reply_json(x, &out);
            return;
        }
    }
    error_set(&err, ERR_NOT_FOUND, "No running request has the id '" STR_FMT "'.", STR_ARG(str_slice(rest, 0, 100)));
    api__reply_error(x, &err);
}

void api__clear_cache(struct app *a, struct http_exchange *x, struct str rest)
{
    (void)rest;
    for (size_t i = 0; i < gateway_n_models(a->gateway); i++) {
        served_model_clear_cache(gateway_model_at(a->gateway, i));
    }
    http_reply(x, 200, "application/json", STR("{\"cleared\":true}"));
}
