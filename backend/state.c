#include "backend/state.h"

static int block_of(int position, int page_tokens)
{
    return position / page_tokens;
}

uint32_t state_first(const struct batch_seq *seq, int group, int page_tokens)
{
    return seq->start > 0 ? seq->pages[group][block_of(seq->start - 1, page_tokens)] : KV_PAGE_NONE;
}

bool state_next(const struct batch_seq *seq, int group, int page_tokens, struct state_run *run)
{
    if (run->to >= seq->n_rows)
        return false;
    run->from = run->to;
    do {
        int block = block_of(seq->start + run->to, page_tokens), end = (block + 1) * page_tokens - seq->start;
        run->to = end < seq->n_rows ? end : seq->n_rows;
        run->page = seq->pages[group][block];
    } while (run->page == KV_PAGE_NONE && run->to < seq->n_rows);
    return true;
}

/* ---- tags ---- */

static int32_t *tag_of(const struct state_group *g, uint32_t page)
{
    return g->tag(g->arg, g->group, page);
}

static bool check_first(const struct state_group *g, const struct batch_seq *seq, struct error *err)
{
    uint32_t page = state_first(seq, g->group, g->page_tokens);
    if (seq->start == 0)
        return true;
    if (page >= g->n_pages)
        return error_set(err, ERR_INTERNAL, "The state behind position %d is on page %lu; group %d has %zu.",
                         seq->start - 1, (unsigned long)page, g->group, g->n_pages);
    int32_t tag = *tag_of(g, page);
    return tag == seq->start ||
           error_set(err, ERR_INTERNAL, "Rows from position %d on begin with page %lu, which is the state before %d.",
                     seq->start, (unsigned long)page, (int)tag);
}

static bool check_runs(const struct state_group *g, const struct batch_seq *seq, struct error *err)
{
    struct state_run run = {0};
    while (state_next(seq, g->group, g->page_tokens, &run)) {
        if (run.page >= g->n_pages)
            return error_set(err, ERR_INTERNAL, "The state behind position %d goes to page %lu; group %d has %zu.",
                             seq->start + run.to - 1, (unsigned long)run.page, g->group, g->n_pages);
    }
    return true;
}

bool state_check(const struct state_group *g, const struct batch *batch, struct error *err)
{
    for (int i = 0; i < batch->n_seqs; i++) {
        const struct batch_seq *seq = &batch->seqs[i];
        int64_t n_positions = (int64_t)seq->start + seq->n_rows;
        if (seq->start < 0 || seq->n_rows < 0 || (int64_t)seq->n_pages * g->page_tokens < n_positions)
            return error_set(err, ERR_INTERNAL, "A block table of %d pages does not cover %lld positions.",
                             seq->n_pages, (long long)n_positions);
        if (seq->n_rows > 0 && !(check_first(g, seq, err) && check_runs(g, seq, err)))
            return false;
    }
    return true;
}

void state_forget(const struct state_group *g, const struct batch *batch)
{
    for (int i = 0; i < batch->n_seqs; i++) {
        struct state_run run = {0};
        while (state_next(&batch->seqs[i], g->group, g->page_tokens, &run))
            *tag_of(g, run.page) = KV_NO_STATE;
    }
}

void state_remember(const struct state_group *g, const struct batch *batch)
{
    for (int i = 0; i < batch->n_seqs; i++) {
        struct state_run run = {0};
        while (state_next(&batch->seqs[i], g->group, g->page_tokens, &run))
            *tag_of(g, run.page) = (int32_t)(batch->seqs[i].start + run.to);
    }
}

bool state_fits_delta(const struct kv_group_spec *spec, int layer, const struct delta_params *p)
{
    return layer < spec->n_layers && p->n_k_heads > 0 && p->n_v_heads > 0 && p->n_v_heads % p->n_k_heads == 0 &&
           p->k_dim > 0 && p->v_dim > 0 && p->n_taps > 0 && p->n_taps <= MAX_CONV_TAPS && spec->state_size > 0 &&
           spec->state_size == delta_state_size(p);
}
