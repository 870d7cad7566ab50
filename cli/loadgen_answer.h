/* One reply of an OpenAI-compatible server: its bytes with their times, and what they say. The bytes are gathered on
 * the loop's thread, at the cost of a copy; they are read when the reply is over, on a worker.
 *
 * A token event is an event of the stream in which some choice has output: text, reasoning, a refusal or a tool call
 * that is not empty. The chunk that only names the role and the one that only brings the finish reason are none. */
#ifndef TANDEM_CLI_LOADGEN_ANSWER_H
#define TANDEM_CLI_LOADGEN_ANSWER_H

#include "base/buf.h"

/* X(code, name in reports) */
#define LOADGEN_OUTCOMES(X)                                                  \
    X(OK, "ok")                                                              \
    X(NO_CONNECTION, "no connection")                                        \
    X(TIMEOUT, "time-out")                                                   \
    X(BROKEN, "broken connection")                                           \
    X(STATUS, "HTTP status") /* other than 200 */                            \
    X(STREAM_ERROR, "error in the stream")                                   \
    X(NOT_UNDERSTOOD, "reply not understood")                                \
    X(CUT_OFF, "answer cut off")  /* neither a finish reason nor "[DONE]" */ \
    X(INTERRUPTED, "interrupted") /* by us */

enum loadgen_outcome {
#define X(code, name) LOADGEN_##code,
    LOADGEN_OUTCOMES(X)
#undef X
        LOADGEN_OUTCOME_COUNT
};

const char *loadgen_outcome_name(enum loadgen_outcome outcome);

struct loadgen_arrival { /* bytes [previous end, end) came at at_ns */
    size_t end;
    int64_t at_ns;
};

struct loadgen_reply { /* zeroed by init */
    int status;
    bool is_stream;       /* text/event-stream */
    struct error failure; /* of the transfer; code NONE: the reply came whole */
    struct buf bytes;
    struct loadgen_arrival *arrivals; /* [n_arrivals] */
    size_t n_arrivals, arrivals_cap;
};

void loadgen_reply_init(struct loadgen_reply *r);
void loadgen_reply_release(struct loadgen_reply *r);
NODISCARD bool loadgen_reply_add(struct loadgen_reply *r, struct str bytes,
                                 int64_t at_ns); /* false: too large, no memory */

struct loadgen_answer {
    enum loadgen_outcome outcome;
    int status;
    char message[160]; /* why it is not OK: a phrase for people, without control characters */

    /* Of a stream, by the clock of the arrivals; an answer without output has its end as its first and last token. */
    int64_t first_ns, last_ns; /* first and last token event; 0: no stream */
    int64_t end_ns;            /* last event with a choice, or the last byte without a stream */
    int64_t *gaps;             /* [n_gaps] between token events */
    size_t n_gaps, gaps_cap;
    uint64_t n_events; /* token events; 0 without a stream */

    bool has_usage; /* else completion_tokens is n_events and the other counts are 0 */
    uint64_t prompt_tokens, completion_tokens, cached_tokens;
    char finish_reason[32]; /* of the first choice; "" without */
    char fingerprint[80];   /* system_fingerprint, "" without */
    struct buf text;        /* content of the first choice, without reasoning */
};

/* Reads the reply; wants_stream: a stream was asked for. *out is filled in any case: loadgen_answer_release. */
void loadgen_answer_read(const struct loadgen_reply *r, bool wants_stream, struct loadgen_answer *out);
void loadgen_answer_release(struct loadgen_answer *a);

/* What an error body says: its message, or its beginning. */
void loadgen_error_text(struct str body, char *out, size_t size);

/* A copy that a terminal can show: valid UTF-8 without control characters, cut to fit. */
void loadgen_clean_text(struct str s, char *out, size_t size);

#endif
