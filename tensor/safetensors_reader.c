/* One safetensors file: length of the header as u64, the header as JSON, the data. As strict as the reference
 * implementation: tensors lie without holes from the beginning of the data to the end of the file. Two things differ:
 * an address need not be a multiple of anything (MLX does not pad its header), and what no model has (tensors without
 * elements, more than four axes) is refused. */
#include "tensor/safetensors_format.h"

#include "base/json.h"
#include "base/utf8.h"

#include <stdio.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors files are read in place");

#define MAX_DEPTH        4  /* {"name": {"shape": [1]}} and one to spare */
#define VALUES_OF_TENSOR 16 /* in the JSON of one tensor: itself, type, two arrays, offsets, axes */

static const struct {
    const char *name;
    enum dtype type;
} types[] = {
    {"F64", DTYPE_F64}, {"F32", DTYPE_F32}, {"F16", DTYPE_F16}, {"BF16", DTYPE_BF16}, {"F8_E4M3", DTYPE_F8_E4M3},
    {"I64", DTYPE_I64}, {"I32", DTYPE_I32}, {"I16", DTYPE_I16}, {"I8", DTYPE_I8},     {"U64", DTYPE_U64},
    {"U32", DTYPE_U32}, {"U16", DTYPE_U16}, {"U8", DTYPE_U8},   {"BOOL", DTYPE_BOOL},
};

struct reader {
    struct model_shard *shard;
    struct arena *arena;
    char where[160]; /* "the tensor 'x'", for messages */
    struct error *err;
};

const char *safetensors__type_name(enum dtype type)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (types[i].type == type)
            return types[i].name;
    }
    return NULL;
}

static bool read_type(struct reader *r, const struct json *v, enum dtype *out)
{
    if (json_type(v) != JSON_STRING)
        return error_set(r->err, ERR_FORMAT, "The type of %s is %s instead of a string.", r->where,
                         json_type_name(json_type(v)));
    struct str name = json_str(v);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (str_eq(name, str_of(types[i].name))) {
            *out = types[i].type;
            return true;
        }
    }
    return error_set(r->err, ERR_UNSUPPORTED, "The type " STR_FMT " of %s is not supported.",
                     STR_ARG(str_slice(name, 0, utf8_cut(name, 32))), r->where);
}

/* A shape of no axes is one element: a vector of one. */
static bool read_shape(struct reader *r, const struct json *v, struct tensor_view *t, uint64_t *n_elements)
{
    size_t n_dims = json_len(v);
    if (json_type(v) != JSON_ARRAY)
        return error_set(r->err, ERR_FORMAT, "The shape of %s is %s instead of an array.", r->where,
                         json_type_name(json_type(v)));
    if (n_dims > TENSOR_MAX_DIMS)
        return error_set(r->err, ERR_UNSUPPORTED, "Tensors of more than %d axes are not supported: %s has %zu.",
                         TENSOR_MAX_DIMS, r->where, n_dims);
    t->n_dims = n_dims ? (int)n_dims : 1;
    *n_elements = 1;
    for (size_t i = 0; i < TENSOR_MAX_DIMS; i++) {
        const struct json *item = json_at(v, i);
        int64_t axis = item ? json_int(item) : 1;
        if (i < n_dims && (json_type(item) != JSON_INT || axis < 0))
            return error_set(r->err, ERR_FORMAT, "The shape of %s holds what is no size.", r->where);
        if (axis == 0)
            return error_set(r->err, ERR_UNSUPPORTED, "Tensors without elements are not supported: %s is one.",
                             r->where);
        if ((uint64_t)axis > (uint64_t)INT64_MAX / *n_elements)
            return error_set(r->err, ERR_FORMAT, "The shape of %s has too many elements.", r->where);
        t->shape[i] = (uint64_t)axis;
        *n_elements *= (uint64_t)axis;
    }
    return true;
}

/* Sets t->size and *offset. */
static bool read_offsets(struct reader *r, const struct json *v, uint64_t n_elements, struct tensor_view *t,
                         uint64_t *offset)
{
    const struct json *begin = json_at(v, 0), *end = json_at(v, 1);
    bool ok = json_type(v) == JSON_ARRAY && json_len(v) == 2 && json_type(begin) == JSON_INT &&
              json_type(end) == JSON_INT && json_int(begin) >= 0 && json_int(end) >= json_int(begin);
    if (!ok)
        return error_set(r->err, ERR_FORMAT, "The data_offsets of %s are not a begin and an end.", r->where);
    if (!dtype_size(t->type, n_elements, &t->size))
        return error_set(r->err, ERR_FORMAT, "The shape of %s has too many elements.", r->where);
    uint64_t span = (uint64_t)(json_int(end) - json_int(begin));
    if (span != t->size)
        return error_set(r->err, ERR_FORMAT, "The shape of %s needs %zu bytes, but its data_offsets span %llu.",
                         r->where, t->size, (unsigned long long)span);
    *offset = (uint64_t)json_int(begin);
    return true;
}

static bool read_tensor(struct reader *r, struct str name, const struct json *v, uint64_t *offset)
{
    struct tensor_view *t = &r->shard->tensors[r->shard->n_tensors];
    uint64_t n_elements = 0;
    struct str shown = str_slice(name, 0, utf8_cut(name, 96));
    if (!tensor__name_valid(name))
        return error_set(r->err, ERR_FORMAT,
                         "The name '" STR_FMT "' of a tensor is empty, too long or not printable UTF-8.",
                         STR_ARG(shown));
    snprintf(r->where, sizeof(r->where), "the tensor '" STR_FMT "'", STR_ARG(shown));
    if (json_type(v) != JSON_OBJECT)
        return error_set(r->err, ERR_FORMAT, "The header's entry of %s is %s instead of an object.", r->where,
                         json_type_name(json_type(v)));
    if (!read_type(r, json_get(v, "dtype"), &t->type) || !read_shape(r, json_get(v, "shape"), t, &n_elements) ||
        !read_offsets(r, json_get(v, "data_offsets"), n_elements, t, offset))
        return false;
    t->name = arena_str(r->arena, name);
    r->shard->n_tensors++;
    return t->name.ptr || arena_full(r->arena, "index of a model folder", r->err);
}

static bool check_metadata(struct reader *r, const struct json *v)
{
    bool ok = json_type(v) == JSON_OBJECT || json_is_null(v);
    for (struct json_iter it = json_members(v); ok && json_next(&it);)
        ok = json_type(it.value) == JSON_STRING;
    return ok || error_set(r->err, ERR_FORMAT, "The header's " SAFETENSORS_METADATA " is not an object of strings.");
}

/* Data between tensors, or after the last, belongs to none: the file is not what its header says. */
static bool check_holes(const struct reader *r, const struct tensor_span *spans)
{
    const struct model_shard *shard = r->shard;
    uint64_t data_size = shard->size - shard->data_offset, end = 0;
    for (size_t i = 0; i <= shard->n_tensors; i++) {
        uint64_t next = i < shard->n_tensors ? spans[i].offset : data_size;
        if (next != end)
            return error_set(r->err, ERR_FORMAT, "%llu bytes at offset %llu of the data belong to no tensor.",
                             (unsigned long long)(next - end), (unsigned long long)end);
        end += i < shard->n_tensors ? shard->tensors[spans[i].index].size : 0;
    }
    return true;
}

/* The directory in the order of the data, as the spans have it. */
static bool sort_tensors(struct reader *r, const struct tensor_span *spans)
{
    struct model_shard *shard = r->shard;
    struct tensor_view *sorted = arena_alloc_array(r->arena, shard->n_tensors + 1, sizeof(*sorted));
    if (!sorted)
        return arena_full(r->arena, "index of a model folder", r->err);
    for (size_t i = 0; i < shard->n_tensors; i++)
        sorted[i] = shard->tensors[spans[i].index];
    shard->tensors = sorted;
    return true;
}

static bool read_directory(struct reader *r, const struct json *header)
{
    size_t n = json_len(header);
    if (json_type(header) != JSON_OBJECT)
        return error_set(r->err, ERR_FORMAT, "The safetensors header is %s instead of an object.",
                         json_type_name(json_type(header)));
    if (n > LIMIT_FOLDER_TENSORS)
        return error_set(r->err, ERR_FORMAT, "The header has %zu tensors, more than the maximum of %d.", n,
                         LIMIT_FOLDER_TENSORS);
    r->shard->tensors = arena_alloc_array(r->arena, n + 1, sizeof(*r->shard->tensors));
    struct tensor_span *spans = arena_alloc_array(r->arena, n + 1, sizeof(*spans));
    if (!r->shard->tensors || !spans)
        return arena_full(r->arena, "index of a model folder", r->err);
    for (struct json_iter it = json_members(header); json_next(&it);) {
        size_t i = r->shard->n_tensors;
        spans[i].index = i;
        if (str_eq(it.key, STR(SAFETENSORS_METADATA)) ? !check_metadata(r, it.value)
                                                      : !read_tensor(r, it.key, it.value, &spans[i].offset))
            return false;
    }
    return tensor__place(r->shard, spans, 1, r->err) && check_holes(r, spans) && sort_tensors(r, spans);
}

static bool header_text(struct model_shard *shard, struct str *out, struct error *err)
{
    uint64_t len = 0;
    if (shard->size < sizeof(len))
        return error_set(err, ERR_FORMAT, "This is not a safetensors file: it has only %zu bytes.", shard->size);
    memcpy(&len, shard->data, sizeof(len));
    if (len > LIMIT_SAFETENSORS_HEAD)
        return error_set(err, ERR_FORMAT,
                         "The safetensors header would have %llu bytes, more than the maximum of %d: this may be "
                         "another kind of file.",
                         (unsigned long long)len, LIMIT_SAFETENSORS_HEAD);
    if (len > shard->size - sizeof(len))
        return error_set(err, ERR_FORMAT, "The file is cut off: its header has %llu bytes, but only %zu are left.",
                         (unsigned long long)len, shard->size - sizeof(len));
    *out = (struct str){(const char *)shard->data + sizeof(len), (size_t)len};
    shard->data_offset = sizeof(len) + (size_t)len;
    return true;
}

bool safetensors_read(struct model_shard *shard, struct arena *arena, struct error *err)
{
    struct reader r = {.shard = shard, .arena = arena, .err = err};
    struct str text;
    if (!header_text(shard, &text, err))
        return false;
    struct json *header = json_parse_bounded(text, MAX_DEPTH, (size_t)LIMIT_FOLDER_TENSORS * VALUES_OF_TENSOR, err);
    if (!header) {
        err->code = err->code == ERR_NO_MEMORY ? ERR_NO_MEMORY : ERR_FORMAT;
        return error_wrap(err, "The safetensors header");
    }
    bool ok = read_directory(&r, header);
    json_free(header);
    return ok;
}
