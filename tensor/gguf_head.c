#include "tensor/gguf_head.h"

#include "base/limits.h"
#include "tensor/gguf_format.h"
#include "tensor/model_file_internal.h"

#include <string.h>

#define MAX_NEEDED (UINT64_C(1) << 62)

struct walk {
    const uint8_t *data;
    size_t size;
    uint64_t pos; /* beyond size: so many bytes are needed */
};

/* Steps over n bytes; false when they are not all there. */
static bool skip(struct walk *w, uint64_t n)
{
    w->pos = n > MAX_NEEDED - w->pos ? MAX_NEEDED : w->pos + n;
    return w->pos <= w->size;
}

static bool number(struct walk *w, size_t width, uint64_t *out)
{
    uint64_t at = w->pos;
    *out = 0;
    if (!skip(w, width)) {
        return false;
    }
    memcpy(out, w->data + at, width); /* little-endian */
    return true;
}

static bool skip_string(struct walk *w)
{
    uint64_t len;
    return number(w, 8, &len) && skip(w, len);
}

static bool bad(struct error *err, bool *valid)
{
    *valid = error_set(err, ERR_FORMAT, "The metadata of the GGUF file has a type that is not known.");
    return false;
}

static bool skip_array(struct walk *w, bool *valid, struct error *err)
{
    uint64_t type, n;
    if (!number(w, 4, &type) || !number(w, 8, &n)) {
        return false;
    }
    if (type >= GGUF_TYPE_COUNT || type == GGUF_ARRAY) {
        return bad(err, valid);
    }
    if (type != GGUF_STRING) {
        size_t width = gguf__type_size((enum gguf_type)type);
        return skip(w, n > MAX_NEEDED / width ? MAX_NEEDED : n * width);
    }
    bool ok = true;
    for (uint64_t i = 0; ok && i < n; i++) { /* ends with the bytes at hand: each has at least eight */
        ok = skip_string(w);
    }
    return ok;
}

static bool skip_value(struct walk *w, bool *valid, struct error *err)
{
    uint64_t type;
    if (!number(w, 4, &type)) {
        return false;
    }
    if (type == GGUF_STRING) {
        return skip_string(w);
    }
    if (type == GGUF_ARRAY) {
        return skip_array(w, valid, err);
    }
    return type < GGUF_TYPE_COUNT ? skip(w, gguf__type_size((enum gguf_type)type)) : bad(err, valid);
}

static bool skip_tensor(struct walk *w, bool *valid, struct error *err)
{
    uint64_t n_dims;
    if (!skip_string(w) || !number(w, 4, &n_dims)) {
        return false;
    }
    if (n_dims > LIMIT_GGUF_DIMS) {
        *valid = error_set(err, ERR_FORMAT, "A tensor of the GGUF file has %llu dimensions, more than %d.",
                           (unsigned long long)n_dims, LIMIT_GGUF_DIMS);
        return false;
    }
    return skip(w, 8 * n_dims + 4 + 8); /* axes, type, offset */
}

static bool check_start(const struct walk *w, struct error *err)
{
    return w->size < 4 || memcmp(w->data, GGUF_MAGIC, 4) == 0 ||
           error_set(err, ERR_FORMAT, "This is not a GGUF file: it does not begin with \"GGUF\".");
}

bool gguf_head_size(const void *data, size_t size, uint64_t *needed, struct error *err)
{
    struct walk w = {.data = data, .size = size};
    uint64_t n_tensors, n_keys;
    bool valid = check_start(&w, err);
    if (!valid) {
        return false;
    }
    bool ok = skip(&w, 8) && number(&w, 8, &n_tensors) && number(&w, 8, &n_keys);
    if (ok && (n_tensors > LIMIT_GGUF_TENSORS || n_keys > LIMIT_GGUF_KEYS)) {
        return error_set(err, ERR_FORMAT, "The GGUF file has %llu tensors and %llu metadata keys, more than %d and %d.",
                         (unsigned long long)n_tensors, (unsigned long long)n_keys, LIMIT_GGUF_TENSORS,
                         LIMIT_GGUF_KEYS);
    }
    for (uint64_t i = 0; ok && i < n_keys; i++) {
        ok = skip_string(&w) && skip_value(&w, &valid, err);
    }
    for (uint64_t i = 0; ok && i < n_tensors; i++) {
        ok = skip_tensor(&w, &valid, err);
    }
    *needed = w.pos;
    return valid;
}
