/* A small vocabulary for the tests of grammar/: all bytes, some words that begin and end in the middle of things, and
 * the special tokens below. And the questions that the tests ask of masks. Failures end the test. */
#ifndef TANDEM_TESTS_SUPPORT_GRAMMAR_VOCAB_H
#define TANDEM_TESTS_SUPPORT_GRAMMAR_VOCAB_H

#include "base/buf.h"
#include "grammar/constraint.h"

struct grammar_vocab {
    struct buf bytes;
    struct model_file *file;
    struct tokenizer *tokenizer;
    struct constraint_vocab *vocab;
    int32_t end, turn_end, think, unthink; /* </s>, <|im_end|> (both end a generation), <think>, </think> */
};

/* options: NULL for the defaults. */
void grammar_vocab_open(struct grammar_vocab *v, const struct constraint_vocab_options *options);
void grammar_vocab_close(struct grammar_vocab *v);
int32_t grammar_vocab_id(const struct grammar_vocab *v, const char *piece); /* of a token by its text */
int32_t grammar_vocab_byte(const struct grammar_vocab *v, uint8_t byte);    /* the token of one byte */

/* A constraint of this kind without triggers and reasoning, or one that must not fail to compile. */
struct constraint *grammar_compile(const struct grammar_vocab *v, enum constraint_kind kind, const char *grammar);
struct constraint *grammar_compile_spec(const struct grammar_vocab *v, const struct constraint_spec *spec);
struct buf grammar_encode(enum constraint_kind kind, const char *grammar); /* its spec; the caller releases it */

bool grammar_allows(struct constraint_state *s, const struct grammar_vocab *v, int32_t id);
/* Feeds text byte by byte as long as the masks allow it; how many bytes were. */
size_t grammar_feed(struct constraint_state *s, const struct grammar_vocab *v, struct str text);
/* The whole text is one that the constraint lets end. */
bool grammar_accepts(struct constraint *c, const struct grammar_vocab *v, struct str text);

#endif
