#include "cli/loadgen_export.h"

#include "base/json.h"

#include <math.h>
#include <stdio.h>

#define NS_PER_MS 1e6

/* {"requests_per_s": 1.2, ..., "ttft_ms": {"mean": ...}, ...} */
static void put_figures(struct json_writer *w, const struct loadgen_figures *f)
{
    char name[64];
    json_begin_object(w);
    for (int i = 0; i < LOADGEN_N_SCALARS; i++) {
        json_member_double(w, loadgen_figure_name(i, name, sizeof name), loadgen_figure(f, i));
    }
    for (int i = 0; i < LOADGEN_N_LATENCIES; i++) {
        snprintf(name, sizeof name, "%s_ms", loadgen_latency_name((enum loadgen_latency)i));
        json_key(w, name);
        json_begin_object(w);
        for (int part = 0; part < LOADGEN_N_PARTS; part++) {
            json_member_double(w, loadgen_part_name((enum loadgen_part)part),
                               loadgen_latency_part(f, (enum loadgen_latency)i, (enum loadgen_part)part));
        }
        json_end_object(w);
    }
    json_end_object(w);
}

static void put_failures(struct json_writer *w, const struct loadgen_run *run)
{
    json_key(w, "failures");
    json_begin_array(w);
    for (int i = 0; i < run->n_failures; i++) {
        const struct loadgen_failure *f = &run->failures[i];
        json_begin_object(w);
        json_member_cstr(w, "kind", loadgen_outcome_name(f->outcome));
        json_member_uint(w, "status", (uint64_t)f->status);
        json_member_cstr(w, "message", f->message);
        json_member_uint(w, "requests", f->n);
        json_end_object(w);
    }
    json_end_array(w);
    json_key(w, "failed_checks");
    json_begin_array(w);
    for (int i = 0; i < run->n_examples; i++) {
        json_begin_object(w);
        json_member_uint(w, "line", run->examples[i].line);
        json_member_cstr(w, "complaint", run->examples[i].complaint);
        json_member_cstr(w, "text", run->examples[i].text);
        json_end_object(w);
    }
    json_end_array(w);
}

static void put_sample(struct json_writer *w, const struct loadgen_run *run, const struct loadgen_sample *s)
{
    static const char *const verdicts[] = {[LOADGEN_PASSED] = "passed", [LOADGEN_FAILED] = "failed"};
    json_begin_object(w);
    json_member_uint(w, "index", s->index);
    json_member_cstr(w, "outcome", loadgen_outcome_name(s->outcome));
    json_member_uint(w, "status", (uint64_t)s->status);
    json_member_cstr(w, "check", s->verdict == LOADGEN_NO_CHECK ? NULL : verdicts[s->verdict]);
    json_member_double(w, "sent_ms", (double)s->sent_ns / NS_PER_MS);
    json_member_double(w, "ttft_ms", loadgen_sample_latency(run, s, LOADGEN_LATENCY_ttft));
    json_member_double(w, "tpot_ms", loadgen_sample_latency(run, s, LOADGEN_LATENCY_tpot));
    json_member_double(w, "e2e_ms", loadgen_sample_latency(run, s, LOADGEN_LATENCY_e2e));
    json_member_uint(w, "prompt_tokens", s->prompt_tokens);
    json_member_uint(w, "completion_tokens", s->completion_tokens);
    json_member_uint(w, "cached_tokens", s->cached_tokens);
    json_member_bool(w, "usage", s->has_usage);
    json_key(w, "itl_ms");
    json_begin_array(w);
    for (size_t i = 0; i < s->n_gaps; i++) {
        json_put_double(w, (double)run->gaps[s->gaps_at + i] / NS_PER_MS);
    }
    json_end_array(w);
    json_end_object(w);
}

static void put_run(struct json_writer *w, const struct loadgen_measured *m, bool details)
{
    const struct loadgen_run *run = &m->run;
    json_begin_object(w);
    json_key(w, "figures");
    put_figures(w, &m->figures);
    put_failures(w, run);
    json_member_bool(w, "interrupted", run->interrupted);
    json_member_bool(w, "ended_early", run->gave_up);
    if (details) {
        json_key(w, "requests");
        json_begin_array(w);
        for (size_t i = 0; i < run->n_samples; i++) {
            put_sample(w, run, &run->samples[i]);
        }
        json_end_array(w);
    }
    json_end_object(w);
}

static void put_measured(struct json_writer *w, const struct loadgen_result *r, int point, int target, bool details)
{
    struct loadgen_figures first, summary, ratio;
    int n = loadgen_result_summary(r, point, target, &summary);
    json_begin_object(w);
    json_member_cstr(w, "target", r->targets[target].label);
    json_key(w, "summary");
    put_figures(w, &summary);
    if (target > 0 && n > 0 && loadgen_result_summary(r, point, 0, &first) > 0) {
        loadgen_figures_ratio(&summary, &first, &ratio);
        json_key(w, "ratio_to_first");
        put_figures(w, &ratio);
    }
    json_key(w, "runs");
    json_begin_array(w);
    for (int i = 0; i < r->n_repeats; i++) {
        const struct loadgen_measured *m = loadgen_result_run(r, point, i, target);
        if (m->done) {
            put_run(w, m, details);
        }
    }
    json_end_array(w);
    json_end_object(w);
}

static void put_targets(struct json_writer *w, const struct loadgen_result *r)
{
    json_key(w, "targets");
    json_begin_array(w);
    for (int i = 0; i < r->n_targets; i++) {
        const struct loadgen_target *t = &r->targets[i];
        json_begin_object(w);
        json_member_cstr(w, "label", t->label);
        json_member_cstr(w, "url", t->url);
        json_member_cstr(w, "model", t->model);
        json_member_cstr(w, "server", t->server);
        json_member_cstr(w, "system_fingerprint", t->fingerprint);
        json_end_object(w);
    }
    json_end_array(w);
}

static void put_facts(struct json_writer *w, const struct loadgen_result *r)
{
    const struct loadgen_facts *f = &r->facts;
    json_member_cstr(w, "tandem", f->version);
    json_member_uint(w, "started", (uint64_t)f->started_s);
    json_member_cstr(w, "client_processor", f->processor);
    json_member_uint(w, "client_processors", (uint64_t)f->n_processors);
    json_member_cstr(w, "api", loadgen_api_name(f->api));
    json_member_bool(w, "stream", f->stream);
    json_member_cstr(w, "workload", f->workload);
    json_member_uint(w, "seed", f->seed);
    json_member_uint(w, "warmup", (uint64_t)f->n_warmup);
    json_member_uint(w, "repeat", (uint64_t)r->n_repeats);
    json_member_bool(w, "interrupted", r->interrupted);
    json_key(w, "slo_ms");
    json_begin_object(w);
    json_member_double(w, "ttft", r->slo.ttft > 0 ? r->slo.ttft : NAN);
    json_member_double(w, "itl", r->slo.itl > 0 ? r->slo.itl : NAN);
    json_member_double(w, "tpot", r->slo.tpot > 0 ? r->slo.tpot : NAN);
    json_member_double(w, "e2e", r->slo.e2e > 0 ? r->slo.e2e : NAN);
    json_end_object(w);
}

void loadgen_export_json(const struct loadgen_result *r, bool details, struct buf *out)
{
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    put_facts(&w, r);
    put_targets(&w, r);
    json_key(&w, "points");
    json_begin_array(&w);
    for (int p = 0; p < r->n_points; p++) {
        json_begin_object(&w);
        json_member_cstr(&w, "mode", loadgen_mode_name(r->points[p].mode));
        json_member_double(&w, "load", r->points[p].mode == LOADGEN_REPLAY ? NAN : r->points[p].load);
        json_key(&w, "targets");
        json_begin_array(&w);
        for (int t = 0; t < r->n_targets; t++) {
            put_measured(&w, r, p, t, details);
        }
        json_end_array(&w);
        json_end_object(&w);
    }
    json_end_array(&w);
    json_end_object(&w);
    buf_putc(out, '\n');
}

/* ---- CSV ---- */

static void put_field(struct buf *out, const char *text)
{
    bool formula = text[0] && strchr("=+-@\t\r", text[0]);
    bool quote = formula || strpbrk(text, ",\"\r\n");
    buf_puts(out, quote ? "\"" : "");
    buf_puts(out, formula ? "'" : "");
    for (const char *c = text; *c; c++) {
        buf_puts(out, *c == '"' ? "\"" : "");
        buf_putc(out, *c);
    }
    buf_puts(out, quote ? "\"" : "");
}

static void put_row(struct buf *out, const struct loadgen_result *r, int point, int repeat, int target)
{
    const struct loadgen_measured *m = loadgen_result_run(r, point, repeat, target);
    char load[40];
    buf_printf(out, "%s,%s,", loadgen_mode_name(r->points[point].mode),
               loadgen_point_load(&r->points[point], load, sizeof load));
    put_field(out, r->targets[target].label);
    buf_printf(out, ",%d", repeat + 1);
    for (int i = 0; i < LOADGEN_N_FIGURES; i++) {
        double v = loadgen_figure(&m->figures, i);
        buf_printf(out, isnan(v) ? "," : ",%.6g", v);
    }
    buf_putc(out, '\n');
}

void loadgen_export_csv(const struct loadgen_result *r, struct buf *out)
{
    buf_puts(out, "mode,load,target,repeat");
    for (int i = 0; i < LOADGEN_N_FIGURES; i++) {
        char name[64];
        buf_printf(out, ",%s", loadgen_figure_name(i, name, sizeof name));
    }
    buf_putc(out, '\n');
    for (int p = 0; p < r->n_points; p++) {
        for (int i = 0; i < r->n_repeats; i++) {
            for (int t = 0; t < r->n_targets; t++) {
                if (loadgen_result_run(r, p, i, t)->done) {
                    put_row(out, r, p, i, t);
                }
            }
        }
    }
}
