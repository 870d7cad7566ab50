#include "tests/support/random_folder.h"

#include "base/arena.h"
#include "base/array.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/sys_file.h"
#include "base/utf8.h"
#include "tensor/safetensors_writer.h"
#include "tests/support/random_model.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_PARTS 4
#define MAX_FILES 8

struct random_folder {
    struct arena *arena;
    const struct random_folder_options *options;
    struct json *root;
    uint64_t seed;
    struct safetensors_writer *writer;
    struct buf config, weights, tokenizer, tokenizer_config;
    struct model_folder_file files[MAX_FILES];
    size_t n_files;
};

/* ---- values ---- */

struct part {
    struct random_tensor random;
    uint64_t n_rows;  /* of a block */
    uint64_t first;   /* row of the tensor, where the part is some of its rows */
    uint64_t n_heads; /* of "unpermute"; 0: rows stay where they are */
};

enum layout { ROWS, ALTERNATING, COLUMNS, ALTERNATING_COLUMNS, TURNED };

struct folder_tensor {
    enum layout layout;
    uint64_t turned_rows;      /* of TURNED: columns of the first part */
    uint64_t n_blocks, n_cols; /* of a layout that is not ROWS: of the parts */
    enum dtype type;
    struct part parts[MAX_PARTS];
    int n_parts;
    uint64_t row_len;    /* a vector has rows of 1 */
    uint64_t block_rows; /* of all parts together */
    uint64_t expert;     /* number of the first block */
    uint64_t n_groups;   /* of "by_kv_head"; 1: parts follow one another */
    float minus;
    bool log;
    bool vector;
};

/* The row of a part that becomes row i of the folder's. */
static uint64_t source_row(const struct part *p, uint64_t i)
{
    if (p->n_heads == 0)
        return p->first + i;
    uint64_t dim = p->n_rows / p->n_heads, half = dim / 2, in_head = i % dim;
    return i - in_head + 2 * (in_head % half) + in_head / half;
}

static void row_values(const struct folder_tensor *t, uint64_t row, float *out)
{
    uint64_t block = row / t->block_rows + t->expert, i = row % t->block_rows;
    uint64_t group_rows = t->block_rows / t->n_groups, group = i / group_rows;
    const struct part *p = t->parts;
    for (i %= group_rows; i >= p->n_rows / t->n_groups; p++)
        i -= p->n_rows / t->n_groups;
    i += group * (p->n_rows / t->n_groups);
    uint64_t first = (block * p->n_rows + source_row(p, i)) * t->row_len;
    random_tensor_values(&p->random, first, (size_t)t->row_len, out);
    for (uint64_t k = 0; k < t->row_len; k++)
        out[k] = t->log ? logf(-out[k]) : out[k] - t->minus;
}

/* Element (row, column) of a block of a tensor whose layout is not ROWS. */
static float element(const struct folder_tensor *t, uint64_t block, uint64_t row, uint64_t column)
{
    bool columns = t->layout == COLUMNS || t->layout == ALTERNATING_COLUMNS;
    bool alternating = t->layout == ALTERNATING || t->layout == ALTERNATING_COLUMNS;
    uint64_t i = columns ? column : row, k = columns ? row : column, n_parts = (uint64_t)t->n_parts;
    const struct part *p = t->parts;
    float value;
    if (alternating) {
        p += i % n_parts;
        i /= n_parts;
    } else if (t->layout == TURNED && i < t->turned_rows) {
        uint64_t swapped = i;
        i = k;
        k = swapped;
    } else {
        i -= t->layout == TURNED ? t->turned_rows : 0;
        p += t->layout == TURNED;
        for (; i >= p->n_rows; p++)
            i -= p->n_rows;
    }
    uint64_t cols = p == t->parts && t->layout == TURNED ? t->turned_rows : t->n_cols;
    random_tensor_values(&p->random, (block * p->n_rows + i) * cols + k, 1, &value);
    return value;
}

static void laid_out(const struct folder_tensor *t, uint64_t row, float *out)
{
    uint64_t block = row / t->block_rows;
    for (uint64_t k = 0; k < t->row_len; k++)
        out[k] = element(t, block, row % t->block_rows, k);
}

static bool fill_rows(void *user, uint64_t first, uint64_t n, void *dst, struct error *err)
{
    const struct folder_tensor *t = user;
    uint64_t rows_per_call = t->vector ? t->block_rows : 1; /* the writer counts a vector as one row */
    size_t count = (size_t)(n * rows_per_call * t->row_len);
    float *values = malloc(count * sizeof(*values));
    if (!values)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for random weights.");
    for (uint64_t i = 0; i < n * rows_per_call; i++) {
        if (t->layout == ROWS)
            row_values(t, first * rows_per_call + i, values + i * t->row_len);
        else
            laid_out(t, first * rows_per_call + i, values + i * t->row_len);
    }
    bool ok = dtype_from_f32(t->type, values, count, dst);
    free(values);
    return ok || error_set(err, ERR_UNSUPPORTED, "Tensors of type %s cannot be made.", dtype_info(t->type)->name);
}

/* ---- tensors ---- */

static const struct json *find_entry(const struct random_folder *f, struct str name)
{
    const struct json *tensors = json_get(f->root, "tensors");
    for (size_t i = 0; i < json_len(tensors); i++) {
        if (str_eq(json_str(json_get(json_at(tensors, i), "name")), name))
            return json_at(tensors, i);
    }
    return NULL;
}

/* Rows of a part's name, "[0:48]", are cut off it. False: it has none. */
static bool cut_rows(struct str *name, uint64_t *first, uint64_t *end)
{
    size_t bracket = str_find_char(*name, '[');
    if (bracket == STR_NPOS)
        return false;
    struct str rows = str_slice(*name, bracket + 1, name->len - 1), number;
    *name = str_slice(*name, 0, bracket);
    return str_split(&rows, ':', &number) && str_to_u64(number, first) && str_to_u64(rows, end) && *first < *end;
}

static uint64_t axis(const struct json *shape, size_t i)
{
    return (uint64_t)json_int(json_at(shape, i));
}

/* one: of the outermost axis, which is none of the tensor's then. */
static bool add_part(struct random_folder *f, struct folder_tensor *t, struct str name, bool one,
                     struct gguf_tensor *out, struct error *err)
{
    uint64_t first = 0, end = 0;
    bool some = cut_rows(&name, &first, &end);
    const struct json *entry = find_entry(f, name), *shape = json_get(entry, "shape");
    size_t n_dims = json_len(shape);
    char *copy = arena_strdup(f->arena, name);
    if (!entry || !copy || n_dims < 1 || n_dims > 3 || t->n_parts == MAX_PARTS)
        return error_set(err, ERR_INVALID, "The part '" STR_FMT "' of a folder's tensor is not described.",
                         STR_ARG(name));
    struct part *p = &t->parts[t->n_parts++];
    p->random = (struct random_tensor){f->seed, copy, json_double(json_get(entry, "std")),
                                       json_double(json_get(entry, "offset"))};
    t->vector = n_dims == (one ? 2 : 1);
    t->row_len = t->vector ? 1 : axis(shape, n_dims - 1);
    p->n_rows = some ? end - first : axis(shape, t->vector ? n_dims - 1 : n_dims - 2);
    p->first = first;
    t->block_rows += p->n_rows;
    out->n_dims = (int)n_dims;
    for (size_t i = 0; i < n_dims; i++)
        out->shape[i] = axis(shape, i);
    return true;
}

/* ---- blocks and scales ---- */

#define MXFP4_BLOCK 17 /* of GGUF: a scale, then codes i and i + 16 in a byte */

/* Rows of a tensor as MXFP4, in order: 16 bytes for each group, or their scales. */
struct block_rows {
    const struct folder_tensor *t;
    bool scales;
};

static void split_block(const uint8_t *block, uint8_t *codes, uint8_t *scale)
{
    *scale = block[0];
    for (int i = 0; i < 16; i++) { /* codes 2i, 2i + 1 */
        const uint8_t *pair = block + 1 + 2 * i % 16;
        int shift = i < 8 ? 0 : 4;
        codes[i] = (uint8_t)((pair[0] >> shift & 15) | (pair[1] >> shift & 15) << 4);
    }
}

static bool fill_blocks(void *user, uint64_t first, uint64_t n, void *dst, struct error *err)
{
    const struct block_rows *b = user;
    size_t n_cols = (size_t)b->t->row_len, n_groups = n_cols / 32, per_row = b->scales ? 1 : n_groups;
    float *values = malloc(n_cols * sizeof(*values));
    uint8_t *blocks = malloc(n_groups * MXFP4_BLOCK), *out = dst, codes[16], scale;
    bool ok = values && blocks;
    /* the writer's rows: of the scales, all groups of a row; of the blocks, one group */
    for (uint64_t i = 0; ok && i < n; i++) {
        uint64_t row = (first + i) / per_row, group = (first + i) % per_row;
        laid_out(b->t, row, values);
        ok = dtype_from_f32(DTYPE_MXFP4, values, n_cols, blocks);
        for (uint64_t g = b->scales ? 0 : group; ok && g < (b->scales ? n_groups : group + 1); g++) {
            split_block(blocks + g * MXFP4_BLOCK, codes, &scale);
            if (b->scales) {
                *out++ = scale;
            } else {
                memcpy(out, codes, sizeof(codes));
                out += sizeof(codes);
            }
        }
    }
    free(values);
    free(blocks);
    return ok || error_set(err, ERR_NO_MEMORY, "There is no memory for random weights.");
}

/* shape: [blocks, rows, n] of the tensor's rows. */
static bool add_blocks(struct random_folder *f, const struct folder_tensor *t, const char *name, const uint64_t *shape,
                       struct error *err)
{
    for (int scales = 0; scales < 2; scales++) {
        struct block_rows *b = arena_alloc(f->arena, sizeof(*b));
        char full[LIMIT_GGUF_NAME + 32];
        snprintf(full, sizeof(full), "%s_%s", name, scales ? "scales" : "blocks");
        char *copy = arena_strdup(f->arena, str_of(full));
        if (!b || !copy)
            return arena_full(f->arena, "model description", err);
        *b = (struct block_rows){t, scales};
        struct gguf_tensor out = {.name = copy,
                                  .type = DTYPE_U8,
                                  .n_dims = scales ? 3 : 4,
                                  .shape = {shape[0], shape[1], shape[2] / 32, 16},
                                  .fill = fill_blocks,
                                  .user = b};
        safetensors_add_tensor(f->writer, &out);
    }
    return true;
}

static bool parse_layout(struct str name, enum layout *out)
{
    static const char *const names[] = {"", "alternating", "columns", "alternating columns", "turned"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (str_eq(name, str_of(names[i]))) {
            *out = (enum layout)i;
            return true;
        }
    }
    return false;
}

/* Shapes of a tensor whose parts are no rows: blocks of rows; of vectors, whose elements are rows of one. Rows of the
 * file are those that fill_rows is asked for: a block of vectors is one. */
static void lay_out(struct folder_tensor *t, struct gguf_tensor *out)
{
    bool vectors = out->n_dims == 2;
    uint64_t n_cols = out->shape[out->n_dims - 1], rows = vectors ? 0 : t->block_rows;
    t->n_blocks = out->shape[0];
    t->n_cols = vectors ? 1 : n_cols;
    if (vectors) {
        for (int i = 0; i < t->n_parts; i++)
            t->parts[i].n_rows = n_cols;
        rows = n_cols * (uint64_t)t->n_parts;
    }
    if (t->layout == TURNED) { /* the last part's columns are those of the tensor */
        rows = t->turned_rows + rows - t->parts[0].n_rows;
        out->n_dims = 2;
        out->shape[0] = t->n_blocks * rows;
        out->shape[1] = n_cols;
        t->block_rows = rows;
        t->row_len = n_cols;
        return;
    }
    bool columns = t->layout == COLUMNS || t->layout == ALTERNATING_COLUMNS;
    t->block_rows = columns ? t->n_cols : rows;
    t->row_len = columns ? rows : t->n_cols;
    if (vectors) {
        out->shape[1] = rows;
        t->row_len = 1;
        t->block_rows = rows;
        t->vector = true;
    } else {
        out->shape[1] = t->block_rows;
        out->shape[2] = t->row_len;
    }
}

static const char *tensor_name(const struct random_folder *f, struct str name)
{
    char full[LIMIT_GGUF_NAME + 32];
    snprintf(full, sizeof(full), "%s" STR_FMT, f->options->wrapped ? "language_model." : "", STR_ARG(name));
    return arena_strdup(f->arena, str_of(full));
}

static uint64_t heads_of(const struct json *unpermute, int part)
{
    return (uint64_t)json_int(json_type(unpermute) == JSON_ARRAY ? json_at(unpermute, (size_t)part) : unpermute);
}

static bool has_mlx(const struct random_folder *f)
{
    return json_get(json_get(f->root, "folder"), "mlx");
}

static bool is_mlx(const struct random_folder *f)
{
    return has_mlx(f) && f->options->layout && strcmp(f->options->layout, "switch") == 0;
}

static bool add_tensor(struct random_folder *f, const struct json *entry, struct error *err)
{
    const struct json *parts = json_get(entry, "parts"), *expert = json_get(entry, "expert");
    struct folder_tensor *t = arena_alloc(f->arena, sizeof(*t));
    struct gguf_tensor out = {.fill = fill_rows, .user = t};
    if (!t || !(out.name = tensor_name(f, json_str(json_get(entry, "name")))))
        return arena_full(f->arena, "model description", err);
    if (!parse_layout(json_str(json_get(entry, "layout")), &t->layout))
        return error_set(err, ERR_INVALID, "The layout of the folder's tensor '%s' is unknown.", out.name);
    for (size_t i = 0; i < json_len(parts); i++) {
        if (!add_part(f, t, json_str(json_at(parts, i)), expert != NULL, &out, err))
            return false;
        t->turned_rows = i == 0 ? t->row_len : t->turned_rows;
    }
    for (int i = 0; i < t->n_parts; i++)
        t->parts[i].n_heads = heads_of(json_get(entry, "unpermute"), i);
    const struct json *groups = json_get(entry, "by_kv_head");
    t->n_groups = groups ? (uint64_t)json_int(groups) : 1;
    t->type = out.type = f->options->type;
    t->expert = (uint64_t)json_int(expert);
    bool mlx = is_mlx(f);
    t->minus = mlx ? 0 : (float)json_int(json_get(entry, "minus"));
    t->log = json_bool(json_get(entry, "log"));
    if (t->n_parts == 0 || (expert && out.n_dims < 2) || t->n_groups == 0)
        return error_set(err, ERR_INVALID, "The folder's tensor '%s' is described wrongly.", out.name);
    bool blocks = f->options->mxfp4 && (t->layout == COLUMNS || t->layout == ALTERNATING_COLUMNS);
    if (blocks)
        t->layout = ALTERNATING; /* of one part too */
    if (t->layout != ROWS)
        lay_out(t, &out);
    if (blocks)
        return add_blocks(f, t, out.name, out.shape, err);
    if (t->layout == ROWS)
        out.shape[out.n_dims > 1 ? out.n_dims - 2 : 0] = t->block_rows;
    if (json_bool(json_get(entry, "one_row"))) {
        out.shape[1] = out.shape[0];
        out.shape[0] = 1;
        out.n_dims = 2;
    }
    if (json_bool(json_get(entry, "unit_axis"))) {
        out.shape[2] = mlx ? 1 : out.shape[1];
        out.shape[1] = mlx ? out.shape[1] : 1;
        out.n_dims = 3;
        if (mlx) { /* rows of one element */
            t->block_rows *= t->row_len;
            t->parts[0].n_rows = t->block_rows;
            t->row_len = 1;
        }
    }
    if (expert) {
        out.shape[0] = out.shape[1];
        out.shape[1] = out.n_dims == 3 ? out.shape[2] : 1;
        out.n_dims--;
    }
    safetensors_add_tensor(f->writer, &out);
    return true;
}

static bool add_tensors(struct random_folder *f, const struct json *list, struct error *err)
{
    for (size_t i = 0; i < json_len(list); i++) {
        if (!add_tensor(f, json_at(list, i), err))
            return false;
    }
    return true;
}

static bool write_weights(struct random_folder *f, const struct json *folder, struct error *err)
{
    static const float zeros[4];
    const char *layout = f->options->layout ? f->options->layout : "each";
    f->writer = safetensors_writer_create();
    if (!f->writer)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for a random model.");
    safetensors_put_metadata(f->writer, "format", "pt");
    if (!add_tensors(f, json_get(folder, "tensors"), err) || !add_tensors(f, json_get(folder, layout), err))
        return false;
    if (has_mlx(f) && !is_mlx(f))
        safetensors_add_tensor(
            f->writer, &(struct gguf_tensor){
                           .name = "mtp.norm.weight", .type = DTYPE_F32, .n_dims = 1, .shape = {4}, .data = zeros});
    if (f->options->wrapped)
        safetensors_add_tensor(f->writer, &(struct gguf_tensor){.name = "vision_tower.vision_model.head.bias",
                                                                .type = DTYPE_F32,
                                                                .n_dims = 1,
                                                                .shape = {4},
                                                                .data = zeros});
    return safetensors_write_buf(f->writer, &f->weights, err);
}

/* ---- JSON files ---- */

static void write_config(struct random_folder *f, const struct json *config)
{
    struct json_writer w = json_writer(&f->config);
    if (!f->options->wrapped) {
        json_put_json(&w, config);
        return;
    }
    json_begin_object(&w);
    json_key(&w, "architectures");
    json_begin_array(&w);
    json_put_cstr(&w, "Gemma3ForConditionalGeneration");
    json_end_array(&w);
    json_member_cstr(&w, "model_type", "gemma3");
    json_member_json(&w, "text_config", config);
    json_end_object(&w);
}

static const char *const specials[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"};

static bool add_file(struct random_folder *f, const char *name, struct str content, struct error *err)
{
    if (f->n_files == MAX_FILES)
        return error_set(err, ERR_INTERNAL, "A random folder has too many files.");
    f->files[f->n_files++] = (struct model_folder_file){name, content};
    return true;
}

/* GPT-2 writes bytes as characters: printable Latin-1 as itself, the others from U+0100 on in order. */
static void put_byte_token(struct json_writer *w, int byte, uint32_t *next)
{
    bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    char text[5];
    size_t len = utf8_encode(printable ? (uint32_t)byte : (*next)++, text);
    text[len] = '\0';
    json_member_int(w, text, byte);
}

static void put_vocabulary(struct json_writer *w, int n)
{
    uint32_t next = 256;
    json_key(w, "vocab");
    json_begin_object(w);
    for (int i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof(name), "<|unused_%d|>", i);
        if (i < 256) {
            put_byte_token(w, i, &next);
        } else {
            json_member_int(w, i < 260 ? specials[i - 256] : name, i);
        }
    }
    json_end_object(w);
}

static void put_added_tokens(struct json_writer *w)
{
    json_key(w, "added_tokens");
    json_begin_array(w);
    for (int i = 0; i < 4; i++) {
        json_begin_object(w);
        json_member_int(w, "id", 256 + i);
        json_member_cstr(w, "content", specials[i]);
        static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
        for (size_t k = 0; k < ARRAY_LEN(flags); k++) {
            json_member_bool(w, flags[k], false);
        }
        json_member_bool(w, "special", true);
        json_end_object(w);
    }
    json_end_array(w);
}

static void put_byte_level(struct json_writer *w, const char *key)
{
    json_key(w, key);
    json_put_raw(w,
                 STR("{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}"));
}

static bool write_tokenizer(struct random_folder *f, struct error *err)
{
    const struct json *size = json_get(f->root, "vocab_size");
    int n = size ? (int)json_int(size) : 260;
    struct json_writer w = json_writer(&f->tokenizer);
    json_begin_object(&w);
    json_member_cstr(&w, "version", "1.0");
    put_added_tokens(&w);
    put_byte_level(&w, "pre_tokenizer");
    put_byte_level(&w, "decoder");
    json_key(&w, "model");
    json_begin_object(&w);
    json_member_cstr(&w, "type", "BPE");
    put_vocabulary(&w, n);
    json_member_raw(&w, "merges", STR("[]"));
    json_end_object(&w);
    json_end_object(&w);
    buf_puts(
        &f->tokenizer_config,
        "{\"tokenizer_class\":\"PreTrainedTokenizerFast\",\"bos_token\":\"<|endoftext|>\",\"eos_token\":"
        "\"<|endoftext|>\",\"pad_token\":\"<|pad|>\",\"add_bos_token\":false,\"chat_template\":\"{% for message in "
        "messages %}{{ '<|im_start|>' + message['role'] + '\\\\n' + message['content'] + '<|im_end|>' + '\\\\n' "
        "}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\\\n' }}{% endif %}\"}");
    return buf_ok(&f->tokenizer, "tokenizer.json", err) &&
           add_file(f, "tokenizer.json", buf_view(&f->tokenizer), err) &&
           add_file(f, "tokenizer_config.json", buf_view(&f->tokenizer_config), err);
}

static bool copy_tokenizer(struct random_folder *f, const struct model_file *from, struct error *err)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                        "chat_template.jinja", "generation_config.json"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct str text = arena_str(f->arena, model_file_document(from, names[i]));
        if (text.len > 0 && !add_file(f, names[i], text, err))
            return false;
    }
    return true;
}

/* ---- all of it ---- */

static bool build(struct random_folder *f, struct error *err)
{
    const struct json *folder = json_get(f->root, "folder");
    if (!folder)
        return error_set(err, ERR_INVALID, "The description has no folder.");
    f->seed = (uint64_t)json_int(json_get(f->root, "seed"));
    write_config(f, json_get(folder, "config"));
    if (!write_weights(f, folder, err) || !buf_ok(&f->config, "config.json", err) ||
        !add_file(f, "config.json", buf_view(&f->config), err) ||
        !add_file(f, "model.safetensors", buf_view(&f->weights), err))
        return false;
    return f->options->tokenizer_from ? copy_tokenizer(f, f->options->tokenizer_from, err) : write_tokenizer(f, err);
}

struct random_folder *random_folder_create(struct str description, const struct random_folder_options *o,
                                           struct error *err)
{
    struct random_folder *f = calloc(1, sizeof(*f));
    if (!f) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for a random model.");
        return NULL;
    }
    f->options = o;
    buf_init(&f->config, MIB(1));
    buf_init(&f->weights, GIB(2));
    buf_init(&f->tokenizer, MIB(64));
    buf_init(&f->tokenizer_config, MIB(1));
    f->root = json_parse(description, 0, err);
    f->arena = f->root ? arena_create(MIB(256)) : NULL;
    if (f->root && !f->arena)
        error_set(err, ERR_NO_MEMORY, "There is no memory for a random model.");
    if (f->arena && build(f, err))
        return f;
    random_folder_free(f);
    return NULL;
}

void random_folder_free(struct random_folder *f)
{
    if (!f)
        return;
    safetensors_writer_free(f->writer);
    json_free(f->root);
    arena_free(f->arena);
    buf_release(&f->config);
    buf_release(&f->weights);
    buf_release(&f->tokenizer);
    buf_release(&f->tokenizer_config);
    free(f);
}

const struct model_folder_file *random_folder_files(const struct random_folder *f, size_t *n)
{
    *n = f->n_files;
    return f->files;
}

static bool write_file(const char *folder, const struct model_folder_file *file, struct error *err)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", folder, file->name);
    FILE *out = fopen(path, "wb");
    bool ok = out && fwrite(file->content.ptr, 1, file->content.len, out) == file->content.len;
    ok = out && fclose(out) == 0 && ok;
    return ok || error_set(err, ERR_IO, "'%s' cannot be written: %s.", path, strerror(errno));
}

bool random_folder_write(const struct random_folder *f, const char *path, struct error *err)
{
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        return error_set(err, ERR_IO, "The folder '%s' cannot be made: %s.", path, strerror(errno));
    for (size_t i = 0; i < f->n_files; i++) {
        if (!write_file(path, &f->files[i], err))
            return false;
    }
    return true;
}
