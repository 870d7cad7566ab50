/* Tokenizer vectors (tests/data/tokenizer, made by tools/parity/tokenizer_vectors.py): the vocabulary they start with
 * as a model file, and the folder where real models lie. Lines of a vocabulary:
 *
 *     file NAME                 the vocabulary of a real model instead of:
 *     model M | pre P | flag KEY 0|1 | charsmap HEX
 *     token TYPE HEX [SCORE]    in order of ids
 *     merge LEFT RIGHT          ids
 *
 * Other lines are left to the test. Failures end the test. */
#ifndef TANDEM_TESTS_SUPPORT_VOCAB_FILE_H
#define TANDEM_TESTS_SUPPORT_VOCAB_FILE_H

#include "base/buf.h"
#include "tensor/model_file.h"

struct vocab_file {
    struct buf bytes; /* the GGUF file in memory */
    struct model_file *file;
};

/* False when the vectors name a real model that is not there. */
bool vocab_file_open(struct vocab_file *v, const char *vectors);
void vocab_file_close(struct vocab_file *v);

/* Path of a real model: $TANDEM_MODELS/NAME, by default in the cache folder; NULL when it is not there. free(). */
char *real_model_path(const char *name);

#endif
