#include "engine/events.h"

#include <stdlib.h>

bool events_init(struct events *e, size_t n_samples, struct error *err)
{
    size_t cap_samples = 2 * n_samples; /* a scored prompt's first token has an entry without a row */
    *e = (struct events){.cap = 4 * n_samples + 64, .cap_samples = cap_samples};
    e->items = calloc(e->cap, sizeof *e->items);
    e->ids = calloc(cap_samples, sizeof *e->ids);
    e->logprobs = calloc(cap_samples, sizeof *e->logprobs);
    e->tops = calloc(cap_samples * JOB_MAX_TOP, sizeof *e->tops);
    if (e->items && e->ids && e->logprobs && e->tops) {
        return true;
    }
    events_release(e);
    return error_set(err, ERR_NO_MEMORY, "There is no memory for the events of a step.");
}

void events_release(struct events *e)
{
    free(e->items);
    free(e->ids);
    free(e->logprobs);
    free(e->tops);
    *e = (struct events){0};
}

void events_flush(struct events *e)
{
    if (e->n && e->sink) {
        e->sink(e->arg, e->items, e->n);
    }
    e->n = e->n_ids = e->n_logprobs = e->n_tops = 0;
}

struct engine_event *events_add(struct events *e, enum engine_event_kind kind, uint64_t job)
{
    if (e->n == e->cap) {
        events_flush(e);
    }
    struct engine_event *event = &e->items[e->n++];
    *event = (struct engine_event){.kind = kind, .job = job, .stop_id = -1};
    return event;
}

const int32_t *events_id(struct events *e, int32_t id)
{
    e->ids[e->n_ids] = id;
    return &e->ids[e->n_ids++];
}

struct token_logprob *events_logprob(struct events *e, const struct sample_result *result, bool with_logprob)
{
    struct token_logprob *l = &e->logprobs[e->n_logprobs++];
    *l = (struct token_logprob){.id = result->id, .digest = result->digest};
    if (with_logprob) {
        l->logprob = result->logprob;
        l->rank = result->rank;
        l->n_top = result->n_top > 0 ? (uint32_t)result->n_top : 0;
        struct token_top *tops = &e->tops[e->n_tops];
        for (uint32_t i = 0; i < l->n_top; i++) {
            tops[i] = (struct token_top){result->top[i].id, result->top[i].logprob};
        }
        l->top = l->n_top ? tops : NULL;
        e->n_tops += l->n_top;
    }
    return l;
}
