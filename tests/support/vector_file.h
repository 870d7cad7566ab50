/* Line-based vector files (tests/data, made by tools/parity): fields separated by single blanks, '#' starts a comment
 * line, bytes are in hex. Failures end the test, with the file's name.
 *
 *     struct vector_file v;
 *     vector_file_open(&v, TEST_DATA_DIR "/dtype/Q4_0.vec");
 *     while (vector_file_next(&v))
 *         if (str_eq(v.fields[0], STR("d"))) ...
 *     vector_file_close(&v);
 */
#ifndef TANDEM_TESTS_SUPPORT_VECTOR_FILE_H
#define TANDEM_TESTS_SUPPORT_VECTOR_FILE_H

#include "base/buf.h"

#define VECTOR_MAX_FIELDS 16

struct vector_file {
    const char *path;
    struct buf text;
    struct str rest;
    struct str fields[VECTOR_MAX_FIELDS]; /* of the current line; further ones stay in the last field */
    size_t n_fields;
};

void vector_file_open(struct vector_file *v, const char *path);
bool vector_file_next(struct vector_file *v); /* false at the end */
void vector_file_close(struct vector_file *v);

/* The bytes of field i; free(). *size may be NULL. */
void *vector_file_bytes(const struct vector_file *v, size_t i, size_t *size);

#endif
