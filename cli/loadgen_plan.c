#include "cli/loadgen_plan.h"

#include "base/array.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FEWEST_REQUESTS 16 /* of a point, unless told otherwise */
#define ROUNDS          4  /* requests for each one in flight */
#define RATE_SECONDS    30 /* so long a point of a rate lasts, about */

static bool add_point(struct loadgen_plan *plan, enum loadgen_mode mode, struct str text, const char *option,
                      struct error *err)
{
    double load;
    double max = mode == LOADGEN_CLOSED ? LOADGEN_MAX_CONCURRENCY : LOADGEN_MAX_RATE;
    bool ok = str_to_f64(text, &load) && load > 0 && load <= max && (mode != LOADGEN_CLOSED || load == floor(load));
    if (!ok) {
        return error_set(err, ERR_INVALID, "%s: expected %s up to %.0f, separated by commas, but got '%.*s'.", option,
                         mode == LOADGEN_CLOSED ? "whole numbers from 1" : "numbers above 0", max,
                         text.len > 40 ? 40 : (int)text.len, text.ptr);
    }
    if (plan->n_points == LOADGEN_MAX_POINTS) {
        return error_set(err, ERR_INVALID, "%s: more than %d points are not possible.", option, LOADGEN_MAX_POINTS);
    }
    int at = plan->n_points;
    for (; at > 0 && plan->points[at - 1].load >= load; at--) {
        if (plan->points[at - 1].load == load) {
            return error_set(err, ERR_INVALID, "%s: %.10g is there twice.", option, load);
        }
        plan->points[at] = plan->points[at - 1];
    }
    plan->points[at] = (struct loadgen_point){mode, load};
    plan->n_points++;
    return true;
}

static bool parse_points(struct loadgen_plan *plan, enum loadgen_mode mode, const char *list, const char *option,
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

static bool check_slo(const struct bench_serve_options *o, const struct loadgen_slo *slo, struct error *err)
{
    if (!o->stream && (slo->ttft > 0 || slo->itl > 0 || slo->tpot > 0)) {
        return error_set(err, ERR_INVALID, "--slo: without streams only e2e can be measured.");
    }
    return true;
}

static bool check_workload(const struct bench_serve_options *o, struct error *err)
{
    if (o->workload && o->prompt_tokens) {
        return error_set(err, ERR_INVALID, "--prompt-tokens is for prompt sets, not for --workload.");
    }
    return !o->workload || !o->prompt_set || strcmp(o->prompt_set, "chat") == 0 || /* the default */
           error_set(err, ERR_INVALID, "--prompt-set and --workload exclude each other.");
}

bool loadgen_plan_parse(const struct bench_serve_options *o, struct loadgen_plan *out, struct error *err)
{
    enum loadgen_prompt_set set;
    *out = (struct loadgen_plan){.seed = o->seed >= 0 ? (uint64_t)o->seed : rng_entropy64() >> 16};
    if (o->concurrency && o->rate) {
        return error_set(err, ERR_INVALID, "--concurrency and --rate exclude each other.");
    }
    if (!loadgen_api_parse(o->api, &out->api, err) || !loadgen_slo_parse(o->slo, &out->slo, err) ||
        !check_slo(o, &out->slo, err) || !check_workload(o, err) ||
        !loadgen_prompt_set_parse(o->prompt_set, &set, err) ||
        (o->concurrency && !parse_points(out, LOADGEN_CLOSED, o->concurrency, "--concurrency", err)) ||
        (o->rate && !parse_points(out, LOADGEN_POISSON, o->rate, "--rate", err))) {
        return false;
    }
    out->workload = (struct loadgen_workload_options){
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

void loadgen_plan_default_points(struct loadgen_plan *plan, bool timed)
{
    static const double usual[] = {1, 2, 4, 8, 16};
    if (plan->n_points) {
        return;
    }
    if (timed) {
        plan->points[plan->n_points++] = (struct loadgen_point){LOADGEN_REPLAY, 0};
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(usual); i++) {
        plan->points[plan->n_points++] = (struct loadgen_point){LOADGEN_CLOSED, usual[i]};
    }
}

uint64_t loadgen_plan_requests(const struct bench_serve_options *o, const struct loadgen_point *p)
{
    if (o->requests || o->duration_s > 0 || p->mode == LOADGEN_REPLAY) {
        return (uint64_t)o->requests;
    }
    double n = p->mode == LOADGEN_CLOSED ? ROUNDS * p->load : ceil(RATE_SECONDS * p->load);
    return n > FEWEST_REQUESTS ? (uint64_t)n : FEWEST_REQUESTS;
}
