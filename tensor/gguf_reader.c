/* One GGUF file. Every number is checked before it is used: counts against the bytes left, so that nothing larger than
 * a small multiple of the file is ever allocated; sizes and offsets with arithmetic that cannot wrap. */
#include "tensor/model_file_internal.h"

#include "base/array.h"
#include "base/limits.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF files are read in place");

/* Least bytes of one entry; bound the counts of the header before anything is allocated. */
#define MIN_KEY_SIZE    (8 + 1 + 4 + 1)
#define MIN_TENSOR_SIZE (8 + 1 + 4 + 8 + 4 + 8)

struct cursor {
    const uint8_t *data;
    size_t pos, size; /* pos <= size */
    char where[160];  /* what is being read, for messages: "the metadata key 'general.name'" */
    struct error *err;
};

static const uint8_t *take(struct cursor *c, uint64_t n)
{
    if (n > c->size - c->pos) {
        error_set(c->err, ERR_FORMAT, "The file is cut off: %s needs %llu bytes at byte %zu of %zu.", c->where,
                  (unsigned long long)n, c->pos, c->size);
        return NULL;
    }
    const uint8_t *p = c->data + c->pos;
    c->pos += (size_t)n;
    return p;
}

static bool take_u32(struct cursor *c, uint32_t *out)
{
    const uint8_t *p = take(c, sizeof(*out));
    if (p)
        memcpy(out, p, sizeof(*out));
    return p != NULL;
}

static bool take_u64(struct cursor *c, uint64_t *out)
{
    const uint8_t *p = take(c, sizeof(*out));
    if (p)
        memcpy(out, p, sizeof(*out));
    return p != NULL;
}

static bool take_str(struct cursor *c, uint64_t max, struct str *out)
{
    uint64_t len = 0;
    if (!take_u64(c, &len))
        return false;
    if (len > max)
        return error_set(c->err, ERR_FORMAT, "A string of %llu bytes in %s is longer than its maximum of %llu.",
                         (unsigned long long)len, c->where, (unsigned long long)max);
    const uint8_t *p = take(c, len);
    *out = (struct str){(const char *)p, (size_t)len};
    return p != NULL;
}

/* ---- metadata ---- */

static size_t type_size(uint32_t type)
{
    static const uint8_t sizes[GGUF_TYPE_COUNT] = {
#define X(name, number, size) [number] = size,
        GGUF_TYPE_TABLE(X)
#undef X
    };
    return type < GGUF_TYPE_COUNT ? sizes[type] : 0;
}

/* The view's type of a GGUF type; META_NONE for numbers that are none. */
static enum meta_type view_type(uint32_t type)
{
    switch (type) {
    case GGUF_F32:
    case GGUF_F64:
        return META_FLOAT;
    case GGUF_BOOL:
        return META_BOOL;
    case GGUF_STRING:
        return META_STRING;
    case GGUF_ARRAY:
        return META_ARRAY;
    default:
        return type < GGUF_TYPE_COUNT ? META_INT : META_NONE;
    }
}

static bool check_item(const struct cursor *c, uint32_t type, const uint8_t *p)
{
    if (type == GGUF_BOOL && *p > 1)
        return error_set(c->err, ERR_FORMAT, "A boolean of %s is %u instead of 0 or 1.", c->where, *p);
    if (type == GGUF_U64 && p[7] >= 0x80)
        return error_set(c->err, ERR_FORMAT, "An integer of %s is beyond 63 bits.", c->where);
    return true;
}

static bool read_strings(struct cursor *c, struct arena *arena, uint64_t n, struct meta_items *array)
{
    if (n > (c->size - c->pos) / sizeof(uint64_t))
        return error_set(c->err, ERR_FORMAT, "The file is cut off: %s has %llu strings, but only %zu bytes are left.",
                         c->where, (unsigned long long)n, c->size - c->pos);
    struct str *strs = arena_alloc_array(arena, n ? (size_t)n : 1, sizeof(*strs));
    if (!strs)
        return arena_full(arena, "index of a model file", c->err);
    for (uint64_t i = 0; i < n; i++) {
        if (!take_str(c, UINT64_MAX, &strs[i]))
            return false;
    }
    array->strs = strs;
    return true;
}

static bool read_packed(struct cursor *c, uint64_t n, struct meta_items *array)
{
    size_t item_size = type_size(array->type);
    if (n > (c->size - c->pos) / item_size)
        return error_set(c->err, ERR_FORMAT, "The file is cut off: %s has %llu items, but only %zu bytes are left.",
                         c->where, (unsigned long long)n, c->size - c->pos);
    array->data = take(c, n * item_size);
    if (!array->data)
        return false;
    if (array->type != GGUF_BOOL && array->type != GGUF_U64)
        return true;
    for (uint64_t i = 0; i < n; i++) {
        if (!check_item(c, array->type, array->data + i * item_size))
            return false;
    }
    return true;
}

static bool read_array(struct cursor *c, struct arena *arena, struct meta_value *out)
{
    uint32_t type = 0;
    uint64_t n = 0;
    if (!take_u32(c, &type) || !take_u64(c, &n))
        return false;
    enum meta_type item_type = view_type(type);
    if (item_type == META_NONE)
        return error_set(c->err, ERR_FORMAT, "The item type %u of %s is unknown.", (unsigned)type, c->where);
    if (item_type == META_ARRAY)
        return error_set(c->err, ERR_UNSUPPORTED, "An array of arrays in %s is not supported.", c->where);
    struct meta_items *array = arena_alloc(arena, sizeof(*array));
    if (!array)
        return arena_full(arena, "index of a model file", c->err);
    array->type = (enum gguf_type)type;
    if (item_type == META_STRING ? !read_strings(c, arena, n, array) : !read_packed(c, n, array))
        return false;
    out->item_type = item_type;
    out->n = (size_t)n;
    out->items = array;
    return true;
}

int64_t gguf__int(enum gguf_type type, const uint8_t *p)
{
    int64_t wide = 0;
    memcpy(&wide, p, type_size(type)); /* little-endian: the low bytes */
    switch (type) {
    case GGUF_I8:
        return (int8_t)wide;
    case GGUF_I16:
        return (int16_t)wide;
    case GGUF_I32:
        return (int32_t)wide;
    default:
        return wide;
    }
}

double gguf__float(enum gguf_type type, const uint8_t *p)
{
    float f;
    double d;
    if (type == GGUF_F32) {
        memcpy(&f, p, sizeof(f));
        return (double)f;
    }
    memcpy(&d, p, sizeof(d));
    return d;
}

size_t gguf__type_size(enum gguf_type type)
{
    return type_size(type);
}

static bool read_value(struct cursor *c, struct arena *arena, struct meta_value *out)
{
    uint32_t type = 0;
    if (!take_u32(c, &type))
        return false;
    *out = (struct meta_value){.type = view_type(type), .source_type = type};
    switch (out->type) {
    case META_NONE:
        return error_set(c->err, ERR_FORMAT, "The type %u of %s is unknown.", (unsigned)type, c->where);
    case META_STRING:
        return take_str(c, UINT64_MAX, &out->s);
    case META_ARRAY:
        return read_array(c, arena, out);
    default:
        break;
    }
    const uint8_t *p = take(c, type_size(type));
    if (!p || !check_item(c, type, p))
        return false;
    if (out->type == META_INT)
        out->i = gguf__int((enum gguf_type)type, p);
    else if (out->type == META_FLOAT)
        out->f = gguf__float((enum gguf_type)type, p);
    else
        out->b = *p != 0;
    return true;
}

/* Keys are ASCII without blanks, as the format has it; so they can be printed and looked up as C strings. */
static bool key_valid(struct str key)
{
    for (size_t i = 0; i < key.len; i++) {
        if (key.ptr[i] <= ' ' || key.ptr[i] > '~')
            return false;
    }
    return key.len > 0;
}

static bool read_key(struct cursor *c, size_t number, struct str *key)
{
    snprintf(c->where, sizeof(c->where), "the metadata key number %zu", number);
    if (!take_str(c, LIMIT_GGUF_KEY, key))
        return false;
    if (!key_valid(*key))
        return error_set(c->err, ERR_FORMAT, "The name of %s is empty or not printable ASCII.", c->where);
    snprintf(c->where, sizeof(c->where), "the metadata key '" STR_FMT "'", STR_ARG(str_slice(*key, 0, 96)));
    return true;
}

static bool read_meta(struct cursor *c, struct arena *arena, uint64_t n, struct meta_table *table)
{
    if (n > LIMIT_GGUF_KEYS || n > (c->size - c->pos) / MIN_KEY_SIZE)
        return error_set(c->err, ERR_FORMAT,
                         "%llu metadata keys are more than the %zu bytes left, or the maximum of %d, allow.",
                         (unsigned long long)n, c->size - c->pos, LIMIT_GGUF_KEYS);
    size_t capacity = (size_t)n + LIMIT_GGUF_OVERRIDES;
    table->entries = arena_alloc_array(arena, capacity, sizeof(*table->entries));
    if (!table->entries || !name_index_init(&table->index, arena, capacity))
        return arena_full(arena, "index of a model file", c->err);
    for (; table->n < n; table->n++) {
        struct meta_entry *entry = &table->entries[table->n];
        if (!read_key(c, table->n, &entry->key) || !read_value(c, arena, &entry->value))
            return false;
        if (!name_index_add(&table->index, entry->key, table->n))
            return error_set(c->err, ERR_FORMAT, "The file has %s twice.", c->where);
    }
    return true;
}

/* ---- tensors ---- */

static bool read_shape(struct cursor *c, struct tensor_view *t, uint64_t *n_elements)
{
    uint32_t n_dims = 0;
    if (!take_u32(c, &n_dims))
        return false;
    if (n_dims < 1 || n_dims > LIMIT_GGUF_DIMS)
        return error_set(c->err, ERR_FORMAT, "%s has %u dimensions instead of 1 to %d.", c->where, (unsigned)n_dims,
                         LIMIT_GGUF_DIMS);
    t->n_dims = (int)n_dims;
    for (int i = 0; i < TENSOR_MAX_DIMS; i++)
        t->shape[i] = 1;
    *n_elements = 1;
    for (int i = t->n_dims - 1; i >= 0; i--) {
        if (!take_u64(c, &t->shape[i]))
            return false;
        if (t->shape[i] == 0 || t->shape[i] > (uint64_t)INT64_MAX / *n_elements)
            return error_set(c->err, ERR_FORMAT, "%s has a dimension of zero, or too many elements.", c->where);
        *n_elements *= t->shape[i];
    }
    return true;
}

/* One entry of the directory; *offset is relative to the data, whose place is not known yet. */
static bool read_tensor(struct cursor *c, size_t number, struct tensor_view *t, uint64_t *offset)
{
    snprintf(c->where, sizeof(c->where), "The tensor number %zu", number);
    if (!take_str(c, LIMIT_GGUF_NAME, &t->name))
        return false;
    if (!tensor__name_valid(t->name))
        return error_set(c->err, ERR_FORMAT, "%s has a name that is empty or not printable UTF-8.", c->where);
    struct str shown = str_slice(t->name, 0, utf8_cut(t->name, 96));
    snprintf(c->where, sizeof(c->where), "The tensor '" STR_FMT "'", STR_ARG(shown));
    uint64_t n_elements = 0;
    uint32_t type = 0;
    if (!read_shape(c, t, &n_elements) || !take_u32(c, &type) || !take_u64(c, offset))
        return false;
    if (!dtype_from_gguf(type, &t->type, c->err))
        return error_wrap(c->err, "%s", c->where);
    const struct dtype_info *info = dtype_info(t->type);
    uint64_t row_len = t->shape[t->n_dims - 1];
    if (row_len % (uint64_t)info->block_len != 0)
        return error_set(c->err, ERR_FORMAT, "%s has rows of %llu elements, which are not whole blocks of %s.",
                         c->where, (unsigned long long)row_len, info->name);
    if (!dtype_size(t->type, n_elements, &t->size))
        return error_set(c->err, ERR_FORMAT, "%s has too many elements.", c->where);
    return true;
}

/* A power of two, as the padding arithmetic needs. */
static bool read_alignment(const struct meta_table *meta, uint64_t *out, struct error *err)
{
    int64_t alignment = GGUF_DEFAULT_ALIGNMENT;
    if (!meta__int_or(meta, GGUF_KEY_ALIGNMENT, 1, INT64_C(1) << 30, GGUF_DEFAULT_ALIGNMENT, &alignment, err))
        return false;
    if ((alignment & (alignment - 1)) != 0)
        return error_set(err, ERR_FORMAT, "The metadata key '" GGUF_KEY_ALIGNMENT "' is %lld, not a power of two.",
                         (long long)alignment);
    *out = (uint64_t)alignment;
    return true;
}

static bool read_tensors(struct cursor *c, struct arena *arena, uint64_t n, struct model_shard *shard)
{
    if (n > LIMIT_GGUF_TENSORS || n > (c->size - c->pos) / MIN_TENSOR_SIZE)
        return error_set(c->err, ERR_FORMAT,
                         "%llu tensors are more than the %zu bytes left, or the maximum of %d, allow.",
                         (unsigned long long)n, c->size - c->pos, LIMIT_GGUF_TENSORS);
    uint64_t alignment = GGUF_DEFAULT_ALIGNMENT;
    if (!read_alignment(&shard->meta, &alignment, c->err))
        return false;
    shard->n_tensors = (size_t)n;
    shard->tensors = arena_alloc_array(arena, shard->n_tensors + 1, sizeof(*shard->tensors));
    struct tensor_span *spans = arena_alloc_array(arena, shard->n_tensors + 1, sizeof(*spans));
    if (!shard->tensors || !spans)
        return arena_full(arena, "index of a model file", c->err);
    for (size_t i = 0; i < shard->n_tensors; i++) {
        spans[i].index = i;
        if (!read_tensor(c, i, &shard->tensors[i], &spans[i].offset))
            return false;
    }
    uint64_t padding = (alignment - c->pos % alignment) % alignment;
    if (n == 0 || padding > c->size - c->pos)
        padding = c->size - c->pos; /* then there is no data at all, and tensor__place says so */
    shard->data_offset = c->pos + (size_t)padding;
    return tensor__place(shard, spans, alignment, c->err);
}

/* ---- header ---- */

static bool read_header(struct cursor *c, uint32_t *version, uint64_t *n_tensors, uint64_t *n_keys)
{
    snprintf(c->where, sizeof(c->where), "the header");
    const uint8_t *magic = take(c, 4);
    if (!magic)
        return false;
    if (memcmp(magic, GGUF_MAGIC, 4) != 0)
        return error_set(c->err, ERR_FORMAT,
                         "This is not a GGUF file: it begins with the bytes %02x %02x %02x %02x instead of \"GGUF\".",
                         magic[0], magic[1], magic[2], magic[3]);
    if (!take_u32(c, version))
        return false;
    if (*version != 0 && (*version & 0xffff) == 0)
        return error_set(c->err, ERR_UNSUPPORTED, "Big-endian GGUF files are not supported.");
    if (*version < 2 || *version > GGUF_VERSION)
        return error_set(c->err, ERR_UNSUPPORTED, "GGUF version %u is not supported, only 2 and 3.",
                         (unsigned)*version);
    return take_u64(c, n_tensors) && take_u64(c, n_keys);
}

bool gguf_read(struct model_shard *shard, struct arena *arena, struct error *err)
{
    struct cursor c = {.data = shard->data, .size = shard->size, .err = err};
    uint64_t n_tensors = 0, n_keys = 0;
    return read_header(&c, &shard->version, &n_tensors, &n_keys) && read_meta(&c, arena, n_keys, &shard->meta) &&
           read_tensors(&c, arena, n_tensors, shard);
}
