/* One choice of a generation: the tokens accepted so far and the text they make. Tokens go in as the engine sends them;
 * text comes out when somebody takes it: whole UTF-8, stop strings cut, what may become one held back.
 *
 *   text     |....released....|....safe, not yet taken....|..held back..|
 *   tokens    0 1 2 3           each with the offset at which its text begins
 *
 * Where the request has formats, what is released is taken apart into events by choice_output.h.
 */
#ifndef TANDEM_PIPELINE_CHOICE_H
#define TANDEM_PIPELINE_CHOICE_H

#include "pipeline/choice_output.h"
#include "pipeline/gen_request.h"
#include "pipeline/generation.h"
#include "pipeline/prediction.h"
#include "text/detokenizer.h"

struct choice_token {
    int32_t id;
    uint32_t text_begin, text_end; /* bytes of the text that came out when this token went in */
    uint32_t char_begin;           /* text_begin in characters */
    bool shown;                    /* false: ended the choice and is not part of the answer */
    float logprob;
    int32_t rank;
    uint32_t n_top;
    struct token_top *top; /* owned */
    uint64_t digest;
};

/* Its logprob, rank and alternatives. False: no memory for the alternatives; it has none. */
NODISCARD bool choice_token_score(struct choice_token *t, const struct token_logprob *from);

struct choice {
    const struct gen_request *request;
    const struct tokenizer *tokenizer;
    struct detokenizer detokenizer;
    struct choice_token *tokens; /* [n_tokens] */
    size_t n_tokens, cap_tokens;
    struct buf text;
    uint32_t n_chars;
    size_t stop_from; /* stop strings begin here at the earliest (min_tokens) */
    size_t searched;  /* everything before was searched for them */
    size_t safe;      /* bytes that may be shown */
    size_t released;  /* bytes and tokens already taken */
    size_t released_tokens;
    bool aligned;       /* text goes out with whole tokens only, so that released_tokens says where its reader is */
    size_t skip_tokens; /* so many count as taken as soon as they are there */
    enum finish_reason finish; /* NONE while it runs */
    struct str stop;           /* the stop string that ended it */
    int32_t stop_id;
    bool echo_taken, finish_taken; /* its echoed prompt, its FINISH event were taken */
    int64_t first_pending_ms;      /* when the oldest token that was not taken came */
    int64_t last_token_us;         /* when the newest came; 0: none has */
    bool preempted;                /* it lost its pages and no token has come since */
    double sum_logprob;            /* of all tokens: best_of */
    struct choice_output *output;  /* NULL: its text is the answer */
    struct prediction prediction;  /* compared with the answer, for its usage */
    uint64_t n_drafted, n_held;    /* guesses checked for its tokens, and those that were right */
    uint64_t n_replayed;           /* of its tokens: by the engine of ENGINE_REPLAYED */
};

void choice_init(struct choice *c, const struct gen_request *request, const struct tokenizer *tokenizer);
/* Its text is taken apart by the request's formats, if it has any; prompt, choice: which it is. Before anything is
 * accepted. */
NODISCARD bool choice_take_apart(struct choice *c, uint32_t prompt, uint32_t choice, struct error *err);
/* What its tokens are compared with; ids live as long as c. False: no memory. */
NODISCARD bool choice_predict(struct choice *c, const int32_t *ids, uint32_t n);
void choice_release(struct choice *c);

/* Takes a TOKENS event. Its index must be n_tokens, or less: known tokens are skipped. False with PROTOCOL for a gap.
 * *stopped: a stop string was found now, so that the engine may stop. */
NODISCARD bool choice_accept(struct choice *c, const struct engine_event *event, int64_t now_ms, bool *stopped,
                             struct error *err);
void choice_finish(struct choice *c, enum finish_reason reason); /* cancelled, for a choice that still runs */

/* Its reader has what is before this place already: it is not given out. Makes it aligned. */
void choice_skip(struct choice *c, struct gen_place place);
/* What its reader has: what another reader would give to choice_skip to go on from here. */
struct gen_place choice_position(const struct choice *c);

/* Text and tokens that may be shown and were not taken. tokens: room for choice_pending_tokens; tops for their n_top
 * together. */
size_t choice_pending_tokens(const struct choice *c);
bool choice_has_pending(const struct choice *c, bool with_tokens);
struct str choice_take(struct choice *c, size_t *first_token, size_t *n_tokens);
bool choice_all_taken(const struct choice *c); /* it has ended, and there will be nothing more */

#endif
