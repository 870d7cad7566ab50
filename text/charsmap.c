#include "text/tokenizer_internal.h"

#include "base/limits.h"
#include "base/utf8.h"

/* SentencePiece's precompiled_charsmap: u32 size of the trie, the trie, then NUL-terminated replacements. The trie is a
 * double array as darts-clone lays it out, one u32 unit per node:
 *   bits 0-7 label, bit 8 has a value, bit 9 offset is shifted by 8, bits 10-30 offset; a value unit has bit 31 set.
 * It comes from the file, so every step is checked against the array's end; the walk ends with the text at the latest.
 */

static bool read_bytes(const struct meta_value *value, uint8_t *out, struct error *err)
{
    for (size_t i = 0; i < value->n; i++) {
        int64_t byte;
        if (!meta_array_int(value, i, &byte) || byte < -128 || byte > 255)
            return error_set(err, ERR_FORMAT, "tokenizer.ggml.precompiled_charsmap should be an array of bytes");
        out[i] = (uint8_t)byte;
    }
    return true;
}

static uint32_t read_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

bool charsmap__init(struct charsmap *c, const struct model_file *file, struct arena *arena, struct error *err)
{
    *c = (struct charsmap){0};
    struct meta_value value = meta_get(file, "tokenizer.ggml.precompiled_charsmap");
    if (value.type == META_NONE || (value.type == META_ARRAY && value.n == 0))
        return true;
    if (value.type != META_ARRAY || value.n > MIB(64))
        return error_set(err, ERR_FORMAT, "tokenizer.ggml.precompiled_charsmap should be an array of bytes");
    uint8_t *blob = arena_alloc(arena, value.n);
    if (!blob)
        return arena_full(arena, "tokenizer", err);
    if (!read_bytes(&value, blob, err))
        return false;
    size_t trie_size = value.n >= 4 ? read_u32(blob) : 0;
    if (value.n < 5 || trie_size > value.n - 5 || trie_size % 4 || blob[value.n - 1] != 0)
        return error_set(err, ERR_FORMAT, "tokenizer.ggml.precompiled_charsmap is damaged: %zu bytes, trie of %zu",
                         value.n, trie_size);
    c->n_units = trie_size / 4;
    uint32_t *units = arena_alloc_array(arena, c->n_units + 1, sizeof *units);
    if (!units)
        return arena_full(arena, "tokenizer", err);
    for (size_t i = 0; i < c->n_units; i++)
        units[i] = read_u32(blob + 4 + 4 * i);
    c->units = units;
    c->replacements = (struct str){(const char *)blob + 4 + trie_size, value.n - 4 - trie_size};
    if (!utf8_valid(c->replacements))
        return error_set(err, ERR_FORMAT, "tokenizer.ggml.precompiled_charsmap holds text that is not UTF-8");
    return true;
}

static size_t unit_offset(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* The string at offset `at`; false when it is none (out of range, or inside a character). */
static bool replacement_at(const struct charsmap *c, size_t at, struct str *out)
{
    if (at >= c->replacements.len || ((unsigned char)c->replacements.ptr[at] & 0xC0) == 0x80)
        return false;
    *out = str_of(c->replacements.ptr + at); /* the last byte of all is NUL */
    return true;
}

size_t charsmap__match(const struct charsmap *c, struct str text, size_t at, struct str *replacement)
{
    if (!c->n_units)
        return 0;
    size_t longest = 0, node = unit_offset(c->units[0]);
    for (size_t i = at; i < text.len; i++) {
        uint8_t byte = (uint8_t)text.ptr[i];
        node ^= byte;
        if (!byte || node >= c->n_units || (c->units[node] & 0x800000FFu) != byte)
            break;
        bool has_value = c->units[node] >> 8 & 1;
        node ^= unit_offset(c->units[node]);
        if (node >= c->n_units)
            break;
        /* a rule that ends inside a character would leave broken text behind */
        bool whole = i + 1 == text.len || ((unsigned char)text.ptr[i + 1] & 0xC0) != 0x80;
        if (has_value && whole && replacement_at(c, c->units[node] & 0x7FFFFFFFu, replacement))
            longest = i + 1 - at;
    }
    return longest;
}
