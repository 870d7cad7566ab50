/* The journal: requests that outlive their client, the gateway and the machine. One SQLite database in WAL mode; it
 * knows requests, their bodies, tokens and results as bytes, and nothing of what they mean.
 *
 *     j = journal_open(&options, &err);
 *     journal_insert(j, &meta, body, (struct journal_done){on_inserted, arg}, &err);     committed when on_inserted
 * says so journal_update(j, updates, n, done, &err);     tokens and states of many requests in one transaction
 *     journal_read(j, id, key_name, JOURNAL_ALL, done, &err);
 *     journal_close(j);
 *
 * Threads: everything here is called on the loop's thread and never waits; a thread writes, another reads, each over
 * its own connection and a bounded queue. `done` is called on the loop's thread, exactly once for every call that
 * returned true. What a call is given (strings, arrays) must live until then. Several writes that wait are committed
 * together.
 *
 * Durability: with normal sync a commit survives the death of the process (kill -9), with full sync also a power loss.
 * Every row of tokens and every body and result has a checksum; what does not match it is never given out.
 *
 * When the disk is full or broken, writes fail with UNAVAILABLE and the reason, new requests at once (journal_failing),
 * until a write succeeds again, which is tried every second. */
#ifndef TANDEM_GATEWAY_JOURNAL_H
#define TANDEM_GATEWAY_JOURNAL_H

#include "base/arena.h"
#include "base/loop.h"
#include "wire/job.h"

struct journal;

/* X(id, name) */
#define JOURNAL_STATE_TABLE(X) \
    X(QUEUED, "queued")        \
    X(RUNNING, "running")      \
    X(COMPLETED, "completed")  \
    X(FAILED, "failed")        \
    X(CANCELLED, "cancelled")
enum journal_state {
#define X(id, name) JOURNAL_##id,
    JOURNAL_STATE_TABLE(X)
#undef X
        JOURNAL_STATE_COUNT
};
const char *journal_state_name(enum journal_state s);
bool journal_state_ended(enum journal_state s); /* completed, failed or cancelled */

/* Of batches (journal_files.h), in OpenAI's words. X(id, name) */
#define BATCH_STATE_TABLE(X)      \
    X(VALIDATING, "validating")   \
    X(IN_PROGRESS, "in_progress") \
    X(FINALIZING, "finalizing")   \
    X(CANCELLING, "cancelling")   \
    X(COMPLETED, "completed")     \
    X(FAILED, "failed")           \
    X(EXPIRED, "expired")         \
    X(CANCELLED, "cancelled")
enum batch_state {
#define X(id, name) BATCH_##id,
    BATCH_STATE_TABLE(X)
#undef X
        BATCH_STATE_COUNT
};
const char *batch_state_name(enum batch_state s);
bool batch_state_ended(enum batch_state s); /* completed, failed, expired or cancelled */

struct journal_options {
    struct loop *loop;
    const char *dir;                 /* made when it is missing, with mode 0700 */
    bool full_sync;                  /* survive a power loss: an fsync per commit */
    uint64_t max_size;               /* bytes of the database; finished requests make room, oldest first; 0: no limit */
    int64_t max_age_s;               /* of finished requests; 0: no limit */
    int64_t upkeep_ms;               /* between looks at limits; 0: 5 s */
    void (*on_statement)(void *arg); /* tests: before and after each statement that writes, on the writing thread */
    void *on_statement_arg;
};

/* Refuses a database that is damaged, of a later version, somebody else's or in use; the error names the file. */
NODISCARD struct journal *journal_open(const struct journal_options *options, struct error *err);
/* Ends the threads when all that was accepted is written; what is done by then is told from inside. */
void journal_close(struct journal *j);

/* Is the last thing known of the database that it cannot be written? Then *why says so. */
bool journal_failing(const struct journal *j, struct error *why);

struct journal_stats {
    uint64_t failing;                       /* 0 or 1 */
    uint64_t commits, errors;               /* transactions; those that failed */
    uint64_t refused;                       /* new requests */
    uint64_t dropped;                       /* finished requests that made room or were too old */
    uint64_t damaged;                       /* rows whose checksum was wrong */
    uint64_t size, max_size;                /* bytes in use */
    uint64_t requests[JOURNAL_STATE_COUNT]; /* this and what follows: a few seconds old at most */
    uint64_t batches[BATCH_STATE_COUNT];
    uint64_t files, file_size; /* those that are complete */
    uint64_t all_file_size;    /* with those that are written, uploads and outputs of batches; as of the last write */
};
struct journal_stats journal_stats(const struct journal *j);

/* ---- what it holds ---- */

struct journal_meta { /* a request without body, tokens and result */
    struct str id, route, key_name, model;
    struct str fingerprint;  /* of the engine that made its tokens; empty: there are none */
    struct str resumed_from; /* that of an engine whose tokens another one continued; empty: no such thing */
    struct str reason;       /* why it waits; empty */
    struct str details;      /* the caller's, opaque */
    enum journal_state state;
    bool background;
    int64_t created_s, finished_s /* 0: not yet */, expires_s;
    uint64_t seed, size, n_tokens; /* size: bytes of body, tokens and result; n_tokens: generated */
    uint32_t starts;               /* in vain: those of this program or another since it had its last new token */
    struct error error;            /* FAILED */
};

#define JOURNAL_PROMPT_SCORES UINT32_MAX       /* as a choice: the prompt's own tokens */
#define JOURNAL_CALLS         (UINT32_MAX - 1) /* likewise: calls of tools, each in a row with n 1 */

struct journal_tokens { /* tokens of one choice as they were saved together */
    uint32_t prompt, choice, first, n;
    struct str data;
    enum finish_reason finish; /* not NONE: the last of its choice; n may be 0 */
    int32_t stop_id;
};

struct journal_record {
    struct journal_meta meta;
    struct str body, result;           /* empty unless asked for, or damaged */
    const struct journal_tokens *rows; /* [n_rows] by prompt, choice and first; a choice ends before a damaged row */
    size_t n_rows;
    bool damaged; /* something was not given out because its checksum was wrong */
};

struct journal_file; /* journal_files.h */
struct journal_batch;
struct journal_piece;

/* What came of a call. */
struct journal_answer {
    bool ok;
    struct error error;             /* not ok: OVERLOADED, UNAVAILABLE, NOT_FOUND, IO */
    struct arena *arena;            /* owns the records; freed after done unless done sets it to NULL and keeps it */
    struct journal_record *records; /* [n] */
    struct journal_file *files;     /* [n]; likewise what follows, by what was asked for */
    struct journal_batch *batches;
    struct journal_piece *pieces;
    uint64_t *numbers;
    size_t n;
    bool more; /* list: there are others behind the last */
};
struct journal_done {
    void (*fn)(void *arg, struct journal_answer *answer);
    void *arg;
};

/* ---- calls; false: not accepted, *err says why, and done is not called ---- */

/* A new request, queued. Its created_s, expires_s, size and n_tokens are the journal's to set. OVERLOADED: the journal
 * is full of requests that have not ended. */
NODISCARD bool journal_insert(struct journal *j, const struct journal_meta *meta, struct str body,
                              struct journal_done done, struct error *err);

struct journal_update {
    struct str id;
    bool count_start;                    /* one more start; nothing else changes */
    bool forget_starts;                  /* it was put aside in good order; new tokens do the same */
    bool state_only;                     /* state, reason and error; the rest of it stays as it is */
    bool forget_tokens;                  /* first: what was saved of it was damaged */
    const struct journal_tokens *tokens; /* [n_tokens] to add; a row at a place that is taken replaces that one */
    size_t n_tokens;
    enum journal_state state;
    struct str fingerprint, resumed_from, reason, details;
    uint64_t n_generated;
    struct error error;
    struct str result; /* empty: none */
};
/* A request that is not there any more is passed over. */
NODISCARD bool journal_update(struct journal *j, const struct journal_update *updates, size_t n,
                              struct journal_done done, struct error *err);

/* Removes a request that has ended, of that key. NOT_FOUND: there is none. */
NODISCARD bool journal_remove(struct journal *j, struct str id, struct str key_name, struct journal_done done,
                              struct error *err);

enum journal_part { JOURNAL_META = 0, JOURNAL_BODY = 1, JOURNAL_TOKENS = 2, JOURNAL_RESULT = 4, JOURNAL_ALL = 7 };
/* One request. key_name {NULL, 0}: of any key. NOT_FOUND: there is none of that key. */
NODISCARD bool journal_read(struct journal *j, struct str id, struct str key_name, int parts, struct journal_done done,
                            struct error *err);

/* Those of a key, newest first, behind the one with the id `after` (empty: from the first); at most limit. */
NODISCARD bool journal_list(struct journal *j, struct str key_name, struct str after, uint32_t limit,
                            struct journal_done done, struct error *err);
/* Those that have not ended, of all keys, oldest first, behind the one with the id `after`. */
NODISCARD bool journal_unfinished(struct journal *j, struct str after, uint32_t limit, struct journal_done done,
                                  struct error *err);

#endif
