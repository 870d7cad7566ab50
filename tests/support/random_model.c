#include "tests/support/random_model.h"

#include "base/arena.h"
#include "base/array.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/rng.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- weights ---- */

static void tensor_key(const struct random_tensor *t, uint32_t key[2])
{
    char text[LIMIT_GGUF_NAME + 64];
    int len = snprintf(text, sizeof(text), "seed:%llu:%s", (unsigned long long)t->seed, t->name);
    struct sha256 digest = sha256_of(text, (size_t)len);
    memcpy(key, digest.bytes, 2 * sizeof(*key));
}

void random_tensor_values(const struct random_tensor *t, uint64_t first, size_t n, float *out)
{
    uint32_t key[2];
    tensor_key(t, key);
    double scale = t->std * 1.7320508075688772;
    for (size_t k = 0; k < n; k++) {
        uint64_t i = first + k;
        uint32_t counter[4] = {(uint32_t)i, (uint32_t)(i >> 32), 0, 0}, words[4];
        philox4x32_10(counter, key, words);
        double u = (double)(words[0] >> 8) * 0x1p-24;
        out[k] = (float)(t->offset + scale * (2.0 * u - 1.0));
    }
}

struct filled_tensor {
    struct random_tensor random;
    enum dtype type;
    uint64_t row_len;
};

struct given_tensor { /* "values" in the description */
    const float *values;
    uint64_t row_len;
};

static bool copy_rows(void *user, uint64_t first, uint64_t n, void *dst, struct error *err)
{
    const struct given_tensor *t = user;
    (void)err;
    memcpy(dst, t->values + first * t->row_len, (size_t)(n * t->row_len) * sizeof(float));
    return true;
}

static bool fill_rows(void *user, uint64_t first, uint64_t n, void *dst, struct error *err)
{
    const struct filled_tensor *t = user;
    size_t count = (size_t)(n * t->row_len);
    float *values = malloc(count * sizeof(*values));
    if (!values)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for random weights.");
    random_tensor_values(&t->random, first * t->row_len, count, values);
    bool ok = dtype_from_f32(t->type, values, count, dst);
    free(values);
    return ok || error_set(err, ERR_UNSUPPORTED, "Tensors of type %s cannot be made.", dtype_info(t->type)->name);
}

/* ---- configuration ---- */

struct random_model {
    struct arena *arena;
    struct gguf_writer *writer;
};

static const struct {
    const char *name;
    enum gguf_type type;
} type_names[] = {
    {"u8", GGUF_U8},   {"i8", GGUF_I8},   {"u16", GGUF_U16},   {"i16", GGUF_I16},
    {"u32", GGUF_U32}, {"i32", GGUF_I32}, {"u64", GGUF_U64},   {"i64", GGUF_I64},
    {"f32", GGUF_F32}, {"f64", GGUF_F64}, {"bool", GGUF_BOOL}, {"str", GGUF_STRING},
};

static bool parse_type(struct str name, enum gguf_type *type, bool *is_array)
{
    *is_array = str_ends(name, STR("[]"));
    if (*is_array)
        name.len -= 2;
    for (size_t i = 0; i < ARRAY_LEN(type_names); i++) {
        if (str_eq(name, str_of(type_names[i].name))) {
            *type = type_names[i].type;
            return true;
        }
    }
    return false;
}

static bool fits(const struct json *v, enum gguf_type type)
{
    switch (type) {
    case GGUF_F32:
    case GGUF_F64:
        return json_type(v) == JSON_INT || json_type(v) == JSON_DOUBLE;
    case GGUF_BOOL:
        return json_type(v) == JSON_BOOL;
    case GGUF_STRING:
        return json_type(v) == JSON_STRING;
    default:
        return json_type(v) == JSON_INT;
    }
}

static void put_scalar(struct gguf_writer *w, const char *key, enum gguf_type type, const struct json *v)
{
    switch (type) {
    case GGUF_F32:
    case GGUF_F64:
        gguf_put_float(w, key, type, json_double(v));
        break;
    case GGUF_BOOL:
        gguf_put_bool(w, key, json_bool(v));
        break;
    case GGUF_STRING:
        gguf_put_str(w, key, json_str(v));
        break;
    default:
        gguf_put_int(w, key, type, json_int(v));
    }
}

static size_t append_item(struct buf *b, enum gguf_type type, const struct json *v)
{
    double d = json_double(v);
    float f = (float)d;
    int64_t i = type == GGUF_BOOL ? json_bool(v) : json_int(v);
    size_t before = b->len;
    static const uint8_t widths[GGUF_TYPE_COUNT] = {
#define X(name, number, size) [number] = size,
        GGUF_TYPE_TABLE(X)
#undef X
    };
    if (type == GGUF_F32)
        buf_append_bytes(b, &f, sizeof(f));
    else if (type == GGUF_F64)
        buf_append_bytes(b, &d, sizeof(d));
    else
        buf_append_bytes(b, &i, widths[type]);
    return b->len - before;
}

static bool put_array(struct random_model *m, const char *key, enum gguf_type type, const struct json *items,
                      struct error *err)
{
    size_t n = json_len(items);
    struct str *strs = arena_alloc_array(m->arena, n + 1, sizeof(*strs));
    struct buf packed;
    if (!strs)
        return arena_full(m->arena, "model description", err);
    buf_init(&packed, MIB(64));
    for (size_t i = 0; i < n; i++) {
        if (!fits(json_at(items, i), type)) {
            buf_release(&packed);
            return error_set(err, ERR_INVALID, "Item %zu of '%s' has another type than the array.", i, key);
        }
        strs[i] = type == GGUF_STRING ? json_str(json_at(items, i)) : (struct str){0};
        if (type != GGUF_STRING)
            (void)append_item(&packed, type, json_at(items, i));
    }
    if (type == GGUF_STRING)
        gguf_put_str_array(m->writer, key, strs, n);
    else
        gguf_put_array(m->writer, key, type, packed.data, n);
    buf_release(&packed);
    return true;
}

static bool put_entry(struct random_model *m, const char *key, const struct json *entry, struct error *err)
{
    enum gguf_type type = GGUF_U8;
    bool is_array = false;
    const struct json *v = json_at(entry, 1);
    if (json_type(entry) != JSON_ARRAY || json_len(entry) != 2 ||
        !parse_type(json_str(json_at(entry, 0)), &type, &is_array))
        return error_set(err, ERR_INVALID, "The metadata '%s' is not [TYPE, VALUE].", key);
    if (is_array && json_type(v) == JSON_ARRAY)
        return put_array(m, key, type, v, err);
    if (is_array || !fits(v, type))
        return error_set(err, ERR_INVALID, "The value of the metadata '%s' does not suit its type.", key);
    put_scalar(m->writer, key, type, v);
    return true;
}

static bool put_metadata(struct random_model *m, const struct json *metadata, struct error *err)
{
    struct json_iter it = json_members(metadata);
    while (json_next(&it)) {
        char *key = arena_strdup(m->arena, it.key);
        if (!key)
            return arena_full(m->arena, "model description", err);
        if (!put_entry(m, key, it.value, err))
            return false;
    }
    return true;
}

/* ---- tokenizer ---- */

void copy_meta(struct gguf_writer *w, const struct model_file *from, const char *prefix)
{
    for (size_t i = 0; i < model_file_n_meta(from); i++) {
        struct meta_value v = model_file_meta_at(from, i);
        if (str_starts(model_file_meta_key(from, i), str_of(prefix)))
            gguf_put_value(w, model_file_meta_key(from, i), &v);
    }
}

/* GPT-2 writes bytes as characters: printable Latin-1 as itself, the others from U+0100 on in order. */
static struct str byte_token(struct arena *arena, int byte, uint32_t *next)
{
    bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    char text[4];
    size_t len = utf8_encode(printable ? (uint32_t)byte : (*next)++, text);
    return arena_str(arena, (struct str){text, len});
}

#define N_TINY_TOKENS 260
#define TOKEN_NORMAL  1
#define TOKEN_CONTROL 3
#define TOKEN_UNUSED  5

static bool put_tiny_tokenizer(struct random_model *m, int64_t n, struct error *err)
{
    static const char *const specials[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"};
    struct str *tokens = arena_alloc_array(m->arena, (size_t)n, sizeof(*tokens));
    int32_t *types = arena_alloc_array(m->arena, (size_t)n, sizeof(*types));
    if (!tokens || !types)
        return arena_full(m->arena, "model description", err);
    uint32_t next = 256;
    for (int64_t i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof(name), "<|unused_%lld|>", (long long)i);
        if (i < 256)
            tokens[i] = byte_token(m->arena, (int)i, &next);
        else
            tokens[i] = i < N_TINY_TOKENS ? str_of(specials[i - 256]) : arena_str(m->arena, str_of(name));
        types[i] = i < 256 ? TOKEN_NORMAL : i < N_TINY_TOKENS ? TOKEN_CONTROL : TOKEN_UNUSED;
    }
    struct gguf_writer *w = m->writer;
    gguf_put_str(w, "tokenizer.ggml.model", STR("gpt2"));
    gguf_put_str(w, "tokenizer.ggml.pre", STR("gpt-2"));
    gguf_put_str_array(w, "tokenizer.ggml.tokens", tokens, (size_t)n);
    gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, (size_t)n);
    gguf_put_str_array(w, "tokenizer.ggml.merges", NULL, 0);
    gguf_put_int(w, "tokenizer.ggml.bos_token_id", GGUF_U32, 256);
    gguf_put_int(w, "tokenizer.ggml.eos_token_id", GGUF_U32, 256);
    gguf_put_int(w, "tokenizer.ggml.eot_token_id", GGUF_U32, 258);
    gguf_put_int(w, "tokenizer.ggml.padding_token_id", GGUF_U32, 259);
    gguf_put_bool(w, "tokenizer.ggml.add_bos_token", false);
    gguf_put_str(w, "tokenizer.chat_template",
                 STR("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
                     "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
                     "'<|im_start|>assistant\\n' }}{% endif %}"));
    return true;
}

static bool put_tokenizer(struct random_model *m, const struct json *root, const struct model_file *from,
                          struct error *err)
{
    if (from) {
        copy_meta(m->writer, from, "tokenizer.");
        return true;
    }
    if (json_get(json_get(root, "metadata"), "tokenizer.ggml.model"))
        return true;
    const struct json *size = json_get(root, "vocab_size");
    int64_t n = size ? json_int(size) : N_TINY_TOKENS;
    if (n < N_TINY_TOKENS || n > LIMIT_VOCAB)
        return error_set(err, ERR_INVALID, "vocab_size is not in the range from %d to %u.", N_TINY_TOKENS, LIMIT_VOCAB);
    return put_tiny_tokenizer(m, n, err);
}

/* ---- tensors ---- */

static double number_or(const struct json *v, double fallback)
{
    return v ? json_double(v) : fallback;
}

/* A vector whose values the description has. */
static bool add_given(struct random_model *m, const struct json *entry, struct error *err)
{
    const struct json *values = json_get(entry, "values");
    size_t n = json_len(values);
    struct given_tensor *t = arena_alloc(m->arena, sizeof(*t));
    float *items = arena_alloc_array(m->arena, n + 1, sizeof(*items));
    char *name = arena_strdup(m->arena, json_str(json_get(entry, "name")));
    if (!t || !items || !name)
        return arena_full(m->arena, "model description", err);
    for (size_t i = 0; i < n; i++)
        items[i] = (float)json_double(json_at(values, i));
    *t = (struct given_tensor){items, n};
    gguf_add_tensor(m->writer,
                    &(struct gguf_tensor){
                        .name = name, .type = DTYPE_F32, .n_dims = 1, .shape = {n}, .fill = copy_rows, .user = t});
    return true;
}

static bool add_tensor(struct random_model *m, uint64_t seed, const struct json *entry, struct error *err)
{
    struct filled_tensor *t = arena_alloc(m->arena, sizeof(*t));
    char *name = arena_strdup(m->arena, json_str(json_get(entry, "name")));
    if (!t || !name)
        return arena_full(m->arena, "model description", err);
    const struct json *dtype = json_get(entry, "dtype"), *shape = json_get(entry, "shape");
    t->random = (struct random_tensor){seed, name, number_or(json_get(entry, "std"), 1.0),
                                       number_or(json_get(entry, "offset"), 0.0)};
    t->type = DTYPE_F32;
    if (dtype && !dtype_from_name(json_str(dtype).ptr, &t->type))
        return error_set(err, ERR_INVALID, "The dtype of the tensor '%.96s' is unknown.", name);
    size_t n_dims = json_len(shape);
    if (strlen(name) == 0 || strlen(name) > LIMIT_GGUF_NAME || n_dims < 1 || n_dims > TENSOR_MAX_DIMS)
        return error_set(err, ERR_INVALID, "A tensor lacks a name, or a shape of 1 to 4 numbers.");
    struct gguf_tensor spec = {.name = name, .type = t->type, .n_dims = (int)n_dims, .fill = fill_rows, .user = t};
    for (size_t i = 0; i < n_dims; i++)
        spec.shape[i] = (uint64_t)json_int(json_at(shape, i));
    t->row_len = spec.shape[n_dims - 1];
    gguf_add_tensor(m->writer, &spec);
    return true;
}

static bool build(struct random_model *m, const struct json *root, const struct model_file *from, struct error *err)
{
    const struct json *seed = json_get(root, "seed"), *tensors = json_get(root, "tensors");
    if (!put_metadata(m, json_get(root, "metadata"), err) || !put_tokenizer(m, root, from, err))
        return false;
    for (size_t i = 0; i < json_len(tensors); i++) {
        const struct json *entry = json_at(tensors, i);
        if (json_get(entry, "values") ? !add_given(m, entry, err)
                                      : !add_tensor(m, seed ? (uint64_t)json_int(seed) : 0, entry, err))
            return false;
    }
    return true;
}

struct random_model *random_model_create(struct str config, const struct model_file *tokenizer_from, struct error *err)
{
    struct json *root = json_parse(config, 0, err);
    struct arena *arena = root ? arena_create(MIB(256)) : NULL;
    struct random_model *m = arena ? arena_alloc(arena, sizeof(*m)) : NULL;
    bool ok = m != NULL;
    if (root && !ok)
        error_set(err, ERR_NO_MEMORY, "There is no memory for a random model.");
    if (ok) {
        m->arena = arena;
        m->writer = gguf_writer_create();
        ok = m->writer && build(m, root, tokenizer_from, err);
    }
    json_free(root);
    if (!ok && m)
        random_model_free(m);
    else if (!ok)
        arena_free(arena);
    return ok ? m : NULL;
}

void random_model_free(struct random_model *m)
{
    if (!m)
        return;
    gguf_writer_free(m->writer);
    arena_free(m->arena);
}

struct gguf_writer *random_model_writer(struct random_model *m)
{
    return m->writer;
}
