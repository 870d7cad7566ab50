/* Character classes of Unicode, as the `tokenizers` package sees them (tools/gen_unicode.py generates the table and
 * says which of its parts follow which Unicode version), NFC and NFD. Const data; any thread. */
#ifndef TANDEM_TEXT_UNICODE_H
#define TANDEM_TEXT_UNICODE_H

#include "base/buf.h"

/* Bits of unicode_class. The first ten are regex classes: \p{Lu} ... \p{S}, \s. */
#define UC_LU          0x0001u
#define UC_LL          0x0002u
#define UC_LT          0x0004u
#define UC_LM          0x0008u
#define UC_LO          0x0010u
#define UC_M           0x0020u
#define UC_N           0x0040u
#define UC_P           0x0080u
#define UC_S           0x0100u
#define UC_SPACE       0x0200u
#define UC_NUMERIC     0x0400u /* what the Digits pre-tokenizer isolates */
#define UC_PUNCT       0x0800u /* what the Punctuation pre-tokenizer isolates */
#define UC_NFC_SPECIAL 0x1000u /* NFC may change, move or compose it with what precedes */
#define UC_NFC_FIRST   0x2000u /* NFC may compose it with what follows, or take it apart */
#define UC_BERT_MARK   0x4000u /* what BertNormalizer strips as an accent */
#define UC_BERT_DROP   0x8000u /* what BertNormalizer cleans away */
#define UC_L           (UC_LU | UC_LL | UC_LT | UC_LM | UC_LO)

#define UNICODE_BLOCK_SHIFT 7
extern const uint16_t unicode__block_of[0x110000 >> UNICODE_BLOCK_SHIFT];
extern const uint16_t unicode__classes[];

static inline unsigned unicode_class(uint32_t code_point) /* at most 0x10FFFF */
{
    unsigned block = unicode__block_of[code_point >> UNICODE_BLOCK_SHIFT];
    return unicode__classes[(block << UNICODE_BLOCK_SHIFT) | (code_point & ((1u << UNICODE_BLOCK_SHIFT) - 1))];
}

/* False when text surely is in NFC already. text: valid UTF-8. */
bool unicode_nfc_needed(struct str text);

/* Appends the NFC form of text (valid UTF-8) to out; failure shows in out. */
void unicode_nfc(struct str text, struct buf *out);

/* Appends the NFD form of text (valid UTF-8) to out, at most 3 times its bytes; failure shows in out. */
void unicode_nfd(struct str text, struct buf *out);

/* Appends text with each maximal invalid part replaced by U+FFFD, as Python's decode(errors="replace") does. */
void unicode_sanitize(struct str text, struct buf *out);

#endif
