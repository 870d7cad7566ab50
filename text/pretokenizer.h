/* Pre-tokenizers: cut text into the pieces within which BPE may merge. One row per value of tokenizer.ggml.pre; the
 * regular expressions of the families' tokenizer.json are hand-written state machines over text/unicode.h.
 *
 * A row is a sequence of stages, each of which cuts the pieces of the stage before it. All stages work from left to
 * right, so that a walk needs no memory but one end per stage:
 *
 *     struct pre_walk walk = pre_walk_start(pre, text);
 *     while (pre_walk_next(&walk, &piece)) ...
 */
#ifndef TANDEM_TEXT_PRETOKENIZER_H
#define TANDEM_TEXT_PRETOKENIZER_H

#include "base/error.h"
#include "base/str.h"

#define PRE_MAX_STAGES 6

struct pre_range { /* code points, inclusive */
    uint32_t first, last;
};

struct pre_stage {
    /* End of the piece that starts at `at` (< text.len): a match of the stage's pattern or what lies before the next
     * match. Linear in what it consumes. */
    size_t (*next)(const struct pre_stage *stage, struct str text, size_t at);

    /* For runs of one class: */
    unsigned mask;                  /* unicode classes in the run */
    const struct pre_range *ranges; /* or: sorted ranges */
    size_t n_ranges;
    size_t max;      /* characters of a match; 0: any number */
    bool lead_space; /* \s? before the run */

    /* For the main patterns: */
    size_t max_digits;   /* \p{N}{1,max}; 0: any number */
    const char *tail;    /* ASCII characters that a punctuation run swallows after itself */
    bool contractions;   /* (?i:'s|'t|'re|'ve|'m|'ll|'d) */
    bool marks_in_words; /* \p{M} counts as a letter */
};

struct pretokenizer {
    const char *name;                               /* the value of tokenizer.ggml.pre that stands for the family */
    const char *aliases;                            /* other values, separated by blanks */
    const struct pre_stage *stages[PRE_MAX_STAGES]; /* NULL-terminated unless full */
    bool ignore_merges; /* a piece that is a token becomes that token, whatever the merges say */
    bool add_bos;       /* default of tokenizer.ggml.add_bos_token */
    bool nfc;           /* text is normalized to NFC first */
};

/* The row for a value of tokenizer.ggml.pre, or NULL. */
const struct pretokenizer *pretokenizer_find(struct str name);

struct pre_walk {
    const struct pretokenizer *pre;
    struct str text; /* valid UTF-8 */
    size_t at;
    size_t end[PRE_MAX_STAGES + 1]; /* end[0] = text.len; end[k] = end of the current piece of stage k */
    size_t n_stages;
};

struct pre_walk pre_walk_start(const struct pretokenizer *pre, struct str text);
bool pre_walk_next(struct pre_walk *walk, struct str *piece); /* false at the end; pieces are never empty */

#endif
