/* Routes that answer at once from what the loop knows: none asks an engine anything. */
#include "api/anthropic/anthropic.h"
#include "api/batch/batch.h"
#include "pipeline/adapter_set.h"

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

void api__put_formats(struct json_writer *w, struct served_model *m)
{
    bool open = served_model_is_open(m);
    const struct output_formats *f = open ? &pipeline_options(served_model_pipeline(m))->formats : NULL;
    json_member_cstr(w, "tool_format", open ? output_formats_tools(f) : NULL);
    json_member_cstr(w, "reasoning_format", open ? output_formats_reasoning(f) : NULL);
}

/* vLLM's fields of a model that is an adapter of another. */
static void put_adapter(struct json_writer *w, struct served_model *m, const struct served_adapter *adapter)
{
    json_member_cstr(w, "root", adapter ? adapter->path : served_model_name(m));
    json_member_cstr(w, "parent", adapter ? served_model_name(m) : NULL);
}

/* adapter NULL: the model itself. */
static void put_model(struct json_writer *w, struct served_model *m, const char *id,
                      const struct served_adapter *adapter)
{
    json_begin_object(w);
    json_member_cstr(w, "id", id);
    json_member_cstr(w, "object", "model");
    json_member_int(w, "created", adapter ? adapter->added_s : served_model_created_s(m));
    json_member_cstr(w, "owned_by", "tandem");
    put_adapter(w, m, adapter);
    json_key(w, "max_model_len"); /* vLLM's name for the context */
    if (served_model_is_open(m)) {
        json_put_uint(w, pipeline_n_context(served_model_pipeline(m)));
    } else {
        json_put_null(w); /* nobody has asked for it yet, so its file was not read */
    }
    json_member_cstr(w, "state", model_state_name(served_model_state(m)));
    api__put_formats(w, m);
    json_end_object(w);
}

void api__models(struct app *a, struct http_exchange *x, struct str rest)
{
    struct buf out;
    (void)rest;
    if (api__speaks_anthropic(http_request_of(x))) {
        api__anthropic_models(a, x);
        return;
    }
    buf_init(&out, INFO_MAX);
    struct json_writer w = json_writer(&out);
    json_begin_object(&w);
    json_member_cstr(&w, "object", "list");
    json_key(&w, "data");
    json_begin_array(&w);
    for (size_t i = 0; i < gateway_n_models(a->gateway); i++) {
        struct served_model *m = gateway_model_at(a->gateway, i);
        struct listed_name name;
        for (size_t k = 0; api__name_at(m, k, &name); k++) {
            put_model(&w, m, name.text, name.adapter);
        }
    }
    json_end_array(&w);
    json_end_object(&w);
    api__reply_json(x, &out);
}

void api__model(struct app *a, struct http_exchange *x, struct str rest)
{
    struct str adapter;
    struct served_model *m = gateway_model_find(a->gateway, rest, &adapter);
    struct error err = {0};
    if (!m) {
        (void)gateway_model_missing(a->gateway, rest, &err);
        api__reply_error(x, &err);
        return;
    }
    if (api__speaks_anthropic(http_request_of(x))) {
        api__anthropic_model(x, m, rest);
        return;
    }
    char id[256];
    struct buf out;
    snprintf(id, sizeof id, STR_FMT, STR_ARG(rest));
    buf_init(&out, INFO_MAX);
    struct json_writer w = json_writer(&out);
    put_model(&w, m, id, adapter.len ? served_model_adapter(m, adapter) : NULL);
    api__reply_json(x, &out);
}

/* ---- metrics ---- */

static bool count_phase(void *arg, struct generation *g)
{
    uint64_t *phases = arg;
    phases[generation_phase(g)]++;
    return true;
}

static void set_model(struct metrics *metrics, struct served_model *m)
{
    const struct served_model_options *o = served_model_options(m);
    struct admission_status admission = admission_status(served_model_admission(m));
    struct metrics_model_now now = {.ready = served_model_state(m) == MODEL_READY,
                                    .prefix_cache = o->prefix_cache,
                                    .architecture = served_model_config(m)->arch,
                                    .kv_type = o->kv_type,
                                    .info = served_model_info(m),
                                    .n_refused_full = admission.n_refused_full,
                                    .n_refused_late = admission.n_refused_late,
                                    .wait_s = (double)admission.wait_ms / 1000};
    const struct adapter_set *set = served_model_adapters(m);
    now.adapters.n = adapter_set_n_listed(set);
    now.adapters.size = adapter_set_size(set);
    now.adapters.limit = set->max_size;
    now.adapters.loads = set->n_loads;
    now.adapters.failed_loads = set->n_failed_loads;
    now.adapters.drops = set->n_drops;
    now.adapters.requests = set->n_requests;
    memcpy(now.n_late, served_model_late(m), sizeof now.n_late);
    pipeline_each(served_model_pipeline(m), count_phase, now.phases);
    metrics_set_model(metrics, served_model_metrics(m), &now);
}

static void set_memory(struct metrics *metrics, const struct gateway *g)
{
    struct memory_plan plan = gateway_memory_plan(g);
    struct metrics_memory_now now = {.budget = plan.budget,
                                     .used = plan.used,
                                     .loads = plan.n_loads,
                                     .failed_loads = plan.n_failed_loads,
                                     .evictions = plan.n_evictions,
                                     .idle_unloads = plan.n_idle_unloads,
                                     .waiting = plan.n_waiting,
                                     .load_ns = (uint64_t)(plan.load_s * 1e9)};
    metrics_set_memory(metrics, &now);
}

void api__metrics(struct app *a, struct http_exchange *x, struct str rest)
{
    struct metrics *metrics = gateway_metrics(a->gateway);
    struct http_server_stats http = http_server_stats(a->server);
    struct buf out;
    (void)rest;
    for (size_t i = gateway_n_present(a->gateway); i-- > 0;) { /* of two of one name the one that is listed counts */
        if (served_model_is_open(gateway_present_at(a->gateway, i))) {
            set_model(metrics, gateway_present_at(a->gateway, i));
        }
    }
    set_memory(metrics, a->gateway);
    struct metrics_http_now http_now = {.connections_open = (uint64_t)http_server_connections(a->server),
                                        .connections = http.connections,
                                        .requests = http.requests,
                                        .bytes_in = http.bytes_in,
                                        .bytes_out = http.bytes_out,
                                        .parse_errors = http.parse_errors,
                                        .timeouts = http.timeouts,
                                        .refused = http.refused,
                                        .tls_failures = http.tls_failures,
                                        .tls_expires_s = (uint64_t)http.tls_expires_s};
    memcpy(http_now.replies, http.replies, sizeof http_now.replies);
    metrics_set_http(metrics, &http_now);
    metrics_set_pressure(metrics, (int)gateway_pressure(a->gateway));
    metrics_set_access(metrics, &a->access_counts);
    metrics_set_keys(metrics, a->options.keys);
    metrics_set_mcp(metrics, a->options.mcp);
    if (a->options.otlp) {
        struct otlp_stats spans = otlp_stats(a->options.otlp);
        metrics_set_otlp(metrics, &spans);
    }
    if (a->options.journal) {
        struct journal_stats journal = journal_stats(a->options.journal);
        struct batch_now rows = api__batch_now(a->batches);
        struct metrics_batches_now batches = {
            .running = rows.running, .completed = rows.completed, .failed = rows.failed, .given_up = rows.given_up};
        metrics_set_journal(metrics, &journal);
        metrics_set_batches(metrics, &batches);
    }
    buf_init(&out, INFO_MAX);
    metrics_write(metrics, &out);
    http_reply(x, 200, "text/plain; version=0.0.4; charset=utf-8", buf_view(&out));
    buf_release(&out);
}

/* ---- cancel, cache ---- */

void api__cancel(struct app *a, struct http_exchange *x, struct str rest)
{
    struct error err = {0};
    if (api__cancel_kept(a, x, rest)) {
        return;
    }
    for (size_t i = 0; i < gateway_n_present(a->gateway); i++) {
        struct served_model *m = gateway_present_at(a->gateway, i);
        struct generation *g = served_model_is_open(m) ? pipeline_find(served_model_pipeline(m), rest) : NULL;
        if (g && generation_request(g)->api_key == api__key_of(x)) { /* another key's is none that one may know of */
            struct buf out;
            buf_init(&out, KIB(1));
            struct json_writer w = json_writer(&out);
            json_begin_object(&w);
            json_member_str(&w, "id", rest);
            json_member_bool(&w, "cancelled", true);
            json_end_object(&w);
            generation_cancel(g);
            api__reply_json(x, &out);
            return;
        }
    }
    error_set(&err, ERR_NOT_FOUND, "No running request has the id '" STR_FMT "'.", STR_ARG(str_slice(rest, 0, 100)));
    api__reply_error(x, &err);
}

/* The only query parameter that a route of ours has. */
static bool check_query(const struct http_request *head, struct error *err)
{
    struct str rest = head->query, part;
    while (str_split(&rest, '&', &part)) {
        size_t equals = str_find_char(part, '=');
        struct str name = str_slice(part, 0, equals == STR_NPOS ? part.len : equals);
        if (part.len && !str_eq(name, STR("model"))) {
            return error_set_param(err, ERR_INVALID, "query",
                                   "Unknown query parameter '" STR_FMT "'; only 'model' is known.",
                                   STR_ARG(str_slice(name, 0, 60)));
        }
    }
    return true;
}

/* *model NULL: no query parameter names one, so all are meant. */
static bool model_of_query(struct app *a, const struct http_request *head, struct served_model **model,
                           struct error *err)
{
    struct buf name;
    *model = NULL;
    buf_init(&name, KIB(1));
    bool ok = check_query(head, err);
    if (ok && http_query_get(head, "model", &name)) {
        *model = gateway_model_find(a->gateway, buf_view(&name), NULL);
        ok = *model || gateway_model_missing(a->gateway, buf_view(&name), err);
    }
    buf_release(&name);
    return ok;
}

/* The pages are the engine's to drop, between two steps: how many it had is what it said last. */
static void clear_cache_of(struct json_writer *w, struct served_model *m)
{
    const struct engine_stats *stats = served_model_stats(m);
    int64_t age_ms = served_model_stats_age_ms(m);
    bool cleared = served_model_clear_cache(m);
    json_begin_object(w);
    json_member_cstr(w, "model", served_model_name(m));
    json_member_cstr(w, "state", model_state_name(served_model_state(m)));
    json_member_bool(w, "cleared", cleared);
    json_member_uint(w, "pages", cleared ? stats->pages_cached : 0);
    json_key(w, "pages_age_ms");
    if (age_ms >= 0) {
        json_put_int(w, age_ms);
    } else {
        json_put_null(w);
    }
    json_end_object(w);
}

void api__clear_cache(struct app *a, struct http_exchange *x, struct str rest)
{
    struct error err = {0};
    struct served_model *model;
    struct buf out;
    (void)rest;
    if (!model_of_query(a, http_request_of(x), &model, &err)) {
        api__reply_error(x, &err);
        return;
    }
    buf_init(&out, INFO_MAX);
    struct json_writer w = json_writer(&out);
    json_begin_object(&w);
    json_member_cstr(&w, "object", "list");
    json_key(&w, "data");
    json_begin_array(&w);
    for (size_t i = 0; i < gateway_n_models(a->gateway); i++) {
        struct served_model *m = gateway_model_at(a->gateway, i);
        if ((!model || m == model) && served_model_is_open(m)) { /* else nothing of it was ever in memory */
            clear_cache_of(&w, m);
        }
    }
    json_end_array(&w);
    json_end_object(&w);
    api__reply_json(x, &out);
}
