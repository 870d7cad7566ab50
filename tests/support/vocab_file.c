#include "tests/support/vocab_file.h"

#include "base/array.h"
#include "base/limits.h"
#include "base/sys_file.h"
#include "tensor/gguf_writer.h"
#include "tests/support/vector_file.h"

#include <stdio.h>
#include <stdlib.h>

char *real_model_path(const char *name)
{
    char cache[512];
    const char *folder = getenv("TANDEM_MODELS");
    struct buf path;
    size_t len;
    buf_init(&path, 4096);
    if (folder && *folder)
        buf_printf(&path, "%s/%s", folder, name);
    else if (sys_cache_dir(cache, sizeof cache))
        buf_printf(&path, "%s/models/%s", cache, name);
    if (path.len && !path.failed && file_exists(path.data))
        return buf_take(&path, &len);
    printf("skip: no %s (%s)\n", name, path.len ? path.data : "no cache folder");
    buf_release(&path);
    return NULL;
}

struct builder {
    const char *path;
    struct gguf_writer *writer;
    struct str *tokens, *merges; /* texts owned */
    int32_t *types;
    float *scores;
    size_t n, n_merges, tokens_cap, merges_cap, types_cap, scores_cap;
    bool has_scores;
};

static void fail(const char *path, const char *why)
{
    fprintf(stderr, "%s: %s\n", path, why);
    abort();
}

static void add_token(struct builder *b, const struct vector_file *v)
{
    struct error err = {0};
    size_t size;
    int64_t type = 0;
    double score = 0;
    if (!array_reserve(&b->tokens, &b->tokens_cap, b->n + 1, LIMIT_VOCAB, "tokens", &err) ||
        !array_reserve(&b->types, &b->types_cap, b->n + 1, LIMIT_VOCAB, "tokens", &err) ||
        !array_reserve(&b->scores, &b->scores_cap, b->n + 1, LIMIT_VOCAB, "tokens", &err))
        fail(b->path, err.msg);
    if (v->n_fields < 3 || !str_to_i64(v->fields[1], &type) || (v->n_fields > 3 && !str_to_f64(v->fields[3], &score)))
        fail(b->path, "a token line is broken");
    char *bytes = vector_file_bytes(v, 2, &size);
    b->tokens[b->n] = (struct str){bytes, size};
    b->types[b->n] = (int32_t)type;
    b->scores[b->n] = (float)score;
    b->has_scores = b->has_scores || v->n_fields > 3;
    b->n++;
}

static void add_merge(struct builder *b, const struct vector_file *v)
{
    struct error err = {0};
    int64_t left = 0, right = 0;
    if (!array_reserve(&b->merges, &b->merges_cap, b->n_merges + 1, LIMIT_VOCAB, "merges", &err))
        fail(b->path, err.msg);
    if (v->n_fields != 3 || !str_to_i64(v->fields[1], &left) || !str_to_i64(v->fields[2], &right) || left < 0 ||
        right < 0 || (size_t)left >= b->n || (size_t)right >= b->n)
        fail(b->path, "a merge line is broken");
    struct buf merge;
    buf_init(&merge, KIB(64));
    buf_append(&merge, b->tokens[left]);
    buf_putc(&merge, ' ');
    buf_append(&merge, b->tokens[right]);
    size_t len;
    char *text = buf_take(&merge, &len);
    b->merges[b->n_merges++] = (struct str){text, len};
}

static void add_line(struct builder *b, const struct vector_file *v)
{
    char key[128];
    struct str kind = v->fields[0];
    if (str_eq(kind, STR("model")))
        gguf_put_str(b->writer, "tokenizer.ggml.model", v->fields[1]);
    else if (str_eq(kind, STR("pre")))
        gguf_put_str(b->writer, "tokenizer.ggml.pre", v->fields[1]);
    else if (str_eq(kind, STR("token")))
        add_token(b, v);
    else if (str_eq(kind, STR("merge")))
        add_merge(b, v);
    else if (str_eq(kind, STR("flag"))) {
        snprintf(key, sizeof key, "tokenizer.ggml." STR_FMT, STR_ARG(v->fields[1]));
        gguf_put_bool(b->writer, key, str_eq(v->fields[2], STR("1")));
    } else if (str_eq(kind, STR("charsmap"))) {
        size_t size;
        void *bytes = vector_file_bytes(v, 1, &size);
        gguf_put_array(b->writer, "tokenizer.ggml.precompiled_charsmap", GGUF_U8, bytes, size);
        free(bytes);
    }
}

static void finish(struct builder *b, struct vocab_file *out)
{
    struct error err = {0};
    gguf_put_str_array(b->writer, "tokenizer.ggml.tokens", b->tokens, b->n);
    gguf_put_array(b->writer, "tokenizer.ggml.token_type", GGUF_I32, b->types, b->n);
    if (b->has_scores)
        gguf_put_array(b->writer, "tokenizer.ggml.scores", GGUF_F32, b->scores, b->n);
    else
        gguf_put_str_array(b->writer, "tokenizer.ggml.merges", b->merges, b->n_merges);
    buf_init(&out->bytes, MIB(64));
    if (!gguf_write_buf(b->writer, &out->bytes, &err))
        fail(b->path, err.msg);
    out->file = model_file_open_memory(out->bytes.data, out->bytes.len, &err);
    if (!out->file)
        fail(b->path, err.msg);
}

static void release(struct builder *b)
{
    for (size_t i = 0; i < b->n; i++)
        free((char *)b->tokens[i].ptr);
    for (size_t i = 0; i < b->n_merges; i++)
        free((char *)b->merges[i].ptr);
    free(b->tokens);
    free(b->merges);
    free(b->types);
    free(b->scores);
    gguf_writer_free(b->writer);
}

static bool open_real(struct vocab_file *out, const char *vectors, struct str name)
{
    struct error err = {0};
    char text[256];
    snprintf(text, sizeof text, STR_FMT, STR_ARG(name));
    char *path = real_model_path(text);
    if (!path)
        return false;
    out->file = model_file_open(path, &err);
    if (!out->file)
        fail(vectors, err.msg);
    free(path);
    return true;
}

bool vocab_file_open(struct vocab_file *out, const char *vectors)
{
    struct vector_file v;
    struct builder b = {.path = vectors, .writer = gguf_writer_create()};
    bool there = true, real = false;
    *out = (struct vocab_file){0};
    if (!b.writer)
        fail(vectors, "no memory");
    vector_file_open(&v, vectors);
    while (there && vector_file_next(&v)) {
        if (str_eq(v.fields[0], STR("file"))) {
            real = true;
            there = open_real(out, vectors, v.fields[1]);
        } else {
            add_line(&b, &v);
        }
    }
    if (!real)
        finish(&b, out);
    release(&b);
    vector_file_close(&v);
    return there;
}

void vocab_file_close(struct vocab_file *v)
{
    model_file_close(v->file);
    buf_release(&v->bytes);
}
