/* Lines of a stream, for programs that answer one question a line. */
#ifndef TANDEM_TESTS_SUPPORT_READ_LINE_H
#define TANDEM_TESTS_SUPPORT_READ_LINE_H

#include "base/buf.h"

#include <stdio.h>

/* The next line, without its end, is all that is in `line`, which bounds it; false: there is none. */
static inline bool read_line(FILE *in, struct buf *line)
{
    int c;
    buf_clear(line);
    while ((c = getc(in)) != EOF && c != '\n') {
        buf_putc(line, (char)c);
    }
    return c != EOF || line->len > 0;
}

#endif
