/* The automaton of constraint.h. Nothing here allocates, but the matcher inside its own bounds. */
#include "grammar/constraint_internal.h"

#include <assert.h>
#include <stdlib.h>

#define MAX_GAP 2 /* tokens of white space behind the reasoning */

enum phase { PHASE_START, PHASE_THINK, PHASE_FORCED, PHASE_GAP, PHASE_FREE, PHASE_CONSTRAINED, PHASE_DONE };

struct constraint_state {
    struct constraint *c;
    struct LlgMatcher *matcher; /* NULL without a grammar */
    /* START, where several tokens begin the reasoning: the grammar behind those of them that were seen, which may yet
     * be its own ("<" of "<think>" and of "<tool_call>"); NULL: they are not, or there are no several. */
    struct LlgMatcher *ahead;
    enum phase phase;
    uint32_t n_think; /* tokens of reasoning so far */
    uint32_t at;      /* START, FREE: tokens of think_start seen; THINK: of think_end; FORCED: of forced_end written */
    uint32_t trigger; /* FREE: state of the triggers' automaton */
    uint32_t n_gap;
    bool failed;
    struct error failure;
};

static bool is_binding(const struct constraint *c)
{
    return c->matcher && !c->triggers;
}

/* ---- changing the phase ---- */

static bool budget_is_used(const struct constraint_state *s)
{
    return s->c->think_budget >= 0 && s->n_think >= (uint32_t)s->c->think_budget;
}

static void enter_think(struct constraint_state *s)
{
    s->at = 0;
    s->phase = budget_is_used(s) ? PHASE_FORCED : PHASE_THINK;
}

static void leave_think(struct constraint_state *s)
{
    s->at = 0;
    s->trigger = 0;
    s->phase = is_binding(s->c) ? PHASE_GAP : PHASE_FREE;
}

struct constraint_state *constraint_state_create(struct constraint *c, struct error *err)
{
    struct constraint_state *s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for the state of a constraint.");
        return NULL;
    }
    s->c = constraint_retain(c);
    s->matcher = c->matcher ? llg_clone_matcher(c->matcher) : NULL;
    s->phase = is_binding(c) ? (c->think_start.n ? PHASE_START : PHASE_CONSTRAINED) : PHASE_FREE;
    if (c->think_open) {
        enter_think(s);
    }
    if (s->phase == PHASE_START && c->think_start.n > 1) {
        s->ahead = llg_clone_matcher(c->matcher);
    }
    return s;
}

static void drop_ahead(struct constraint_state *s)
{
    if (s->ahead) {
        llg_free_matcher(s->ahead);
        s->ahead = NULL;
    }
}

void constraint_state_free(struct constraint_state *s)
{
    if (s) {
        drop_ahead(s);
        if (s->matcher) {
            llg_free_matcher(s->matcher);
        }
        constraint_release(s->c);
        free(s);
    }
}

static bool fail(struct constraint_state *s, enum error_code code, const char *what)
{
    char reason[160] = "";
    const char *words = s->matcher ? llg_matcher_get_error(s->matcher) : NULL;
    if (words) {
        constraint__reason(words, false, reason, sizeof reason);
    }
    s->failed = true;
    code = constraint__is_cost(str_of(reason)) ? ERR_UNSUPPORTED : code;
    return error_set(&s->failure, code, "%s%s%s.", what, reason[0] ? ": " : "", reason);
}

static bool copy_failure(const struct constraint_state *s, struct error *err)
{
    *err = s->failure;
    return false;
}

/* ---- masks ---- */

static void mask_only(const struct constraint_state *s, uint32_t *mask, int32_t id)
{
    memset(mask, 0, s->c->vocab->n_words * sizeof *mask);
    bits_add(mask, id);
}

static bool mask_of_grammar(struct constraint_state *s, struct LlgMatcher *m, uint32_t *mask)
{
    if (llg_matcher_compute_mask_into(m, mask, s->c->vocab->n_words * sizeof *mask) != 0) {
        return fail(s, ERR_UNSUPPORTED, "What may come next could not be computed by the grammar");
    }
    return true;
}

static void mask_add(uint32_t *mask, const uint32_t *more, size_t n_words)
{
    for (size_t i = 0; i < n_words; i++) {
        mask[i] |= more[i];
    }
}

/* All tokens but those that would end a trigger with a rest that the grammar cannot begin with; 0 when there are none,
 * which nearly always is known without a look at them: most text is no beginning of a trigger. */
static int mask_of_triggers(const struct constraint_state *s, uint32_t *mask)
{
    const struct constraint *c = s->c;
    bool any = false;
    if (s->trigger == 0 && !c->bad_at_once) {
        return 0;
    }
    for (size_t i = 0; i < c->n_bad_ends; i++) {
        const struct bad_end *bad = &c->bad_ends[i];
        if (!constraint__is_bad_end(c, bad, s->trigger)) {
            continue;
        }
        if (!any) {
            memcpy(mask, c->vocab->all, c->vocab->n_words * sizeof *mask);
            mask_add(mask, c->vocab->eog, c->vocab->n_words);
        }
        any = true;
        bits_remove(mask, bad->id);
    }
    return any;
}

static int mask_of_start(struct constraint_state *s, uint32_t *mask)
{
    const struct id_list *start = &s->c->think_start;
    if (s->at && !s->ahead) {
        mask_only(s, mask, start->ids[s->at]);
        return 1;
    }
    if (!mask_of_grammar(s, s->at ? s->ahead : s->matcher, mask)) {
        return -1;
    }
    bits_add(mask, start->ids[s->at]);
    return 1;
}

static int mask_of_gap(struct constraint_state *s, uint32_t *mask)
{
    if (!mask_of_grammar(s, s->matcher, mask)) {
        return -1;
    }
    if (s->n_gap < MAX_GAP) {
        mask_add(mask, s->c->vocab->space, s->c->vocab->n_words);
    }
    return 1;
}

static int mask_of_phase(struct constraint_state *s, uint32_t *mask)
{
    const struct constraint_vocab *v = s->c->vocab;
    switch (s->phase) {
    case PHASE_START:
        return mask_of_start(s, mask);
    case PHASE_THINK:
        if (is_binding(s->c)) {
            memcpy(mask, v->all, v->n_words * sizeof *mask);
        }
        return is_binding(s->c);
    case PHASE_FORCED:
        mask_only(s, mask, s->c->forced_end.ids[s->at]);
        return 1;
    case PHASE_GAP:
        return mask_of_gap(s, mask);
    case PHASE_FREE:
        return mask_of_triggers(s, mask);
    case PHASE_CONSTRAINED:
        return mask_of_grammar(s, s->matcher, mask) ? 1 : -1;
    case PHASE_DONE:
        memcpy(mask, v->eog, v->n_words * sizeof *mask);
        return 1;
    }
    return 0;
}

int constraint_state_mask(struct constraint_state *s, uint32_t *mask, struct error *err)
{
    int applies = s->failed ? -1 : mask_of_phase(s, mask);
    if (applies < 0) {
        copy_failure(s, err);
    }
    return applies;
}

/* ---- tokens ---- */

/* How many of the list's ids end the tokens seen so far, when `seen` of them did before this one. */
static uint32_t follow(const struct id_list *list, uint32_t seen, int32_t id)
{
    if (list->n == 0) {
        return 0;
    }
    if (seen == list->n) {
        seen = list->border[seen - 1];
    }
    while (seen && list->ids[seen] != id) {
        seen = list->border[seen - 1];
    }
    return seen + (list->ids[seen] == id);
}

static bool ended(struct constraint_state *s)
{
    if (llg_matcher_is_error(s->matcher)) {
        return fail(s, ERR_UNSUPPORTED, "The grammar could not follow a token");
    }
    if (llg_matcher_is_stopped(s->matcher)) {
        s->phase = PHASE_DONE;
    }
    return true;
}

static bool accept_constrained(struct constraint_state *s, int32_t id)
{
    s->phase = PHASE_CONSTRAINED;
    if (llg_matcher_consume_token(s->matcher, (uint32_t)id) != 0) {
        return fail(s, ERR_INTERNAL, "A token was written that the grammar does not allow");
    }
    return ended(s);
}

static bool is_next(struct LlgMatcher *m, int32_t id)
{
    uint32_t token = (uint32_t)id;
    return llg_matcher_validate_tokens(m, &token, 1) == 1;
}

/* One of those that begin the reasoning; the grammar goes along as far as it can. */
static void follow_start(struct constraint_state *s, int32_t id)
{
    bool both = s->ahead && is_next(s->ahead, id) && llg_matcher_consume_token(s->ahead, (uint32_t)id) == 0;
    if (!both) {
        drop_ahead(s);
    }
    if (++s->at == s->c->think_start.n) {
        drop_ahead(s);
        enter_think(s);
    }
}

static bool accept_start(struct constraint_state *s, int32_t id)
{
    if (s->c->think_start.ids[s->at] == id) {
        follow_start(s, id);
        return true;
    }
    if (s->at && !s->ahead) {
        return fail(s, ERR_INTERNAL, "A token was written that is not the next of those that begin the reasoning");
    }
    if (s->at) {
        struct LlgMatcher *fresh = s->matcher;
        s->matcher = s->ahead;
        s->ahead = fresh;
    }
    drop_ahead(s);
    return accept_constrained(s, id);
}

static bool accept_think(struct constraint_state *s, int32_t id)
{
    s->n_think++;
    s->at = follow(&s->c->think_end, s->at, id);
    if (s->at == s->c->think_end.n) {
        leave_think(s);
    } else if (budget_is_used(s)) {
        s->at = 0;
        s->phase = PHASE_FORCED;
    }
    return true;
}

static bool accept_forced(struct constraint_state *s, int32_t id)
{
    if (s->c->forced_end.ids[s->at] != id) {
        return fail(s, ERR_INTERNAL, "A token was written that is not the next of those that end the reasoning");
    }
    if (++s->at == s->c->forced_end.n) {
        leave_think(s);
    }
    return true;
}

static bool accept_gap(struct constraint_state *s, int32_t id)
{
    if (s->n_gap < MAX_GAP && bits_have(s->c->vocab->space, id) && !is_next(s->matcher, id)) {
        s->n_gap++;
        return true;
    }
    return accept_constrained(s, id);
}

/* The rest of the token that ended a trigger is the grammar's. */
static bool begin_grammar(struct constraint_state *s, struct str rest)
{
    uint32_t ids[CONSTRAINT_REST_MAX];
    s->phase = PHASE_CONSTRAINED;
    if (rest.len) {
        size_t n = constraint__rest_tokens(s->c, s->matcher, rest, ids);
        if (n == 0 || llg_matcher_consume_tokens(s->matcher, ids, n) != 0) {
            return fail(s, ERR_INTERNAL, "A token was written that ends a trigger in a way that the grammar forbids");
        }
    }
    return ended(s);
}

static bool accept_free(struct constraint_state *s, int32_t id)
{
    const struct id_list *start = &s->c->think_start;
    s->at = follow(start, s->at, id);
    if (start->n && s->at == start->n) {
        enter_think(s);
        return true;
    }
    if (!s->c->triggers) {
        return true;
    }
    struct str text = tokenizer_bytes(s->c->vocab->tokenizer, id);
    size_t fed = trigger_scan_feed(s->c->triggers, &s->trigger, text);
    return fed == STR_NPOS || begin_grammar(s, str_slice(text, fed, text.len));
}

static bool accept_done(struct constraint_state *s, int32_t id)
{
    return bits_have(s->c->vocab->eog, id) || fail(s, ERR_INTERNAL, "A token was written behind the grammar's end");
}

static bool accept_in_phase(struct constraint_state *s, int32_t id)
{
    static bool (*const accept[])(struct constraint_state *, int32_t) = {
        [PHASE_START] = accept_start, [PHASE_THINK] = accept_think, [PHASE_FORCED] = accept_forced,
        [PHASE_GAP] = accept_gap,     [PHASE_FREE] = accept_free,   [PHASE_CONSTRAINED] = accept_constrained,
        [PHASE_DONE] = accept_done,
    };
    return accept[s->phase](s, id);
}

bool constraint_state_accept(struct constraint_state *s, int32_t id, struct error *err)
{
    if (s->failed) {
        return copy_failure(s, err);
    }
    if (id < 0 || id >= s->c->vocab->n_vocab) {
        return error_set(err, ERR_INTERNAL, "Token %d is not in the vocabulary of %d tokens.", (int)id,
                         (int)s->c->vocab->n_vocab);
    }
    return accept_in_phase(s, id) || copy_failure(s, err);
}

bool constraint_state_replay(struct constraint_state *s, const int32_t *ids, size_t n, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!constraint_state_accept(s, ids[i], err)) {
            return error_wrap(err, "token %zu of %zu that were written before", i + 1, n);
        }
    }
    return true;
}

/* ---- what may be asked ---- */

bool constraint_state_is_free(const struct constraint_state *s)
{
    bool in_text = s->phase == PHASE_FREE && (!s->c->triggers || (s->trigger == 0 && !s->c->bad_at_once));
    return !s->failed && (in_text || (s->phase == PHASE_THINK && !is_binding(s->c)));
}

int32_t constraint_state_forced(const struct constraint_state *s)
{
    if (s->phase == PHASE_FORCED) {
        return s->c->forced_end.ids[s->at];
    }
    return s->phase == PHASE_START && s->at && !s->ahead ? s->c->think_start.ids[s->at] : -1;
}

bool constraint_state_can_stop(struct constraint_state *s)
{
    switch (s->phase) {
    case PHASE_START:
        return s->at == 0 ? llg_matcher_is_accepting(s->matcher) : s->ahead && llg_matcher_is_accepting(s->ahead);
    case PHASE_GAP:
    case PHASE_CONSTRAINED:
        return llg_matcher_is_accepting(s->matcher);
    case PHASE_THINK:
        return !is_binding(s->c);
    case PHASE_FORCED:
        return false;
    case PHASE_FREE:
    case PHASE_DONE:
        break;
    }
    return true;
}

bool constraint_state_done(const struct constraint_state *s)
{
    return s->phase == PHASE_DONE;
}

bool constraint_state_thinking(const struct constraint_state *s)
{
    return s->phase == PHASE_THINK || s->phase == PHASE_FORCED || (s->phase == PHASE_START && s->at && !s->ahead);
}
