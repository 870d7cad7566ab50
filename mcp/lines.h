/* Lines out of bytes, however those are split: a message of the stdio transport, a line of standard error. Bounded. A
 * line ends with LF; a CR before it belongs to the end. Empty lines are none. Owned by one thread at a time.
 *
 *     lines_init(&l, max);
 *     for each piece of input:
 *         while ((what = lines_next(&l, &input, &line)) == LINES_LINE) use(line);      until the next call
 *         LINES_MORE: bring more bytes; LINES_TOO_LONG, LINES_NO_MEMORY: the line that came was left out so far, and
 *                     the rest of it will be: go on, or give up
 *     lines_release(&l); */
#ifndef TANDEM_MCP_LINES_H
#define TANDEM_MCP_LINES_H

#include "base/buf.h"

enum lines_read { LINES_MORE, LINES_LINE, LINES_TOO_LONG, LINES_NO_MEMORY };

struct lines { /* private */
    struct buf line;
    bool given; /* the last call returned what is in line */
    bool skips; /* the rest of a line that is too long */
};

void lines_init(struct lines *l, size_t max); /* bytes of one line */
void lines_release(struct lines *l);
enum lines_read lines_next(struct lines *l, struct str *input, struct str *line);
struct str lines_rest(const struct lines *l); /* what has come of a line without its end */

#endif
