/* Which models are loaded: who waits, who goes. Policy only, and pure: a state machine over slots with sizes and a
 * clock that its owner tells; it starts and ends no process. The owner says what happens, the manager says what to do.
 *
 *     model_manager_add(m, slot)                    with its size, whether it is pinned, its keep-alive
 *     model_manager_want(m, slot)                   something is queued for it
 *     model_manager_load(m, slot)                   it is to be loaded, whether or not anything is
 *     model_manager_look(m, now_ms, act, arg)       after every change, with n_queued, n_running, in_use as they are
 *     model_manager_loaded(m, slot, now_ms)         what SLOT_LOAD began is ready
 *     model_manager_out(m, slot)                    what SLOT_UNLOAD began is over; or its engine has failed for good
 *
 *        want                    loaded              others wait          nothing runs          out
 *   OUT ------> (queue) LOADING --------> IN ------------------> DRAINING -----------> LEAVING ----> OUT
 *                                         ^------ nobody waits ------'
 *
 * The rules:
 *   - The sizes of all slots that are not OUT never exceed the budget: a slot's bytes are taken before its load begins,
 *     and free only when its process is gone.
 *   - Slots are loaded in the order in which they were first wanted. A later one goes before an earlier one only into
 *     memory that the earlier one does not need.
 *   - Who is wanted for jobs that have all gone is not wanted any more, unless it is to be loaded without them.
 *   - Who makes room: of those with nothing to do, the one that was used least recently; then, of those that are busy
 *     and have had their share, the one that was loaded first. A share is MANAGER_SHARE_MS or twice the time that the
 *     last load took, whichever is longer.
 *   - A busy one is not cut off: it takes no new jobs into its engine (they queue, in order), finishes what runs, goes,
 *     and comes back in its turn. So whoever waits is loaded at the latest when those before it, and those that are in,
 *     have had a share each and have finished what they had begun.
 *   - Who is wanted for rows of batches alone comes behind all others, and room for it is made only by those that have
 *     nothing to do, and had no request for MANAGER_QUIET_MS. Once it has waited for patience_ms it is as any other,
 * but in the order of its ticket. When it is loaded it has its share as any other.
 *   - Who has nothing to do for its keep-alive goes. Pinned slots go only when they are told to,
 *     which a keep-alive of 0 does too. */
#ifndef TANDEM_GATEWAY_MODEL_MANAGER_H
#define TANDEM_GATEWAY_MODEL_MANAGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MANAGER_MAX_SLOTS 512
#define MANAGER_SHARE_MS  1000
#define MANAGER_QUIET_MS  5000 /* or patience_ms, if that is less */

enum slot_state { SLOT_OUT, SLOT_LOADING, SLOT_IN, SLOT_DRAINING, SLOT_LEAVING };

struct model_slot { /* a plain value inside of what it stands for */
    /* The owner's; may change at any time, but for the size, which may change only while it is OUT. */
    uint64_t size; /* bytes, from the begin of its load until it is out */
    bool pinned;
    int64_t keep_alive_ms; /* -1: it stays until others need its memory; of a pinned one only 0 counts */
    uint32_t n_queued;     /* jobs that wait outside of its engine */
    uint32_t n_rows;       /* of them: rows of batches, which nobody waits for */
    uint32_t n_running;    /* jobs that its engine has */
    bool asked;            /* some of either are no rows */
    bool in_use;           /* it is not idle, whatever the two say: an answer is still being taken */
    /* The manager's; to be read. */
    enum slot_state state;
    uint64_t ticket;   /* its place among those that want to be loaded, smaller is earlier; 0: it does not */
    bool for_rows;     /* the ticket is for rows alone */
    int64_t wanted_ms; /* since when it has its ticket, as the looks have seen it */
    bool load_asked;   /* it keeps its ticket though nothing is queued */
    bool unload_asked; /* it goes when nothing runs, whether or not others wait */
    int64_t began_ms;  /* LOADING: since then; and how long the last one took */
    int64_t load_ms;
    int64_t loaded_ms;
    int64_t used_ms;  /* when it was last seen with something to do */
    int64_t asked_ms; /* likewise, but for rows; 0: never */
    bool was_asked;   /* at the last look */
};

struct model_manager {                           /* a plain value; zeroed but for the budget it is empty */
    uint64_t budget;                             /* bytes; UINT64_MAX: no limit */
    struct model_slot *slots[MANAGER_MAX_SLOTS]; /* [n]; the owner's */
    size_t n;
    int64_t patience_ms; /* of rows of batches; 0: they are as any other job */
    uint64_t last_ticket;
    uint64_t n_loads, n_evictions, n_idle_unloads; /* begun; evictions: because others needed the memory */
};

enum slot_act {
    SLOT_LOAD,   /* start its engine */
    SLOT_HOLD,   /* its engine takes no new jobs: they queue */
    SLOT_RESUME, /* it does again */
    SLOT_UNLOAD, /* end its engine; nothing runs in it */
    SLOT_REFUSE  /* it is wanted and can never fit: fail what is queued */
};
/* Must not call the manager but model_manager_want and model_manager_load. */
typedef void (*slot_act_fn)(void *arg, struct model_slot *slot, enum slot_act act);

bool model_manager_add(struct model_manager *m, struct model_slot *slot); /* OUT; false: MANAGER_MAX_SLOTS are there */
void model_manager_remove(struct model_manager *m, struct model_slot *slot); /* OUT; nothing when it is not there */

void model_manager_want(struct model_manager *m, struct model_slot *slot); /* until nothing is queued any more */
void model_manager_load(struct model_manager *m, struct model_slot *slot); /* until it is loaded, or told to go */
/* It goes once nothing runs in it, pinned or not. What is queued then has it loaded again. */
void model_manager_unload(struct model_manager *m, struct model_slot *slot);
void model_manager_loaded(struct model_manager *m, struct model_slot *slot, int64_t now_ms);
void model_manager_out(struct model_manager *m, struct model_slot *slot);
/* A request, which is no row, has ended in it: it may have come after the last look. */
void model_manager_note_asked(struct model_slot *slot, int64_t now_ms);

/* Does what is to be done now. Milliseconds after which it is worth looking again though nothing has changed; -1:
 * never. */
int64_t model_manager_look(struct model_manager *m, int64_t now_ms, slot_act_fn act, void *arg);

uint64_t model_manager_used(const struct model_manager *m); /* bytes of slots not OUT */
uint64_t model_manager_pinned(const struct model_manager *m,
                              const struct model_slot *but); /* of pinned ones but this */
/* It could be loaded if nothing but the pinned ones were there. */
bool model_manager_fits(const struct model_manager *m, const struct model_slot *slot);
size_t model_manager_n_waiting(const struct model_manager *m); /* slots with a ticket */

#endif
