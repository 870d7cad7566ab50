#include "tests/support/vector_file.h"

#include "base/limits.h"
#include "base/sys_file.h"

#include <stdio.h>
#include <stdlib.h>

static void fail(const struct vector_file *v, const char *why)
{
    fprintf(stderr, "%s: %s\n", v->path, why);
    abort();
}

void vector_file_open(struct vector_file *v, const char *path)
{
    struct error err = {0};
    *v = (struct vector_file){.path = path};
    if (!file_read(path, MIB(64), &v->text, &err))
        fail(v, err.msg);
    v->rest = buf_view(&v->text);
}

void vector_file_close(struct vector_file *v)
{
    buf_release(&v->text);
}

static void split_fields(struct vector_file *v, struct str line)
{
    v->n_fields = 0;
    while (v->n_fields + 1 < VECTOR_MAX_FIELDS && str_split(&line, ' ', &v->fields[v->n_fields]))
        v->n_fields++;
    if (line.len > 0)
        v->fields[v->n_fields++] = line;
}

bool vector_file_next(struct vector_file *v)
{
    struct str line;
    while (str_split(&v->rest, '\n', &line)) {
        if (line.len == 0 || line.ptr[0] == '#')
            continue;
        split_fields(v, line);
        return true;
    }
    return false;
}

static int field_digit(const struct vector_file *v, char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c < 'a' || c > 'f')
        fail(v, "a field is not hex");
    return c - 'a' + 10;
}

void *vector_file_bytes(const struct vector_file *v, size_t i, size_t *size)
{
    if (i >= v->n_fields || v->fields[i].len % 2 != 0)
        fail(v, "a field is missing or has an odd number of digits");
    struct str hex = v->fields[i];
    uint8_t *bytes = malloc(hex.len / 2 + 1);
    if (!bytes)
        fail(v, "no memory");
    for (size_t k = 0; k < hex.len / 2; k++)
        bytes[k] = (uint8_t)(field_digit(v, hex.ptr[2 * k]) << 4 | field_digit(v, hex.ptr[2 * k + 1]));
    if (size)
        *size = hex.len / 2;
    return bytes;
}
