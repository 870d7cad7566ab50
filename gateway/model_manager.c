#include "gateway/model_manager.h"

/* ---- what there is ---- */

bool model_manager_add(struct model_manager *m, struct model_slot *slot)
{
    if (m->n == MANAGER_MAX_SLOTS) {
        return false;
    }
    m->slots[m->n++] = slot;
    return true;
}

void model_manager_remove(struct model_manager *m, struct model_slot *slot)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->slots[i] == slot) {
            m->slots[i] = m->slots[--m->n];
            return;
        }
    }
}

uint64_t model_manager_used(const struct model_manager *m)
{
    uint64_t used = 0;
    for (size_t i = 0; i < m->n; i++) {
        used += m->slots[i]->state == SLOT_OUT ? 0 : m->slots[i]->size;
    }
    return used;
}

uint64_t model_manager_pinned(const struct model_manager *m, const struct model_slot *but)
{
    uint64_t pinned = 0;
    for (size_t i = 0; i < m->n; i++) {
        pinned += m->slots[i]->pinned && m->slots[i] != but ? m->slots[i]->size : 0;
    }
    return pinned;
}

bool model_manager_fits(const struct model_manager *m, const struct model_slot *slot)
{
    uint64_t pinned = model_manager_pinned(m, slot);
    return pinned <= m->budget && slot->size <= m->budget - pinned;
}

size_t model_manager_n_waiting(const struct model_manager *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        n += m->slots[i]->ticket != 0;
    }
    return n;
}

/* ---- what happens ---- */

void model_manager_want(struct model_manager *m, struct model_slot *slot)
{
    bool stays = (slot->state == SLOT_LOADING || slot->state == SLOT_IN) && !slot->unload_asked;
    if (slot->ticket == 0 && !stays) {
        slot->ticket = ++m->last_ticket;
        slot->wanted_ms = 0;
    }
}

void model_manager_load(struct model_manager *m, struct model_slot *slot)
{
    model_manager_want(m, slot);
    slot->load_asked = slot->ticket != 0;
}

void model_manager_unload(struct model_manager *m, struct model_slot *slot)
{
    (void)m;
    slot->unload_asked = slot->state != SLOT_OUT;
    slot->load_asked = false;
    slot->ticket = slot->n_queued ? slot->ticket : 0;
}

void model_manager_loaded(struct model_manager *m, struct model_slot *slot, int64_t now_ms)
{
    (void)m;
    if (slot->state == SLOT_LOADING) {
        slot->state = SLOT_IN;
        slot->load_ms = now_ms - slot->began_ms;
        slot->loaded_ms = slot->used_ms = now_ms;
    }
}

void model_manager_out(struct model_manager *m, struct model_slot *slot)
{
    (void)m;
    slot->state = SLOT_OUT;
    slot->unload_asked = false;
}

void model_manager_note_asked(struct model_slot *slot, int64_t now_ms)
{
    slot->asked_ms = slot->used_ms = now_ms;
}

/* ---- a look ---- */

struct look {
    struct model_manager *m;
    int64_t now_ms, due_ms; /* due_ms: the earliest thing that comes by itself; -1: none */
    slot_act_fn act;
    void *arg;
};

static void due_in(struct look *l, int64_t ms)
{
    l->due_ms = l->due_ms < 0 || ms < l->due_ms ? ms : l->due_ms;
}

static bool is_busy(const struct model_slot *s)
{
    return s->n_queued > 0 || s->n_running > 0;
}

static void leave(struct look *l, struct model_slot *s)
{
    s->state = SLOT_LEAVING;
    l->act(l->arg, s, SLOT_UNLOAD);
}

static void drain(struct look *l, struct model_slot *s)
{
    if (s->state == SLOT_IN) {
        s->state = SLOT_DRAINING;
        l->act(l->arg, s, SLOT_HOLD);
    }
    if (s->n_running == 0) {
        leave(l, s);
    }
}

/* A request that comes for what only rows have waited for stands behind those that were there before it. */
static void note_kind(struct look *l, struct model_slot *s)
{
    bool rows = s->n_queued > 0 && s->n_rows == s->n_queued && !s->load_asked;
    if (s->ticket && s->for_rows && !rows) {
        s->ticket = ++l->m->last_ticket;
    }
    s->for_rows = rows;
    s->wanted_ms = s->ticket && s->wanted_ms == 0 ? l->now_ms : s->wanted_ms;
}

static int64_t patience_left_ms(const struct look *l, const struct model_slot *s)
{
    return s->for_rows ? s->wanted_ms + l->m->patience_ms - l->now_ms : 0;
}

static void note_use(struct look *l, struct model_slot *s)
{
    if (is_busy(s) || s->in_use) {
        s->used_ms = l->now_ms;
    }
    s->asked_ms = s->asked || s->was_asked ? l->now_ms : s->asked_ms;
    s->was_asked = s->asked;
    if (s->n_queued > 0) {
        model_manager_want(l->m, s);
    } else if (!s->load_asked) { /* who waited has gone */
        s->ticket = 0;
    }
    note_kind(l, s);
}

static bool may_idle_out(const struct model_slot *s)
{
    return s->pinned ? s->keep_alive_ms == 0 : s->keep_alive_ms >= 0;
}

/* Those that have been told to go, and those that nobody has used for long enough. */
static void go_on_leaving(struct look *l, struct model_slot *s)
{
    if (s->state == SLOT_LOADING && s->unload_asked) {
        leave(l, s);
    } else if (s->state == SLOT_DRAINING || (s->state == SLOT_IN && s->unload_asked)) {
        drain(l, s);
    } else if (s->state == SLOT_IN && may_idle_out(s) && !is_busy(s) && !s->in_use) {
        int64_t left_ms = s->used_ms + s->keep_alive_ms - l->now_ms;
        if (left_ms > 0) {
            due_in(l, left_ms);
            return;
        }
        l->m->n_idle_unloads++;
        drain(l, s);
    }
}

static int64_t share_left_ms(const struct look *l, const struct model_slot *s)
{
    int64_t share = 2 * s->load_ms > MANAGER_SHARE_MS ? 2 * s->load_ms : MANAGER_SHARE_MS;
    return s->loaded_ms + share - l->now_ms;
}

/* Is a to go before b? Both could. */
static bool goes_first(const struct model_slot *a, const struct model_slot *b)
{
    if (is_busy(a) != is_busy(b)) {
        return !is_busy(a);
    }
    return is_busy(a) ? a->loaded_ms < b->loaded_ms : a->used_ms < b->used_ms;
}

/* Until a slot may go for rows; INT64_MAX: not by itself. */
static int64_t quiet_left_ms(const struct look *l, const struct model_slot *s)
{
    int64_t quiet = l->m->patience_ms < MANAGER_QUIET_MS ? l->m->patience_ms : MANAGER_QUIET_MS;
    return is_busy(s) ? INT64_MAX : s->asked_ms == 0 ? 0 : s->asked_ms + quiet - l->now_ms;
}

/* NULL: nobody can go now. gently: for rows that can still wait. */
static struct model_slot *choose_victim(struct look *l, bool gently)
{
    struct model_slot *best = NULL;
    for (size_t i = 0; i < l->m->n; i++) {
        struct model_slot *s = l->m->slots[i];
        if (s->state != SLOT_IN || s->pinned) {
            continue;
        }
        int64_t left_ms = gently ? quiet_left_ms(l, s) : is_busy(s) ? share_left_ms(l, s) : 0;
        if (left_ms > 0) {
            due_in(l, left_ms);
        } else if (!best || goes_first(s, best)) {
            best = s;
        }
    }
    return best;
}

/* The one that has waited longest of those behind `after`; NULL: none is left. */
static struct model_slot *next_waiting(const struct model_manager *m, uint64_t after)
{
    struct model_slot *next = NULL;
    for (size_t i = 0; i < m->n; i++) {
        struct model_slot *s = m->slots[i];
        if (s->ticket > after && (!next || s->ticket < next->ticket)) {
            next = s;
        }
    }
    return next;
}

struct room {
    uint64_t free;   /* bytes that nobody has */
    uint64_t coming; /* that those who go still have */
    uint64_t owed;   /* of both together, to those that wait and are earlier */
};

static void load(struct look *l, struct model_slot *s, struct room *room)
{
    room->free -= s->size;
    s->state = SLOT_LOADING;
    s->ticket = 0;
    s->load_asked = false;
    s->began_ms = l->now_ms;
    l->m->n_loads++;
    l->act(l->arg, s, SLOT_LOAD);
}

/* It waits for its size; others make room for it where it has not been promised any yet. */
static void make_room(struct look *l, struct model_slot *s, struct room *room)
{
    int64_t patience_ms = patience_left_ms(l, s);
    room->owed += s->size;
    if (patience_ms > 0) {
        due_in(l, patience_ms);
    }
    while (room->owed > room->free + room->coming) {
        struct model_slot *victim = choose_victim(l, patience_ms > 0);
        if (!victim) {
            return;
        }
        l->m->n_evictions++;
        room->coming += victim->size;
        drain(l, victim);
    }
}

static void place_one(struct look *l, struct model_slot *s, struct room *room)
{
    if (!model_manager_fits(l->m, s)) {
        s->ticket = 0;
        s->load_asked = false;
        l->act(l->arg, s, SLOT_REFUSE);
    } else if (s->state == SLOT_OUT && s->size <= room->free && room->owed + s->size <= room->free + room->coming) {
        load(l, s, room);
    } else {
        make_room(l, s, room);
    }
}

static void place(struct look *l)
{
    struct model_manager *m = l->m;
    uint64_t used = model_manager_used(m);
    struct room room = {.free = m->budget > used ? m->budget - used : 0};
    for (size_t i = 0; i < m->n; i++) {
        bool goes = m->slots[i]->state == SLOT_DRAINING || m->slots[i]->state == SLOT_LEAVING;
        room.coming += goes ? m->slots[i]->size : 0;
    }
    for (int last = 0; last < 2; last++) { /* those that can still wait come last */
        struct model_slot *s = NULL;
        for (uint64_t ticket = 0; (s = next_waiting(m, ticket));) {
            ticket = s->ticket;
            if ((patience_left_ms(l, s) > 0) == (last == 1)) {
                place_one(l, s, &room);
            }
        }
    }
}

/* Nobody waits for their memory any more. */
static void resume(struct look *l)
{
    for (size_t i = 0; i < l->m->n; i++) {
        const struct model_slot *s = l->m->slots[i];
        if (s->ticket && s->state != SLOT_DRAINING && patience_left_ms(l, s) <= 0) {
            return;
        }
    }
    for (size_t i = 0; i < l->m->n; i++) {
        struct model_slot *s = l->m->slots[i];
        if (s->state == SLOT_DRAINING && !s->unload_asked) {
            s->state = SLOT_IN;
            s->ticket = 0;
            s->load_asked = false;
            l->act(l->arg, s, SLOT_RESUME);
        }
    }
}

int64_t model_manager_look(struct model_manager *m, int64_t now_ms, slot_act_fn act, void *arg)
{
    struct look l = {.m = m, .now_ms = now_ms, .due_ms = -1, .act = act, .arg = arg};
    for (size_t i = 0; i < m->n; i++) {
        note_use(&l, m->slots[i]);
    }
    resume(&l);
    for (size_t i = 0; i < m->n; i++) {
        go_on_leaving(&l, m->slots[i]);
    }
    place(&l);
    return l.due_ms;
}
