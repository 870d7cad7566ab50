#include "tensor/tensor_sink.h"

#include "base/limits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILL_SIZE KIB(256) /* bytes asked of a fill callback at once, or one row when that is more */

bool tensor_sink__write(struct tensor_sink *s, const void *data, size_t size)
{
    if (s->buf) {
        buf_append_bytes(s->buf, data, size);
        return buf_ok(s->buf, "model data", s->err);
    }
    if (size > 0 && fwrite(data, 1, size, s->file) != size)
        return error_set(s->err, ERR_IO, "Writing '%.120s' failed: %s.", s->name, strerror(errno));
    return true;
}

bool tensor_sink__pad(struct tensor_sink *s, uint64_t n)
{
    static const uint8_t zeros[4096];
    for (; n > sizeof(zeros); n -= sizeof(zeros)) {
        if (!tensor_sink__write(s, zeros, sizeof(zeros)))
            return false;
    }
    return tensor_sink__write(s, zeros, (size_t)n);
}

bool tensor_sink__size(const struct gguf_tensor *t, size_t *size, struct error *err)
{
    uint64_t n = 1;
    bool ok = t->n_dims >= 1 && t->n_dims <= TENSOR_MAX_DIMS;
    for (int i = 0; ok && i < t->n_dims; i++) {
        ok = t->shape[i] > 0 && t->shape[i] <= (uint64_t)INT64_MAX / n;
        n *= t->shape[i];
    }
    ok = ok && t->shape[t->n_dims - 1] % (uint64_t)dtype_info(t->type)->block_len == 0 && dtype_size(t->type, n, size);
    return ok || error_set(err, ERR_INVALID, "The shape of the tensor '%.96s' does not suit the type %s.", t->name,
                           dtype_info(t->type)->name);
}

static bool write_filled(struct tensor_sink *s, const struct gguf_tensor *t, size_t size)
{
    uint64_t n_rows = 1;
    for (int i = 0; i + 1 < t->n_dims; i++)
        n_rows *= t->shape[i];
    size_t row_size = (size_t)(size / n_rows);
    uint64_t at_once = row_size < FILL_SIZE ? FILL_SIZE / row_size : 1;
    void *rows = malloc((size_t)at_once * row_size);
    if (!rows)
        return error_set(s->err, ERR_NO_MEMORY, "There is no memory for a tensor's rows.");
    bool ok = true;
    for (uint64_t first = 0; ok && first < n_rows; first += at_once) {
        uint64_t n = n_rows - first < at_once ? n_rows - first : at_once;
        ok = t->fill(t->user, first, n, rows, s->err) && tensor_sink__write(s, rows, (size_t)n * row_size);
    }
    free(rows);
    return ok;
}

bool tensor_sink__tensor(struct tensor_sink *s, const struct gguf_tensor *t, size_t size)
{
    return t->data ? tensor_sink__write(s, t->data, size) : write_filled(s, t, size);
}

bool tensor_sink__file(const char *path, bool (*write)(const void *writer, struct tensor_sink *s), const void *writer,
                       struct error *err)
{
    struct buf part;
    buf_init(&part, KIB(64));
    buf_printf(&part, "%s.part", path);
    bool ok = false;
    FILE *file = NULL;
    if (!buf_ok(&part, "path", err))
        goto out;
    file = fopen(part.data, "wb");
    if (!file) {
        error_set(err, ERR_IO, "'%.120s' cannot be written: %s.", part.data, strerror(errno));
        goto out;
    }
    struct tensor_sink s = {.file = file, .name = path, .err = err};
    ok = write(writer, &s);
    if (ok && (fflush(file) != 0 || fsync(fileno(file)) != 0)) /* before its name says that it is whole */
        ok = error_set(err, ERR_IO, "Writing '%.120s' failed: %s.", path, strerror(errno));
    if (fclose(file) != 0 && ok)
        ok = error_set(err, ERR_IO, "Writing '%.120s' failed: %s.", path, strerror(errno));
    if (ok && rename(part.data, path) != 0)
        ok = error_set(err, ERR_IO, "'%.120s' cannot be renamed to its name: %s.", part.data, strerror(errno));
    if (!ok)
        remove(part.data);
out:
    buf_release(&part);
    return ok;
}
