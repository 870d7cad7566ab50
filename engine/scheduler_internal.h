/* Shared by the scheduler's files only:
 *
 *     scheduler.c        requests: accept, end, cancel, deadlines; queue and running list
 *     scheduler_pages.c  pages of a sequence: hits, growth, copy-on-write, windows, preemption
 *     scheduler_state.c  pages of groups of states: which blocks have one
 *     scheduler_tail.c   seals of the blocks that are being filled, and hits on those of an engine before
 *     scheduler_admit.c  who starts
 *     scheduler_pool.c   how much of the pool is for use, and what running sequences will need of it
 *     scheduler_disk.c   blocks to and from the disk tier
 *     scheduler_rows.c   rows of a step: who decodes, how much of which prompt
 *     scheduler_draft.c  guesses of tokens that are checked in it
 *     scheduler_constrain.c  masks of those whose job has a constraint
 *     scheduler_step.c   the batch, and what comes out of it
 *     scheduler_bad.c    rows whose numbers are not finite; steps that find no memory
 *     scheduler_ahead.c  the next step before this one is read, where the executor is lazy
 *     scheduler_check.c  recount for tests */
#ifndef TANDEM_ENGINE_SCHEDULER_INTERNAL_H
#define TANDEM_ENGINE_SCHEDULER_INTERNAL_H

#include "engine/drafter.h"
#include "engine/events.h"
#include "engine/scheduler.h"
#include "engine/step_cost.h"

/* Rows of one scored prompt in a step: each of them has logits, 256 MiB of them with a vocabulary of 1 M. */
#define SCORE_ROWS 64

/* After a step that found no memory: so many steps with what made it small enough. */
#define MEMORY_PAUSE 256

#define MAX_DRAFTERS 2 /* what the text repeats; a draft model */

/* One step: what was planned, and who gets what comes out of it. */
struct flight {
    struct batch batch;
    int32_t *ids, *positions, *prev_row; /* [max_batch_tokens] */
    int32_t *out_rows;                   /* [max_samples] */
    struct batch_seq *seqs;              /* [max_sequences] */
    struct sequence **members;           /* [batch.n_seqs] */
    struct sample_row *rows;             /* [n_samples] of [max_samples] */
    struct executor_owner *owners;
    struct sequence **targets; /* whose token it is; NULL: a prompt's logprob */
    struct sample_result *results;
    uint32_t n_samples, n_forks, n_decodes;
    uint32_t n_sampling; /* sequences that get tokens */
    struct step_shape shape;
    struct tensor *sampled; /* handle of the samples, once enqueued */
};

struct scheduler {
    const struct engine_config *config;
    int n_groups;
    struct executor *x;
    bool has_states;      /* some group is one of states */
    uint32_t state_every; /* blocks from one border whose states are kept to the next, on the way */
    bool lost_step;       /* an enqueued step failed, behind one that is to be read */
    struct kv_pool *kv;
    struct prefix_cache *cache;
    struct kv_seals *seals;                          /* NULL: pages are not sealed */
    struct kv_disk *disk;                            /* NULL: none */
    struct {                                         /* what reading and computing cost, as observed */
        double token_ns;                             /* of prefill; 0: not known */
        double block_ns;                             /* of reading; 0: not known */
        uint64_t rows_prefill, rows_decode, step_ns; /* statistics when it was last looked at */
    } costs;
    uint32_t n_loading, n_unread; /* sequences whose hit is being read; blocks that have not come */
    uint64_t n_loads;             /* tickets given out */
    struct events events;
    struct engine_stats stats;
    _Atomic uint64_t *expected_ns; /* NULL: nobody wants to know */
    atomic_uint *n_unstarted;
    bool paused;
    size_t verify_left; /* bytes of adopted pages that may still be checked in this step */

    struct request *requests; /* all, newest first */
    struct request *ended;    /* freed at the end of the step: its plan may name them */
    uint64_t n_arrived;
    uint32_t n_requests, n_active; /* requests; of them with a running sequence */
    int64_t next_deadline_ns;      /* no request's deadline is earlier; INT64_MAX: none has one */
    int64_t stats_sent_ns;

    /* Both by (priority, arrival, choice). */
    struct sequence *queue, *queue_tail;
    struct sequence **running; /* [n_running] of [max_sequences] */
    uint32_t n_running;
    uint32_t decode_turn; /* where decoding goes on when not all fit into a step */

    struct step_cost cost;                  /* what steps take */
    double group_share[KV_MAX_GROUPS];      /* of a position's K and V */
    struct drafter *drafters[MAX_DRAFTERS]; /* [n_drafters] owned, the cheaper first */
    int n_drafters;
    uint32_t draft_pause;             /* steps to come without guesses */
    uint32_t short_steps, short_rows; /* steps to come with at most so many rows, since memory was short; 0: any */
    uint32_t admit_pause;             /* steps to come in which nobody is admitted beside those that run, likewise */

    uint32_t n_memory_tries; /* of the sequence that is alone, in vain */

    struct bad_job *bad; /* [n_bad] of [max_sequences] to be handed out behind this step */
    uint32_t n_bad;
    bool (*on_bad)(void *arg, const struct bad_job *bad, struct error *err); /* NULL: they fail */
    void *on_bad_arg;
    struct error device_error; /* NONE: there was none */
    bool keeps_device_error;

    struct sequence **prefills; /* [max_sequences] scratch, like the next two */
    struct draft *drafts;
    struct draft **asked;
    uint32_t max_samples;
    uint32_t *masks; /* [max_sequences][mask words] of a step; NULL until the first job with a constraint */
    struct {
        uint64_t limit; /* bytes for use; UINT64_MAX: all */
        bool urgent, moving;
    } pool;
    struct {             /* tokens of an answer, as observed */
        double expected; /* a moving mean */
        double factor;   /* of it that admission makes room for: more after sequences had to give way */
    } output;
    struct flight flights[2]; /* the second for running ahead */
    struct flight *f;         /* the step that is being made or settled */
    struct flight *ahead;     /* enqueued, to be settled by the next call of scheduler_step; NULL: none */
};

/* ---- scheduler.c ---- */
bool scheduler__before(const struct sequence *a, const struct sequence *b);
void scheduler__enqueue(struct scheduler *s, struct sequence *q);
void scheduler__dequeue(struct scheduler *s, struct sequence *q);
void scheduler__run(struct scheduler *s, struct sequence *q);  /* joins the running ones */
void scheduler__stop(struct scheduler *s, struct sequence *q); /* leaves them; its pages are released */
void scheduler__finish(struct scheduler *s, struct sequence *q, enum finish_reason reason); /* an empty TOKENS event */
void scheduler__end(struct scheduler *s, struct sequence *q); /* without an event: the last TOKENS had the reason */
void scheduler__fail(struct scheduler *s, struct request *r, const struct error *error);
void scheduler__remove(struct scheduler *s, struct request *r); /* without an event: it goes on elsewhere */
void scheduler__start(struct scheduler *s, struct request *r, uint32_t n_cached); /* STARTED, once */
void scheduler__expire(struct scheduler *s, int64_t now_ns);
struct request *scheduler__find_request(struct scheduler *s, uint64_t job); /* NULL: it is not here */

/* ---- scheduler_pages.c ---- */
bool scheduler__uses_cache(const struct scheduler *s, const struct request *r);
NODISCARD bool scheduler__update_keys(struct scheduler *s, struct sequence *q); /* of all whole blocks of its tokens */
void scheduler__release_pages(struct scheduler *s, struct sequence *q);
struct sha256 scheduler__parent_key(struct scheduler *s, const struct sequence *q, uint32_t block);
/* n_part: positions of the part q->part behind them; 0: none. */
void scheduler__take_hit(struct scheduler *s, struct sequence *q, uint32_t n_blocks, uint32_t n_part);
/* Adds the pages q lacks to have n_tokens positions. */
void scheduler__add_need(const struct scheduler *s, const struct sequence *q, uint32_t n_tokens,
                         uint32_t need[KV_MAX_GROUPS]);
/* Pages for its planned rows, taking them from others if need be. False: it is not running any more. */
bool scheduler__prepare(struct scheduler *s, struct sequence *q);
/* Pages and memory for the row after its planned one, without taking any from others; the token is not known yet. */
bool scheduler__prepare_after(struct scheduler *s, struct sequence *q);
void scheduler__preempt(struct scheduler *s, struct sequence *q);
void scheduler__share_pages(struct scheduler *s, const struct sequence *from, struct sequence *to);
void scheduler__offer_blocks(struct scheduler *s, struct sequence *q); /* computed ones, to the prefix cache */
void scheduler__forget_blocks(struct scheduler *s, struct sequence *q);
void scheduler__expect_blocks(struct scheduler *s, struct sequence *q);

/* ---- scheduler_state.c: all of it does nothing without groups of states ---- */
void scheduler__init_states(struct scheduler *s);
/* Blocks of q's tokens that a hit may have: all whole ones, or, where a state cannot be computed again from itself,
 * those before its last token. */
uint32_t scheduler__hit_blocks(const struct scheduler *s, const struct sequence *q);
/* Of the blocks from `first` on that somebody computes: the key to wait for. */
const struct sha256 *scheduler__await(struct scheduler *s, const struct sequence *q, uint32_t first);
/* First block whose state is of use to a sequence that has computed n positions. */
uint32_t scheduler__first_state(const struct scheduler *s, uint32_t n);
uint32_t scheduler__states_held(const struct sequence *q, int group);
uint32_t scheduler__states_needed(const struct sequence *q); /* at most, from now on */
/* Pages for the states behind a block, unless there are. False: no page is left, and none was taken. */
bool scheduler__hold_states(struct scheduler *s, struct sequence *q, uint32_t block);
/* Pages for states at borders that are to be cached, in all planned rows: as far as they cost nobody anything. */
void scheduler__keep_states(struct scheduler *s);
/* Whether the states behind this whole block go to the cache. */
bool scheduler__keeps_states(const struct scheduler *s, const struct sequence *q, uint32_t block);
void scheduler__drop_states(struct scheduler *s, struct sequence *q);  /* those that are of no use any more */
void scheduler__leave_states(struct scheduler *s, struct sequence *q); /* to the cache, before its pages go */
/* A step that had q's next rows did not count, but wrote its states: they are computed again from the last border. */
void scheduler__rewind(const struct scheduler *s, struct sequence *q);
void scheduler__rewind_members(const struct scheduler *s); /* all of s->f that still run */

/* ---- scheduler_tail.c: all of it does nothing without seals of parts (kv_seal.h) or with groups of states ---- */
/* After a step: what its members have computed of the block that they are filling. */
void scheduler__seal_tails(struct scheduler *s);
/* The page is whole: unless the cache has it, which sealed it so, it has no seal any more. */
void scheduler__end_tail(struct scheduler *s, int group, uint32_t page);
/* Positions of the longest part behind n_blocks blocks, whose key is in q->part then; 0: there is none. */
uint32_t scheduler__find_part(struct scheduler *s, struct sequence *q, uint32_t n_blocks);

/* ---- scheduler_bad.c ---- */
void scheduler__bad_numbers(struct scheduler *s, struct sequence *q); /* q gave some: its request ends here */
void scheduler__hand_out(struct scheduler *s);                        /* those of this step, behind its events */
/* Too little memory for one sequence, beside so many others that run: true when it may wait for them or try again. */
bool scheduler__may_wait(struct scheduler *s, uint32_t n_others);
/* Too little memory for s->f: what is to be done so that the next one needs less. False: nothing is left to do. */
bool scheduler__make_smaller(struct scheduler *s);
void scheduler__note_memory(struct scheduler *s); /* a step had enough */
uint32_t scheduler__max_rows(const struct scheduler *s);

/* ---- scheduler_ahead.c ---- */
/* Enqueues the step after s->f, which is enqueued and not read. NULL: it is not to be, or cannot be. */
struct flight *scheduler__run_ahead(struct scheduler *s);
/* The plans of its members as they were when it was made; members that ended meanwhile keep none. */
void scheduler__recall_plans(struct scheduler *s);

/* ---- scheduler_rows.c ---- */
uint32_t scheduler__remaining(const struct sequence *q); /* tokens to compute; none yet while a hit is read from disk */
void scheduler__choose_rows(struct scheduler *s);
double scheduler__reads(const struct scheduler *s, uint32_t position); /* positions that a row there attends to */
void scheduler__add_shape(const struct scheduler *s, const struct sequence *q, struct step_shape *shape); /* its rows */

/* ---- scheduler_draft.c ---- */
/* Whether q's tokens may be guessed at all. */
bool scheduler__may_draft(const struct scheduler *s, const struct sequence *q);
void scheduler__plan_drafts(struct scheduler *s, uint32_t budget); /* in at most so many rows */
/* After a step that did not fit into memory: true if it had guesses; then the next ones will have none. */
bool scheduler__drop_drafts(struct scheduler *s);
void scheduler__forget_drafts(struct scheduler *s, struct sequence *q);

/* ---- scheduler_constrain.c ---- */
void scheduler__find_masks(struct scheduler *s); /* of all that sample in the step, in plan.mask; some may fail */
/* No constraint of q's has a say in its next token. */
bool scheduler__is_free(const struct sequence *q);
/* What q samples becomes a token of it. False: its constraint forbids it. */
NODISCARD bool scheduler__accept_token(const struct sequence *q, int32_t id, struct error *err);

/* ---- scheduler_step.c ---- */
bool scheduler__will_sample(
    const struct sequence *q); /* q's rows of the step, which it has some of, end with a sample */
NODISCARD bool scheduler__enqueue_step(struct scheduler *s, struct flight *f, struct error *err);

/* ---- scheduler_pool.c ---- */
void scheduler__init_pool(struct scheduler *s);
void scheduler__resize_pool(struct scheduler *s); /* towards its limit; while no step is enqueued */
/* Adds the pages q lacks to have what it is expected to grow to, siblings that will share its prompt included. */
void scheduler__add_growth(const struct scheduler *s, const struct sequence *q, uint32_t need[KV_MAX_GROUPS]);
void scheduler__note_output(struct scheduler *s, const struct sequence *q); /* it has ended by itself */
void scheduler__note_shortage(struct scheduler *s);                         /* somebody gave way for want of pages */

/* ---- scheduler_admit.c ---- */
void scheduler__admit(struct scheduler *s);
/* Room for q's tokens beside what runs already, and for `more` pages of each group. */
bool scheduler__has_room(const struct scheduler *s, const struct sequence *q, const uint32_t more[KV_MAX_GROUPS]);
void scheduler__note_started(struct scheduler *s, struct sequence *q); /* its hit is known: n_computed */

/* ---- scheduler_disk.c: all of it does nothing without a disk tier ---- */
void scheduler__poll_disk(struct scheduler *s); /* what was read and what it cost; before anybody is admitted */
/* Blocks of the longest hit with what is on disk, when it is longer than n_in_memory and reading it pays; else 0. */
uint32_t scheduler__plan_load(struct scheduler *s, struct sequence *q, uint32_t n_in_memory);
/* Takes that hit: pages in memory, and others that are about to be read. False: no room; nothing is taken. */
bool scheduler__begin_load(struct scheduler *s, struct sequence *q, uint32_t n_blocks);
void scheduler__finish_load(struct scheduler *s, struct sequence *q); /* nothing is left to be read */
void scheduler__end_load(struct scheduler *s, struct sequence *q);    /* whatever is still to come is not wanted */
void scheduler__offer_to_disk(struct scheduler *s, struct sequence *q, uint32_t block);
void scheduler__leave_on_disk(struct scheduler *s, struct sequence *q); /* before its pages are released */
void scheduler__read_ahead(struct scheduler *s);                        /* for those that wait in the queue */
void scheduler__disk_stats(struct scheduler *s);

#endif
