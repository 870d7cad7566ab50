/* A request is a job inside the engine: the copy of the job, what follows from it, and one sequence per choice. A
 * sequence is what is scheduled: its tokens (prompt and output, which are its whole state), how many of their positions
 * are computed, and the pages that hold those.
 *
 *     tokens   | prompt ............ | output ... | next |
 *     computed |=================================|        n_computed <= n_tokens - 1 once the prompt is done
 *     blocks   | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 |           tables[group][block]; keys[block] of whole blocks
 *     states                         s   s                 of a group of states: few blocks have a page
 *
 * A request is created by the thread that submits it and belongs to the engine's thread from then on. */
#ifndef TANDEM_ENGINE_REQUEST_H
#define TANDEM_ENGINE_REQUEST_H

#include "engine/prefix_cache.h"
#include "grammar/constraint.h"
#include "wire/job.h"

/* What the engine resolved at creation; const afterwards, any thread. */
struct engine_config {
    struct kv_geometry geometry;
    int window[KV_MAX_GROUPS]; /* of the groups; 0: all */
    bool state[KV_MAX_GROUPS]; /* groups of states (backend.h); their window is 2 */
    uint32_t page_tokens, n_vocab, n_context;
    uint32_t max_sequences, max_batch_tokens, max_waiting;
    uint32_t prefill_chunk; /* rows of one prompt in a step; 0: as the budget allows */
    bool prefix_cache, test_hooks;
    bool constraints;             /* jobs may have them: there is a tokenizer to make them with */
    size_t verify_size;           /* tests: bytes of adopted pages that are checked in a step; 0: as usual */
    bool reserve_output;          /* admission leaves room for what answers are expected to grow to */
    bool disk_always;             /* tests: what is on disk is read, whatever it costs */
    enum speculation speculation; /* of jobs that leave it open; DEFAULT: off */
    uint32_t max_drafts;          /* guessed tokens of one sequence in a step, at most DRAFT_MAX */
    float max_itl_factor;         /* prefill may make a step this much longer than its decode rows need; 0: any */
    struct sha256 root;           /* of all keys: model, KV type */
    const int32_t *eog_ids;       /* [n_eog_ids] */
    uint32_t n_eog_ids;
};

/* Pages of a group of states that a sequence holds at most: behind its last row and behind the last border before that,
 * before a step and after it. While it decodes they are the same ones. */
#define STATES_HELD     4
#define STATES_DECODING 2

enum sequence_state { SEQUENCE_WAITING, SEQUENCE_RUNNING, SEQUENCE_DONE };

struct sequence {
    struct request *request;
    uint32_t choice;
    enum sequence_state state;
    struct sequence *prev, *next; /* in the queue, while waiting */

    int32_t
        *tokens; /* [n_tokens] of [cap_tokens], guesses behind them; NULL until it is looked at for the first time */
    uint32_t n_tokens, cap_tokens;
    uint32_t n_computed;

    uint32_t *tables[KV_MAX_GROUPS];     /* [n_blocks] of [cap_blocks] */
    uint32_t first_block[KV_MAX_GROUPS]; /* blocks before it are KV_PAGE_NONE: out of the window. Of a group of states
                                            so are most of those behind it (scheduler_state.c) */
    struct sha256 *keys;                 /* [n_keys] of [cap_blocks] */
    uint32_t n_blocks, n_keys, cap_blocks;
    uint32_t n_inserted;             /* blocks that were offered to the prefix cache */
    uint32_t n_chain;                /* blocks of its tokens that were there when it was admitted, hit or not */
    uint32_t n_part;                 /* positions at the end of its hit that came from the part of a block ... */
    struct sha256 part;              /* ... with this key; 0: none, or it has sealed more itself since */
    bool forgotten;                  /* what it computes is not to be used by others */
    uint32_t expect_from, expect_to; /* blocks that the cache was told to expect */
    struct {                         /* blocks of a hit that are being read from disk (scheduler_disk.c) */
        uint64_t ticket;             /* of its reads; 0: nothing is being read, and the rest has no meaning */
        uint8_t *groups;             /* [n_blocks] bit set: pages still to be read; owned */
        uint32_t n_blocks;
        uint32_t next, n_left; /* block to ask for next; blocks that have not come */
        uint32_t n_read;       /* blocks that have */
        int64_t start_ns, last_ns;
        bool failed;
    } load;
    bool no_load;    /* reading failed once or was too slow: what is not in memory is computed */
    bool read_ahead; /* what it will find on disk was announced */
    bool waits;      /* for the block with the key wait_key, which somebody computes */
    struct sha256 wait_key;
    uint32_t n_alone; /* times it had the pool for itself and ran out of pages */

    struct lookup *lookup;       /* of the drafter that looks tokens up; NULL: not asked yet */
    struct draft_state *drafted; /* of the draft model; likewise */

    struct constraint_state *constraint; /* owned; behind all of its tokens; NULL: none, or not there yet */

    bool scores; /* its rows give the prompt's logprobs */
    struct {     /* this step; rows 0: not part of it */
        uint32_t rows, first_sample, n_scores;
        uint32_t n_drafts; /* of the rows: guesses, which stand in tokens behind n_tokens */
        bool by_model;     /* the draft model's */
        bool samples;
        const uint32_t *mask; /* of the token that it samples; NULL: any may come */
        bool forked;          /* started by this step from its sibling's prompt */
    } plan;
};

struct request {
    struct job *job;             /* owned */
    struct request *prev, *next; /* all requests of the scheduler */
    uint64_t arrival;
    int64_t created_ns;         /* its queue time begins */
    int64_t deadline_ns;        /* 0: none */
    uint32_t n_left, n_running; /* choices that have not finished; of them running */
    bool started;               /* ENGINE_STARTED was sent */
    bool unconstrained;         /* it waits for the states of its constraint */
    uint32_t n_done;            /* of the prompt, as reported */
    uint32_t n_scored;          /* prompt logprobs sent */
    struct sequence *scorer;    /* who computes them, while it runs */
    struct sequence *leader;    /* computes the prompt for its siblings, while it does */
    struct logit_bias *bias;    /* [job->n_bias], unique */
    uint32_t n_bias;
    int32_t banned[SAMPLE_MAX_BANNED]; /* [n_banned] before min_tokens; more of them: mask */
    uint32_t n_banned;
    uint32_t *min_mask;          /* [ceil(n_vocab / 32)] or NULL */
    struct sequence sequences[]; /* [job->n_choices] */
};

/* Checks the job against the model and copies it. INVALID, UNSUPPORTED, CONTEXT_EXCEEDED, NO_MEMORY. Any thread. */
NODISCARD struct request *request_create(const struct engine_config *config, const struct job *job, struct error *err);
void request_free(struct request *r); /* pages must have been released */

bool request_is_end_id(const struct request *r, const struct engine_config *config, int32_t id);
uint32_t sequence_n_output(const struct sequence *q);
const int32_t *sequence_output(const struct sequence *q); /* [sequence_n_output]; NULL when there are none */
/* How a choice that has these tokens ended; *stop_id as in ENGINE_TOKENS. FINISH_NONE: it goes on. At the end of its
 * grammar it has stopped, also where ends of generation are ignored or min_tokens are not there. */
enum finish_reason sequence_finish(const struct sequence *q, const struct engine_config *config, int32_t *stop_id);

/* Makes the tokens (prompt and accepted ones) unless they are there. False: no memory. */
NODISCARD bool sequence_load(struct sequence *q);
NODISCARD bool sequence_reserve_tokens(struct sequence *q, uint32_t n);
NODISCARD bool sequence_reserve_blocks(struct sequence *q, uint32_t n_blocks, int n_groups);
/* Frees what it holds in memory; its pages must have been released. */
void sequence_unload(struct sequence *q);

#endif
