/* A multipart/form-data body (RFC 7578 over RFC 2046) out of bytes, as they come: no part lies in memory whole. No
 * sockets. However the bytes are split, the parts, their concatenated data and the error are the same.
 *
 *     struct multipart m;
 *     multipart_init(&m, boundary);
 *     for each piece of input:
 *         while (!over) switch (multipart_next(&m, &input, &data, &err)) {
 *         case MULTIPART_MORE:  over for this piece: bring more bytes
 *         case MULTIPART_PART:  a part begins: m.name, m.filename, m.has_filename
 *         case MULTIPART_DATA:  data is the next of its bytes, a view into input or into m
 *         case MULTIPART_PART_END: that was all of it
 *         case MULTIPART_ERROR: *err says why
 *         }
 *     multipart_ended(&m)       after the last piece: the last boundary has come
 *     multipart_release(&m);
 *
 * Strict: lines end with CR LF; each part has one Content-Disposition of form-data with a name; a transfer encoding
 * that would change the data is refused. What stands before the first and behind the last boundary is dropped. Owned by
 * one thread at a time. */
#ifndef TANDEM_HTTP_MULTIPART_H
#define TANDEM_HTTP_MULTIPART_H

#include "http/message.h"

#define MULTIPART_BOUNDARY_MAX 70     /* bytes, RFC 2046 */
#define MULTIPART_PARTS_MAX    32     /* of one body */
#define MULTIPART_HEAD_MAX     KIB(4) /* bytes of a part's header fields */
#define MULTIPART_NAME_MAX     KIB(1) /* bytes of a name, and of a file's name */

enum multipart_next { MULTIPART_MORE, MULTIPART_PART, MULTIPART_DATA, MULTIPART_PART_END, MULTIPART_ERROR };

enum multipart_state {
    MULTIPART_PREAMBLE,
    MULTIPART_DELIMITED, /* behind a boundary: what the rest of its line is */
    MULTIPART_FIELDS,
    MULTIPART_CONTENT,
    MULTIPART_EPILOGUE,
    MULTIPART_FAILED
};

struct multipart {
    struct buf name, filename; /* of the part at hand */
    bool has_filename;

    /* private */
    enum multipart_state state;
    char delimiter[MULTIPART_BOUNDARY_MAX + 5]; /* CR LF "--" boundary */
    size_t n_delimiter, matched;                /* bytes of it that the input ended with */
    size_t n_before;                            /* of them, those that are the line before: no data, whatever comes */
    struct buf line;
    bool line_cr;
    size_t head_size, n_parts;
    bool has_disposition;
};

/* The boundary of a Content-Type's value, "multipart/form-data; boundary=...", into out. BAD_MEDIA_TYPE: it is another
 * type; INVALID: its boundary is missing or none. */
NODISCARD bool multipart_boundary(struct str content_type, char out[MULTIPART_BOUNDARY_MAX + 1], struct error *err);

void multipart_init(struct multipart *m, const char *boundary); /* of at most MULTIPART_BOUNDARY_MAX bytes */
void multipart_release(struct multipart *m);

/* Takes bytes off the front of *input up to the next event. INVALID, TOO_LARGE or UNSUPPORTED: what is wrong. After an
 * error it may not be called again. */
NODISCARD enum multipart_next multipart_next(struct multipart *m, struct str *input, struct str *data,
                                             struct error *err);
bool multipart_ended(const struct multipart *m);

#endif
