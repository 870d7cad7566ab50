/* Encoding and decoding of arbitrary text over a fixed small vocabulary, with every pre-tokenizer and model. The first
 * byte chooses the tokenizer, the second the options. Checked: pieces are valid ids, decoding gives the text back,
 * streaming gives what decoding at once gives. */
#include "text/detokenizer.h"

#include "base/array.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "tensor/gguf_writer.h"
#include "text/unicode.h"
#include "text/vocab.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const pres[] = {"gpt-2",          "smollm",      "llama-bpe", "qwen2",  "qwen35",
                                   "seed-coder",     "minicpm5",    "tekken",    "gpt-4o", "deepseek-llm",
                                   "deepseek-coder", "deepseek-v3", "falcon",    "mpt"};
#define N_PRES ARRAY_LEN(pres)
#define N_ALL  (N_PRES + 3) /* and SentencePiece BPE, the same without space prefix, Unigram */

static const char *const merged[] = {"a a",
                                     "aa aa",
                                     "aaaa aa",
                                     "t h",
                                     "th e",
                                     "\xC4\xA0 the",
                                     "1 2",
                                     "12 3",
                                     "\xC4\xA0 \xC4\xA0",
                                     "\xC3\x83 \xC2\xA9",
                                     "' s",
                                     "\xC4\x8A \xC4\x8A"};
static const char *const added[] = {"<|a|>", "<|a", "<t>", "</t>"};
#define LOW "\xE2\x96\x81" /* U+2581 */
static const char *const spm_pieces[] = {LOW, "a",  "aa",        "aaaa",     (LOW "a"), "t",      "h",
                                         "e", "th", (LOW "the"), "\xC3\xA9", (LOW LOW), ("a" LOW)};

struct vocabulary {
    char text[8192];
    struct str tokens[400], merges[32];
    int32_t types[400];
    float scores[400];
    size_t n, n_merges, used;
};

static struct str keep(struct vocabulary *v, const char *bytes, size_t len)
{
    char *at = v->text + v->used;
    if (len > sizeof v->text - v->used)
        abort();
    memcpy(at, bytes, len);
    v->used += len;
    return (struct str){at, len};
}

static void add(struct vocabulary *v, const char *bytes, size_t len, int32_t type, float score)
{
    v->types[v->n] = type;
    v->scores[v->n] = score;
    v->tokens[v->n++] = keep(v, bytes, len);
}

static void fill_byte_level(struct vocabulary *v)
{
    char letter[4];
    for (int byte = 0; byte < 256; byte++)
        add(v, letter, utf8_encode(vocab_letter_of_byte((uint8_t)byte), letter), 1, 0);
    for (size_t i = 0; i < ARRAY_LEN(merged); i++) {
        char both[32];
        const char *blank = strchr(merged[i], ' ');
        int n = snprintf(both, sizeof both, "%.*s%s", (int)(blank - merged[i]), merged[i], blank + 1);
        add(v, both, (size_t)n, 1, 0);
        v->merges[v->n_merges++] = str_of(merged[i]);
    }
}

static void fill_sentencepiece(struct vocabulary *v)
{
    char name[8];
    add(v, "<unk>", 5, 2, 0);
    for (int byte = 0; byte < 256; byte++)
        add(v, name, (size_t)snprintf(name, sizeof name, "<0x%02X>", byte), 6, 0);
    for (size_t i = 0; i < ARRAY_LEN(spm_pieces); i++)
        add(v, spm_pieces[i], strlen(spm_pieces[i]), 1, -(float)(i + 1));
}

static struct tokenizer *make(size_t which)
{
    struct vocabulary v = {.n = 0};
    struct error err = {0};
    struct buf file;
    struct gguf_writer *w = gguf_writer_create();
    buf_init(&file, MIB(1));
    if (!w)
        abort();
    if (which < N_PRES)
        fill_byte_level(&v);
    else
        fill_sentencepiece(&v);
    for (size_t i = 0; i < ARRAY_LEN(added); i++)
        add(&v, added[i], strlen(added[i]), i < 2 ? 3 : 4, 0);
    gguf_put_str(w, "tokenizer.ggml.model", str_of(which < N_PRES ? "gpt2" : which < N_ALL - 1 ? "llama" : "t5"));
    gguf_put_str(w, "tokenizer.ggml.pre", str_of(pres[which % N_PRES]));
    gguf_put_str_array(w, "tokenizer.ggml.tokens", v.tokens, v.n);
    gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, v.types, v.n);
    gguf_put_array(w, "tokenizer.ggml.scores", GGUF_F32, v.scores, v.n);
    gguf_put_str_array(w, "tokenizer.ggml.merges", v.merges, v.n_merges);
    gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", which != N_PRES + 1);
    if (!gguf_write_buf(w, &file, &err))
        abort();
    gguf_writer_free(w);
    struct model_file *f = model_file_open_memory(file.data, file.len, &err);
    struct tokenizer *t = f ? tokenizer_from_model_file(f, &err) : NULL;
    if (!t)
        abort();
    model_file_close(f); /* the tokenizer keeps nothing of it */
    buf_release(&file);
    return t;
}

static void check_round_trip(const struct tokenizer *t, struct str text, const struct token_list *ids, bool nfc)
{
    struct buf valid, decoded;
    buf_init(&valid, MIB(16));
    buf_init(&decoded, MIB(16));
    unicode_sanitize(text, &valid);
    tokenizer_decode(t, ids->ids, ids->n, false, &decoded);
    if (!utf8_valid(buf_view(&decoded)))
        abort();
    if (!(nfc && unicode_nfc_needed(buf_view(&valid))) && !str_eq(buf_view(&valid), buf_view(&decoded)))
        abort();
    buf_release(&valid);
    buf_release(&decoded);
}

static void check_streaming(const struct tokenizer *t, const struct token_list *ids, bool skip_special)
{
    struct buf whole, pieces;
    struct detokenizer d;
    buf_init(&whole, MIB(16));
    buf_init(&pieces, MIB(16));
    tokenizer_decode(t, ids->ids, ids->n, skip_special, &whole);
    detokenizer_init(&d, t, skip_special, false);
    for (size_t i = 0; i < ids->n; i++) {
        size_t before = pieces.len;
        if (ids->ids[i] < 0 || ids->ids[i] >= tokenizer_n_vocab(t))
            abort();
        detokenizer_feed(&d, ids->ids[i], &pieces);
        if (!utf8_valid(str_slice(buf_view(&pieces), before, pieces.len)))
            abort();
    }
    detokenizer_finish(&d, &pieces);
    if (!str_eq(buf_view(&whole), buf_view(&pieces)))
        abort();
    buf_release(&whole);
    buf_release(&pieces);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tokenizer *tokenizers[N_ALL];
    if (size < 2)
        return 0;
    size_t which = data[0] % N_ALL;
    struct str text = {(const char *)data + 2, size - 2};
    struct token_list ids = {0};
    struct error err = {0};
    if (!tokenizers[which])
        tokenizers[which] = make(which);
    const struct tokenizer *t = tokenizers[which];
    struct encode_options options = {.add_special = data[1] & 1, .parse_special = data[1] & 2};
    if (!tokenizer_encode(t, text, options, &ids, &err))
        abort();
    if (which < N_PRES && !options.add_special) {
        const char *name = tokenizer_pre_name(t);
        check_round_trip(t, text, &ids, !strcmp(name, "qwen2") || !strcmp(name, "qwen35") || !strcmp(name, "mpt"));
    }
    check_streaming(t, &ids, data[1] & 4);
    token_list_release(&ids);
    return 0;
}
