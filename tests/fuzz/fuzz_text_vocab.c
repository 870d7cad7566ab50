/* Tokenizers from hostile metadata. The input is a program that writes a GGUF file: each instruction adds one key from
 * a fixed list with a value taken from the input. What is accepted encodes a few texts and decodes every id. */
#include "text/tokenizer.h"

#include "base/array.h"
#include "base/limits.h"
#include "tensor/gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const keys[] = {"model",
                                   "pre",
                                   "tokens",
                                   "merges",
                                   "token_type",
                                   "scores",
                                   "bos_token_id",
                                   "eos_token_id",
                                   "unknown_token_id",
                                   "padding_token_id",
                                   "eot_token_id",
                                   "fim_pre_token_id",
                                   "prefix_token_id",
                                   "add_bos_token",
                                   "add_eos_token",
                                   "add_space_prefix",
                                   "remove_extra_whitespaces",
                                   "precompiled_charsmap"};
static const char *const models[] = {"gpt2", "llama", "t5", "bert"};
static const char *const pres[] = {"gpt-2", "llama-bpe", "qwen2", "tekken", "deepseek-v3", "falcon", "none"};

#define MAX_ITEMS 300

struct program {
    const uint8_t *at, *end;
    struct gguf_writer *w;
    unsigned used; /* a bit per key: keys are unique */
};

static uint8_t take(struct program *p)
{
    return p->at < p->end ? *p->at++ : 0;
}

static struct str take_str(struct program *p)
{
    size_t len = take(p) % 12;
    len = len > (size_t)(p->end - p->at) ? (size_t)(p->end - p->at) : len;
    struct str s = {(const char *)p->at, len};
    p->at += len;
    return s;
}

static void put_strings(struct program *p, const char *key)
{
    struct str items[MAX_ITEMS];
    size_t n = 0;
    for (size_t count = take(p) + take(p) % 16; n < count && p->at < p->end; n++)
        items[n] = take_str(p);
    gguf_put_str_array(p->w, key, items, n);
}

static void put_array(struct program *p, const char *key, uint8_t kind)
{
    uint8_t bytes[MAX_ITEMS * 4];
    enum gguf_type type = kind % 3 == 0 ? GGUF_I32 : kind % 3 == 1 ? GGUF_F32 : GGUF_U8;
    size_t width = type == GGUF_U8 ? 1 : 4, n = take(p);
    for (size_t i = 0; i < n * width; i++)
        bytes[i] = type == GGUF_I32 && i % 4 ? 0 : take(p);
    gguf_put_array(p->w, key, type, bytes, n);
}

static void put_one(struct program *p, size_t which, uint8_t kind)
{
    char key[64];
    snprintf(key, sizeof key, "tokenizer.ggml.%s", keys[which]);
    if (which == 0 && kind < 240)
        gguf_put_str(p->w, key, str_of(models[kind % ARRAY_LEN(models)]));
    else if (which == 1 && kind < 240)
        gguf_put_str(p->w, key, str_of(pres[kind % ARRAY_LEN(pres)]));
    else if (which == 2 || which == 3)
        put_strings(p, key);
    else if (which == 4 || which == 5 || which == 17)
        put_array(p, key, kind < 200 ? (uint8_t)(which == 4 ? 0 : which == 5 ? 1 : 2) : kind);
    else if (kind % 8 == 0)
        gguf_put_bool(p->w, key, take(p) & 1);
    else
        gguf_put_int(p->w, key, GGUF_I64, (int64_t)take(p) - 8);
}

static void use(const struct tokenizer *t)
{
    static const char *const texts[] = {
        "", "a", "ab ab aaaa", " <s></s>", "\xC3\xA9\xE2\x96\x81\xFF 12 \n", "the quick brown fox"};
    for (size_t i = 0; i < 2 * ARRAY_LEN(texts); i++) {
        struct error err = {0};
        struct token_list ids = {0};
        struct encode_options options = {.add_special = true, .parse_special = i & 1};
        if (!tokenizer_encode(t, str_of(texts[i / 2]), options, &ids, &err) && !err.msg[0])
            abort();
        for (size_t k = 0; k < ids.n; k++)
            if (ids.ids[k] < 0 || ids.ids[k] >= tokenizer_n_vocab(t))
                abort();
        token_list_release(&ids);
    }
    struct buf out;
    buf_init(&out, MIB(1));
    for (int32_t id = -1; id <= tokenizer_n_vocab(t); id++)
        tokenizer_decode(t, &id, 1, false, &out);
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct program p = {data, data + size, gguf_writer_create(), 0};
    struct error err = {0};
    struct buf file;
    buf_init(&file, MIB(4));
    while (p.w && p.at < p.end) {
        size_t which = take(&p) % ARRAY_LEN(keys);
        if (p.used & 1u << which)
            continue;
        p.used |= 1u << which;
        put_one(&p, which, take(&p));
    }
    struct model_file *f = NULL;
    if (p.w && gguf_write_buf(p.w, &file, &err))
        f = model_file_open_memory(file.data, file.len, &err);
    struct tokenizer *t = f ? tokenizer_from_model_file(f, &err) : NULL;
    if (t)
        use(t);
    else if (!err.msg[0])
        abort(); /* a failure has to say why */
    tokenizer_free(t);
    model_file_close(f);
    buf_release(&file);
    gguf_writer_free(p.w);
    return 0;
}
