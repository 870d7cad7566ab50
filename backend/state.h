/* What backends share of state groups (backend.h): which pages the rows of a sequence begin with and end in, and the
 * tags that say what a page holds.
 *
 *     before a step   state_check of each group, then state_forget: the pages to be written hold nothing
 *     the step        for each sequence: the page of state_first, then run after run of state_next
 *     it succeeded    state_remember
 */
#ifndef TANDEM_BACKEND_STATE_H
#define TANDEM_BACKEND_STATE_H

#include "backend/backend.h"

/* One state group. tag: where the tag of a page is, page < n_pages. */
struct state_group {
    int group, page_tokens;
    size_t n_pages;
    void *arg;
    int32_t *(*tag)(void *arg, int group, uint32_t page);
};

/* INTERNAL: a table does not cover the rows, a page is not there or is not the state that the rows begin with. */
NODISCARD bool state_check(const struct state_group *g, const struct batch *batch, struct error *err);
void state_forget(const struct state_group *g, const struct batch *batch);
void state_remember(const struct state_group *g, const struct batch *batch);

/* The page of the state before the rows; KV_PAGE_NONE: they begin with zeros. */
uint32_t state_first(const struct batch_seq *seq, int group, int page_tokens);

/* Rows [from, to) of a sequence, and the page of the state behind the last of them. */
struct state_run {
    int from, to;
    uint32_t page;
};
/* The run that begins at run->to, 0 at first; false behind the last. */
bool state_next(const struct batch_seq *seq, int group, int page_tokens, struct state_run *run);

/* Whether the shapes make sense, and a layer's state of the group is as large as they want it. */
bool state_fits_delta(const struct kv_group_spec *spec, int layer, const struct delta_params *p);

#endif
