#include "gateway/gateway_internal.h"

#include "base/clock.h"

/* ---- an engine ---- */

static void begin_warming(struct served_model *m)
{
    struct error ignored;
    enum kv_type type;
    if (m->warmer && !m->gateway->draining && kv_type_parse(m->options.kv_type, &type, &ignored)) {
        warmer_begin(m->warmer, engine_child_info(m->child)->kv_size / memory_kv_token_size(&m->config, type));
    }
}

static void note_loss(struct served_model *m)
{
    enum engine_loss loss = engine_child_loss(m->child);
    if (engine_loss_info(loss)->shrinks) {
        /* The next one is not to end the same way; grows back like after pressure. */
        gateway__limit_pool(m, PRESSURE_WARN);
    }
#define X(name) m->stats.name = 0;
    ENGINE_STATS_GAUGES(X)
#undef X
    metrics_engine_lost(m->gateway->metrics, m->metrics_index, loss);
}

void gateway__child_state(void *arg)
{
    struct served_model *m = arg;
    const struct gateway_options *o = &m->gateway->options;
    int restarts = engine_child_restarts(m->child);
    bool ready = engine_child_state(m->child) == MODEL_READY;
    if (restarts > m->seen_restarts) {
        m->seen_restarts = restarts;
        note_loss(m);
    }
    gateway__engine_changed(m);
    gateway__adapters_changed(m);
    admission_note_ready(m->admission, ready);
    if (ready) {
        pipeline_prepare_constraints(m->pipeline);
        begin_warming(m);
    }
    if (o->on_state) {
        o->on_state(o->on_state_arg, m);
    }
}

void gateway__take_stats(void *arg, const struct engine_stats *stats)
{
    struct served_model *m = arg;
    m->stats = *stats;
    m->stats_ms = clock_ms();
    metrics_engine_stats(m->gateway->metrics, m->metrics_index, stats);
    admission_note_stats(m->admission, stats);
    if (m->warmer) {
        warmer_note_stats(m->warmer, stats);
    }
}

/* ---- requests ---- */

/* A request that failed before its first token did not run: its prompt is not charged. */
void gateway__generation_finished(void *arg, const struct gen_request *r, const struct gen_outcome *outcome)
{
    struct served_model *m = arg;
    struct api_keys *keys = m->gateway->options.keys;
    api_keys_charge(keys, r->api_key, outcome->later_prompt_tokens, outcome->usage.completion_tokens, clock_ms());
    if (outcome->error && outcome->usage.n_begun == 0) {
        api_keys_give_back(keys, r->api_key, outcome->usage.prompt_tokens, clock_ms());
    }
    if (r->priority < JOB_PRIORITY_IDLE) {
        model_manager_note_asked(&m->slot, clock_ms());
    }
    gateway__manage_soon(m->gateway);
}

void gateway__free_arena(void *arg, struct arena *a)
{
    struct gateway *g = arg;
    loop_free_arena(g->options.loop, a);
}

void gateway__hold(void *arg, bool held)
{
    struct gateway *g = arg;
    g->n_held += held ? 1 : (size_t)-1;
    if (g->n_held == 0 && g->n_retired) { /* they could not be freed while it was */
        gateway__manage_soon(g);
    }
    if (!held && g->on_closed) {
        gateway__closed_part(g);
    }
}

void gateway__generation_begun(void *arg, const struct generation *g)
{
    struct served_model *m = arg;
    deadline_timer_note(&m->deadlines, g);
}
