/* Shared by the files of the batches only:
 *
 *     batch_run.c      the life of batches: from their check to their end
 *     batch_read.c     their lines
 *     batch_pump.c     when rows are begun
 *     batch_save.c     what has become of them, into the journal
 *     batch_row.c      one row on its way
 *     batch_lines.h    lines of JSON, and what they say
 *     batch_object.c, message_object.c
 *                      batches and what came of their rows, as OpenAI and Anthropic write them
 *     batch_routes.c, message_routes.c, files.c, upload.c
 *                      the routes */
#ifndef TANDEM_API_BATCH_INTERNAL_H
#define TANDEM_API_BATCH_INTERNAL_H

#include "api/asking.h"
#include "api/batch/batch.h"
#include "api/batch/batch_lines.h"

#define BATCH_TICK_MS        200
#define BATCH_RETRY_MS       1000     /* until what was refused for now, or the journal, is tried again */
#define BATCH_READ_SIZE      KIB(256) /* of the input at a time */
#define BATCH_UNFINISHED_MAX 100      /* batches of all keys that have not ended */
#define BATCH_UPLOADS_MAX    64       /* at once: they leave the journal's queue to others */
#define BATCH_ERRORS_MAX     50       /* of lines, that are told */
#define BATCH_UNSAVED_MAX    256      /* rows of one that are done and not saved, before no more are read or begun */
#define BATCH_KEEP_S         2592000  /* files of batches, unless their owner says otherwise: 30 days */
#define BATCH_KEEP_LEAST_S   3600     /* what an owner may say */
#define BATCH_MODELS_MAX     32       /* of one batch, that are told apart: their rows do not wait for each other */
#define BATCH_APART_MAX      16       /* rows that wait for their model, each of another model or batch */

enum batch_phase {
    BATCH_LOADING, /* which rows are done */
    BATCH_CHECKING,
    BATCH_ROWS,
    BATCH_CLOSING, /* its end is to be saved, or is on its way */
    BATCH_OVER
};

enum row_phase { ROW_WAITING, ROW_WORKING /* a worker has it */, ROW_RUNNING, ROW_DONE /* not saved */ };

/* How an API writes batches. Rows of all of them are stored and run alike. */
struct batch_form {
    const char *prefix;     /* of the batches' ids: the form of one is known by it */
    const char *row_prefix; /* of an "id" in each line; NULL: there is none */
    bool tells_cancelled;   /* rows that a cancelled batch has not done are in its output too */
    bool own_files;         /* as in struct journal_batch */
    uint32_t list_max;      /* of one page */
    void (*put)(struct json_writer *w, const struct journal_batch *b, struct http_exchange *asker);
    /* The members of a line behind custom_id. id: of the row's request. */
    void (*put_reply)(struct json_writer *w, const char *id, struct str body);
    void (*put_failure)(struct json_writer *w, const char *id, const struct error *why);
    void (*put_given_up)(struct json_writer *w, enum batch_state end);
};
extern const struct batch_form batch__openai, batch__anthropic;

struct batch_run;

struct batch_row {
    struct batch_run *run;
    struct batch_row *prev, *next;
    enum row_phase phase;
    uint64_t number; /* among the rows of the input */
    size_t model;    /* of the run's */
    bool dropped;    /* its worker comes back for nothing */
    bool saving;
    struct str custom_id, body, model_name; /* behind the struct */
    struct call *call;
    struct generation *generation;
    bool ok;
    bool given_up;   /* not ok: its batch has ended without it */
    struct buf line; /* of the output */
};

struct batch_chunk { /* lines on their way through a worker */
    struct batch_run *run;
    struct arena *arena; /* the pieces' */
    const struct journal_piece *pieces;
    size_t n;
    bool last;
    struct batch_row *first, **end; /* what came out of them */
    bool no_memory;
    uint64_t unsound; /* number of the first line that was sound and is not; 0: none */
};

struct batch_model { /* what the rows of one batch for one model have in common */
    struct str name;
    size_t n_begun;   /* of its rows */
    int64_t retry_ms; /* none is begun before */
    bool ready;       /* as of the last look: its rows have nothing to wait for */
};

struct batch_run {
    struct batch_set *set;
    struct batch_run *prev, *next;
    enum batch_phase phase;
    struct arena *arena;    /* of the strings in b */
    struct journal_batch b; /* as it is saved */
    const struct route *route;
    const struct batch_form *form;

    /* reading the input; a worker has lines, checker and n_rows while `reading` */
    bool reading, at_end;
    uint64_t next_piece;
    struct batch_lines lines;
    struct batch_checker *checker; /* CHECKING */
    uint64_t n_rows;
    struct batch_chunk chunk;
    uint8_t *done; /* bits [n_total]: rows that another process has saved; does not change */

    struct batch_row *first, *last;              /* all rows in memory, in the order in which they are begun */
    struct batch_model models[BATCH_MODELS_MAX]; /* [n_models]; the first: those that are not told apart */
    size_t n_models;
    size_t n_waiting, n_begun, n_done; /* by phase; begun: working or running */
    uint64_t turn;                     /* of the set's, when it began a row last */
    int64_t retry_ms;                  /* the journal is not asked before */
    int64_t rows_retry_ms;             /* no row is begun before */

    /* saving */
    bool dirty, saving;
    struct journal_batch_update update;
    uint64_t saving_given_up;     /* rows of it */
    struct journal_piece *pieces; /* [n_done] of the update */
    struct error refused;

    enum batch_state end; /* what it ends as: IN_PROGRESS: not known yet */
    void (*on_cancelled)(void *arg, const struct journal_batch *b, const struct error *err);
    void *on_cancelled_arg;
};

struct batch_set {
    struct app *app;
    struct journal *journal;
    struct batch_run *first, *last; /* oldest first */
    struct loop_timer *timer;
    bool stopping, ticking;
    size_t n_uploads;
    size_t n_begun; /* rows of all of them */
    int64_t let_ms; /* when other requests were last seen not to be in their way, or a row was begun */
    uint64_t n_turns;
    struct batch_now now;
};

/* batch_run.c */
void batch__start(struct batch_set *set, const struct journal_batch *b); /* copied; b is new in the journal */
struct batch_run *batch__find(struct batch_set *set, struct str id, struct str key_name);
/* done is called when the journal has it, b as it is then; or with an error. */
void batch__cancel(struct batch_run *run,
                   void (*done)(void *arg, const struct journal_batch *b, const struct error *err), void *arg);
void batch__advance(struct batch_run *run); /* whatever can be done now; may free it */
/* Are rows still taken from the input, to be run or to be told that they are not? */
bool batch__goes_on(const struct batch_run *run);
void batch__release(struct batch_run *run); /* frees it if nothing needs it any more */
void batch__fail(struct batch_run *run, const char *code, const char *message); /* it ends as failed */

/* batch_read.c */
void batch__read_more(struct batch_run *run); /* of its input, unless it is being read or may not be yet */
void batch__rewind(struct batch_run *run);    /* the input is read from its beginning next */

/* batch_pump.c */
void batch__pump(struct batch_set *set); /* begins rows where there is room */

/* batch_row.c */
struct batch_row *batch__row_create(struct batch_run *run, uint64_t number, struct str custom_id,
                                    const struct json *body);
void batch__row_begin(struct batch_row *row);
void batch__row_drop(struct batch_row *row);    /* whatever phase it is in: nothing comes of it */
void batch__row_free(struct batch_row *row);    /* of none that a worker has; not in a list any more */
void batch__row_give_up(struct batch_row *row); /* RUNNING to WAITING */
void batch__row_end(struct batch_row *row);     /* WAITING to DONE: its batch ends without it */
void batch__row_add(struct batch_row *row);     /* to its run, as the last */

/* batch_save.c */
void batch__save(struct batch_run *run);

/* batch_object.c */
const struct batch_form *batch__form_of(struct str id);
void batch__put_file(struct json_writer *w, const struct journal_file *f);
void batch__make_id(const char *prefix, char *out, size_t size);

/* batch_routes.c: NULL: it is answered with an error already; ask_for: likewise where id is none of the route's form.
 */
struct asking *batch__ask(struct app *a, struct http_exchange *x, struct str id);
struct asking *batch__ask_for(struct app *a, struct http_exchange *x, struct str id);
/* The page behind or before the batch q->last; done gets q. */
void batch__list(struct asking *q, const struct batch_form *form, bool before,
                 void (*done)(void *arg, struct journal_answer *answer));
bool batch__has_place(const struct batch_set *set, struct error *err); /* for one more that has not ended */
void batch__reply(struct http_exchange *x, const struct journal_batch *b);

/* files.c: answers with what is in a file, as the client takes it. q has its exchange. */
void batch__reply_file(struct asking *q, struct str id, const char *type);
bool batch__has_journal(const struct app *a, struct error *err);
/* Of the rows of such batches; NULL: they cannot have that endpoint. */
const struct route *batch__route(struct str endpoint, const struct batch_form *form);

#endif
