/* Lines of JSON out of bytes, as they come, and what the lines of a batch say. Any thread; one at a time. */
#ifndef TANDEM_API_BATCH_LINES_H
#define TANDEM_API_BATCH_LINES_H

#include "base/json.h"

/* ---- lines ---- */

struct batch_lines {
    struct buf rest; /* a line whose end has not come */
    size_t max;      /* bytes of a line */
    bool too_long;   /* the line at hand is: its bytes are dropped */
    bool given;      /* rest was given out as a line */
    uint64_t number; /* of the last line that was given out, from 1 */
};

enum batch_line { BATCH_LINE_NONE, BATCH_LINE, BATCH_LINE_TOO_LONG };

void batch_lines_init(struct batch_lines *l, size_t max);
void batch_lines_release(struct batch_lines *l);
/* Takes bytes off *input up to the end of a line that is not blank; the line, without what ends it, is a view until the
 * next call. NONE: *input is used up. However the bytes are split, the lines are the same. */
NODISCARD enum batch_line batch_lines_next(struct batch_lines *l, struct str *input, struct str *line);
/* What is left behind the last end of a line. */
NODISCARD enum batch_line batch_lines_end(struct batch_lines *l, struct str *line);

/* ---- what a line says ---- */

#define BATCH_CUSTOM_ID_MAX 512 /* bytes */

struct batch_fault { /* OpenAI's words for what is wrong with a line */
    const char *code, *param;
    char message[240];
};

struct batch_line_view {
    struct json *root; /* to be freed; the rest lies in it */
    struct str custom_id;
    const struct json *body; /* an object */
};
/* {"custom_id": "...", "method": "POST", "url": endpoint, "body": {...}} */
NODISCARD bool batch_line_read(struct str line, struct str endpoint, struct batch_line_view *out,
                               struct batch_fault *fault);

/* ---- all of them ---- */

struct batch_checker; /* lines of one input: which ids came, what was wrong, which model they ask for */

struct batch_checker *batch_checker_create(uint64_t max_rows, size_t max_errors); /* NULL: no memory */
void batch_checker_free(struct batch_checker *c);
/* False: no memory. */
NODISCARD bool batch_checker_add(struct batch_checker *c, uint64_t number, struct str line, struct str endpoint);
/* An id that came by another way than a line. *earlier: the number that has it already; 0: none. False: no memory. */
NODISCARD bool batch_checker_take_id(struct batch_checker *c, uint64_t number, struct str id, uint64_t *earlier);
void batch_checker_too_long(struct batch_checker *c, uint64_t number, size_t max);
uint64_t batch_checker_n(const struct batch_checker *c); /* rows */
/* The one that all of them ask for; empty: they differ, or ask for none. */
struct str batch_checker_model(const struct batch_checker *c);
/* When all have been added. True: nothing was wrong; else out has OpenAI's array of errors. */
bool batch_checker_end(struct batch_checker *c, struct buf *out);

#endif
