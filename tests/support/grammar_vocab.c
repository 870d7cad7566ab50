#include "tests/support/grammar_vocab.h"

#include "base/array.h"
#include "base/limits.h"
#include "tensor/gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, BYTE = 6 };

static const struct {
    const char *piece;
    int32_t type;
} pieces[] = {
    {"<unk>", UNKNOWN},
    {"<s>", CONTROL},
    {"</s>", CONTROL},
    {"<|im_end|>", CONTROL},
    {"<think>", CONTROL},
    {"</think>", CONTROL},
    {"<pad>", CONTROL},
    {"a", NORMAL},
    {"b", NORMAL},
    {"ab", NORMAL},
    {"abc", NORMAL},
    {"c", NORMAL},
    {"1", NORMAL},
    {"12", NORMAL},
    {"0", NORMAL},
    {".5", NORMAL},
    {"{", NORMAL},
    {"}", NORMAL},
    {"{\"", NORMAL},
    {"\"}", NORMAL},
    {"\":", NORMAL},
    {"\"", NORMAL},
    {",", NORMAL},
    {",\"", NORMAL},
    {"[", NORMAL},
    {"]", NORMAL},
    {"true", NORMAL},
    {"false", NORMAL},
    {"null", NORMAL},
    {"name", NORMAL},
    {"\n", NORMAL},
    {"\n\n", NORMAL},
    {"\xE2\x96\x81", NORMAL},
    {"\xC3\xA9", NORMAL},
    {"<", NORMAL},
    {"<tool", NORMAL},
    {"_call", NORMAL},
    {"call", NORMAL},
    {"call>", NORMAL},
    {">", NORMAL},
    {">\n", NORMAL},
    {">{", NORMAL},
    {">{\"", NORMAL},
    {"l>{\"a", NORMAL},
    {">}", NORMAL},
    {"<tool_call>{", NORMAL},
    {"<tool_call>x", NORMAL},
    {"world", NORMAL},
};
#define N_PIECES ARRAY_LEN(pieces)

static void must(bool ok, const struct error *err)
{
    if (!ok) {
        fprintf(stderr, "%s\n", err->msg);
        abort();
    }
}

static void write_vocab(struct buf *out)
{
    static struct str tokens[N_PIECES + 256];
    static char names[256][8];
    static int32_t types[N_PIECES + 256];
    static float scores[N_PIECES + 256];
    struct error err = {0};
    struct gguf_writer *w = gguf_writer_create();
    for (size_t i = 0; i < N_PIECES; i++) {
        tokens[i] = str_of(pieces[i].piece);
        types[i] = pieces[i].type;
        scores[i] = -(float)i;
    }
    for (size_t b = 0; b < 256; b++) {
        snprintf(names[b], sizeof names[b], "<0x%02X>", (unsigned)b);
        tokens[N_PIECES + b] = str_of(names[b]);
        types[N_PIECES + b] = BYTE;
    }
    gguf_put_str(w, "tokenizer.ggml.model", STR("llama"));
    gguf_put_str_array(w, "tokenizer.ggml.tokens", tokens, N_PIECES + 256);
    gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, N_PIECES + 256);
    gguf_put_array(w, "tokenizer.ggml.scores", GGUF_F32, scores, N_PIECES + 256);
    gguf_put_int(w, "tokenizer.ggml.eos_token_id", GGUF_U32, 2);
    must(gguf_write_buf(w, out, &err), &err);
    gguf_writer_free(w);
}

void grammar_vocab_open(struct grammar_vocab *v, const struct constraint_vocab_options *options)
{
    static const struct constraint_vocab_options defaults = {0};
    struct error err = {0};
    buf_init(&v->bytes, MIB(1));
    write_vocab(&v->bytes);
    v->file = model_file_open_memory(v->bytes.data, v->bytes.len, &err);
    must(v->file, &err);
    v->tokenizer = tokenizer_from_model_file(v->file, &err);
    must(v->tokenizer, &err);
    v->vocab = constraint_vocab_create(v->tokenizer, options ? options : &defaults, &err);
    must(v->vocab, &err);
    v->end = grammar_vocab_id(v, "</s>");
    v->turn_end = grammar_vocab_id(v, "<|im_end|>");
    v->think = grammar_vocab_id(v, "<think>");
    v->unthink = grammar_vocab_id(v, "</think>");
}

void grammar_vocab_close(struct grammar_vocab *v)
{
    constraint_vocab_free(v->vocab);
    tokenizer_free(v->tokenizer);
    model_file_close(v->file);
    buf_release(&v->bytes);
}

int32_t grammar_vocab_id(const struct grammar_vocab *v, const char *piece)
{
    int32_t id = tokenizer_find(v->tokenizer, str_of(piece));
    if (id < 0) {
        fprintf(stderr, "no token '%s'\n", piece);
        abort();
    }
    return id;
}

int32_t grammar_vocab_byte(const struct grammar_vocab *v, uint8_t byte)
{
    char name[8];
    snprintf(name, sizeof name, "<0x%02X>", byte);
    return grammar_vocab_id(v, name);
}

struct constraint *grammar_compile_spec(const struct grammar_vocab *v, const struct constraint_spec *spec)
{
    struct error err = {0};
    struct constraint *c = constraint_compile(v->vocab, spec, NULL, &err);
    must(c, &err);
    return c;
}

static struct constraint_spec spec_of(enum constraint_kind kind, const char *grammar)
{
    struct constraint_spec spec = constraint_spec_none();
    spec.kind = kind;
    spec.grammar = str_of(grammar);
    return spec;
}

struct constraint *grammar_compile(const struct grammar_vocab *v, enum constraint_kind kind, const char *grammar)
{
    struct constraint_spec spec = spec_of(kind, grammar);
    return grammar_compile_spec(v, &spec);
}

struct buf grammar_encode(enum constraint_kind kind, const char *grammar)
{
    struct constraint_spec spec = spec_of(kind, grammar);
    struct error err = {0};
    struct buf out;
    buf_init(&out, LIMIT_CONSTRAINT);
    must(constraint_spec_encode(&spec, &out, &err), &err);
    return out;
}

bool grammar_allows(struct constraint_state *s, const struct grammar_vocab *v, int32_t id)
{
    uint32_t mask[64] = {0};
    struct error err = {0};
    if (constraint_vocab_mask_words(v->vocab) > ARRAY_LEN(mask)) {
        abort();
    }
    int applies = constraint_state_mask(s, mask, &err);
    must(applies >= 0, &err);
    return applies == 0 || (mask[id / 32] >> (id % 32) & 1);
}

size_t grammar_feed(struct constraint_state *s, const struct grammar_vocab *v, struct str text)
{
    struct error err = {0};
    for (size_t i = 0; i < text.len; i++) {
        int32_t id = grammar_vocab_byte(v, (uint8_t)text.ptr[i]);
        if (!grammar_allows(s, v, id)) {
            return i;
        }
        must(constraint_state_accept(s, id, &err), &err);
    }
    return text.len;
}

bool grammar_accepts(struct constraint *c, const struct grammar_vocab *v, struct str text)
{
    struct error err = {0};
    struct constraint_state *s = constraint_state_create(c, &err);
    must(s, &err);
    bool accepts = grammar_feed(s, v, text) == text.len;
    if (accepts) {
        accepts = grammar_allows(s, v, v->end);
        must(accepts == constraint_state_can_stop(s), &(struct error){.msg = "the mask and can_stop disagree"});
    }
    constraint_state_free(s);
    return accepts;
}
