/* Shared by the files of the kept requests only:
 *
 *     kept.c          their life and their readers
 *     kept_start.c    how they begin
 *     kept_save.c     into the journal
 *     kept_calls.c    what became of the calls of MCP tools, to it and back
 *     kept_resume.c   out of it, to go on
 *     kept_rebuild.c  a request out of what the journal holds of it */
#ifndef TANDEM_API_KEPT_INTERNAL_H
#define TANDEM_API_KEPT_INTERNAL_H

#include "api/kept/kept.h"
#include "pipeline/generation_kept.h"

#define KEPT_SAVE_MS     100
#define KEPT_RETRY_MS    1000 /* until the journal, or an engine that refused, is tried again */
#define KEPT_LOST_MAX    3    /* engines that it may lose before it fails */
#define KEPT_SUSPECT     2    /* starts in vain after which it is started alone ... */
#define KEPT_STARTS_MAX  5    /* ... and after which it fails */
#define KEPT_RUNNING_MAX 256  /* at once; the others wait in the journal */

enum kept_phase { KEPT_INSERTING, KEPT_WAITING, KEPT_LOADING, KEPT_RUNNING, KEPT_ENDED, KEPT_DONE };

struct kept {
    struct kept_set *set;
    struct kept *prev, *next;
    enum kept_phase phase;
    char id[48], key_name[64], model[288];
    bool background;
    int64_t expires_s, retry_ms; /* WAITING: not before */

    struct call *call;             /* RUNNING and later; NULL: it has ended without */
    struct generation *generation; /* likewise */
    struct gen_reply *readers;
    bool feeding;

    /* what the journal has */
    struct gen_mark *saved,
        *sending; /* [n_choices]; of a request with MCP tools those of its turns, for all that it may have */
    size_t n_choices, n_turns; /* n_turns: that the details speak of */
    bool scores_saved, scores_sending;
    enum journal_state saved_state;
    bool in_save, tokens_sent, forget_tokens, end_sent;
    /* what it should have */
    bool dirty; /* more than tokens has changed */
    enum journal_state state;
    char fingerprint[17], resumed_from[17], reason[ERROR_MSG_SIZE];
    uint64_t n_restored; /* tokens of another process */
    uint32_t starts;     /* of programs that ended before it had a new token */
    struct journal_update start;
    int n_lost; /* engines, in this process */
    bool has_fingerprint;
    char awaits[LIMIT_MCP_SERVER_NAME + 1]; /* the MCP server that it waits for; "": none */
    struct error error;
    struct buf details, result;

    bool requeue; /* ENDED: it waits again */
    void (*on_cancelled)(void *arg, bool ok, const struct error *err);
    void *on_cancelled_arg;
};

struct kept_reading {
    bool live, stream;             /* live: by the client that sent the request */
    const struct gen_place *after; /* [n_after] what it has of a stream (generation_skip) */
    size_t n_after;
};

struct save { /* one transaction on its way */
    struct arena *arena;
    struct journal_update *updates; /* [n] */
    struct kept **kept;             /* [n] */
    size_t n;
};

struct kept_set {
    struct app *app;
    struct journal *journal;
    struct kept *first, *last; /* oldest first */
    size_t n_running, n_waiting;
    struct loop_timer *timer;
    bool ticking;
    struct save save;
    bool saving;
    struct error refused; /* the journal did not take it */
    int64_t save_ms;      /* not before */
    bool stopping;
    char listed[48]; /* at the start: what the journal has told so far */
};

/* kept.c */
struct kept *kept__create(struct kept_set *set, struct str id, struct str key_name, struct str model);
void kept__tick_soon(struct kept_set *set);
/* RUNNING with its generation; saved NULL: from the beginning. False: the call is still the caller's. */
bool kept__run(struct kept *k, struct call *c, const struct gen_saved *saved, struct error *err);
void kept__fail(struct kept *k, const struct error *why); /* ENDED, or to be tried again */
void kept__end(struct kept *k, enum journal_state state); /* ENDED. Never frees it: that is for when it is saved */
void kept__abandon(struct kept *k);                       /* where nobody reads it any more */
/* c becomes a reader of it. False: the call is still the caller's. */
bool kept__add_reader(struct kept *k, struct call *c, const struct kept_reading *how, struct error *err);
void kept__feed(struct kept *k);
void kept__finished(struct kept *k, bool ok, const struct error *err); /* its end is saved, or given up */
void kept__release(struct kept *k);                                    /* if nothing needs it any more */
uint64_t kept__n_tokens(const struct kept *k);
size_t kept__n_choices(const struct kept *k); /* that there are now: of its generation, or its turns */

/* kept_calls.c: calls of MCP tools. Of a request with MCP tools each turn is what a prompt is to others */
bool kept__calls_are_new(const struct kept *k);
size_t kept__n_calls(const struct kept *k); /* of all turns; there are no more of those to save */
/* Adds those that are new to rows. False: no room. */
NODISCARD bool kept__pack_calls(struct kept *k, struct arena *arena, struct journal_tokens *rows, size_t *n);
void kept__calls_saved(struct kept *k); /* what was on its way; and how far readers may see */
/* The rows of one turn's calls. False: no room; *whole: nothing of them is missing. */
NODISCARD bool kept__read_calls(struct arena *arena, const struct journal_tokens *rows, size_t n,
                                struct gen_saved_calls *out, bool *whole);

/* kept_save.c */
void kept__save(struct kept_set *set);

/* kept_resume.c */
void kept__resume_waiting(struct kept_set *set);

#endif
