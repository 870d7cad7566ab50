#include "cli/bench_plan.h"

#include "base/array.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>

#define FEWEST_REQUESTS 16 /* of a point, unless told otherwise */
#define ROUNDS          4  /* requests for each one in flight */
#define RATE_SECONDS    30 /* so long a point of a rate lasts, about */

static bool add_point(struct bench_plan *plan, enum bench_mode mode, struct str text, const char *option,
                      struct error *err)
{
    double load;
    double max = mode == BENCH_CLOSED ? BENCH_MAX_CONCURRENCY : BENCH_MAX_RATE;
    bool ok = str_to_f64(text, &load) && load > 0 && load <= max && (mode != BENCH_CLOSED || load == floor(load));
    if (!ok) {
        return error_set(err, ERR_INVALID, "%s: expected %s up to %.0f, separated by commas, but got '%.*s'.", option,
                         mode == BENCH_CLOSED ? "whole numbers from 1" : "numbers above 0", max,
                         text.len > 40 ? 40 : (int)text.len, text.ptr);
    }
    if (plan->n_points == BENCH_MAX_POINTS) {
        return error_set(err, ERR_INVALID, "%s: more than %d points are not possible.", option, BENCH_MAX_POINTS);
    }
    int at = plan->n_points;
    for (; at > 0 && plan->points[at - 1].load >= load; at--) {
        if (plan->points[at - 1].load == load) {
            return error_set(err, ERR_INVALID, "%s: %.10g is there twice.", option, load);
        }
        plan->points[at] = plan->points[at - 1];
    }
    plan->points[at] = (struct bench_point){mode, load};
    plan->n_points++;
    return true;
}

static bool parse_points(struct bench_plan *plan, enum bench_mode mode, const char *list, const char *option,
                         struct error *err)
{
    struct str rest = str_of(list), part;
    while (str_split(&rest, ',', &part)) {
        if (!add_point(plan, mode, str_trim(part), option, err)) {
            return false;
        }
    }
    return true;
}

static bool check_slo(const struct bench_serve_options *o, const struct bench_slo *slo, struct error *err)
{
    if (!o->stream && (slo->ttft > 0 || slo->itl > 0 || slo->tpot > 0)) {
        return error_set(err, ERR_INVALID, "--slo: without streams only e2e can be measured.");
    }
    return true;
}

static bool check_workload(const struct bench_serve_options *o, struct error *err)
{
    return !o->workload || !o->prompt_tokens ||
           error_set(err, ERR_INVALID, "--prompt-tokens is for prompt sets, not for --workload.");
}

bool bench_plan_parse(const struct bench_serve_options *o, struct bench_plan *out, struct error *err)
{
    enum bench_prompt_set set;
    *out = (struct bench_plan){.seed = o->seed >= 0 ? (uint64_t)o->seed : rng_entropy64() >> 16};
    if (o->concurrency && o->rate) {
        return error_set(err, ERR_INVALID, "--concurrency and --rate exclude each other.");
    }
    if (!bench_api_parse(o->api, &out->api, err) || !bench_slo_parse(o->slo, &out->slo, err) ||
        !check_slo(o, &out->slo, err) || !check_workload(o, err) || !bench_prompt_set_parse(o->prompt_set, &set, err) ||
        (o->concurrency && !parse_points(out, BENCH_CLOSED, o->concurrency, "--concurrency", err)) ||
        (o->rate && !parse_points(out, BENCH_POISSON, o->rate, "--rate", err))) {
        return false;
    }
    out->workload = (struct bench_workload_options){
        .api = out->api,
        .path = o->workload,
        .prompts = {.set = set, .prompt_tokens = (int)o->prompt_tokens, .seed = out->seed},
        .max_tokens = o->max_tokens,
        .body = o->body,
        .ignore_eos = o->ignore_eos,
        .stream = o->stream,
    };
    return true;
}

void bench_plan_default_points(struct bench_plan *plan, bool timed)
{
    static const double usual[] = {1, 2, 4, 8, 16};
    if (plan->n_points) {
        return;
    }
    if (timed) {
        plan->points[plan->n_points++] = (struct bench_point){BENCH_REPLAY, 0};
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(usual); i++) {
        plan->points[plan->n_points++] = (struct bench_point){BENCH_CLOSED, usual[i]};
    }
}

uint64_t bench_plan_requests(const struct bench_serve_options *o, const struct bench_point *p)
{
    if (o->requests || o->duration_s > 0 || p->mode == BENCH_REPLAY) {
        return (uint64_t)o->requests;
    }
    double n = p->mode == BENCH_CLOSED ? ROUNDS * p->load : ceil(RATE_SECONDS * p->load);
    return n > FEWEST_REQUESTS ? (uint64_t)n : FEWEST_REQUESTS;
}
