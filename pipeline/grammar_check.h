/* Compiling the constraints of requests before any engine sees them: the vocabulary of a served model as constraints
 * need it, made when somebody asks first, or before, and a cache of what was compiled. An engine compiles the same
 * again.
 *
 * Any thread; whoever comes while the vocabulary is made waits for it (half a second for 150,000 tokens). */
#ifndef TANDEM_PIPELINE_GRAMMAR_CHECK_H
#define TANDEM_PIPELINE_GRAMMAR_CHECK_H

#include "base/json.h"
#include "grammar/constraint.h"

struct grammar_check;
struct grammar_check *grammar_check_create(const struct tokenizer *t); /* keeps t; NULL when memory fails */
void grammar_check_free(struct grammar_check *g);                      /* NULL is fine */

/* Begins to make the vocabulary on a thread of its own, once, so that nobody has to wait for it later. One thread at a
 * time calls this; grammar_check_free waits for the thread. */
void grammar_check_begin(struct grammar_check *g);

/* NULL: err. Lives as long as g. */
NODISCARD const struct constraint_vocab *grammar_check_vocab(struct grammar_check *g, struct error *err);

/* An encoded spec compiles within its limits. INVALID and UNSUPPORTED name the field. */
NODISCARD bool grammar_check_compile(struct grammar_check *g, struct str spec, const char *field, struct error *err);

/* What was made of a request before, by a digest of all that it depends on: schemas of tools come with every request,
 * and trying out their patterns takes milliseconds. */
struct grammar_made {
    struct str spec;    /* encoded; it compiles; empty: none is needed */
    struct str widened; /* see struct gen_request */
};
/* 1: *out lives in the arena; 0: nothing is known; -1: err. */
NODISCARD int grammar_check_find(struct grammar_check *g, const struct sha256 *digest, struct arena *arena,
                                 struct grammar_made *out, struct error *err);
void grammar_check_keep(struct grammar_check *g, const struct sha256 *digest, const struct grammar_made *made);

/* What a schema is kept by: its text's digest. */
struct schema_key {
    struct sha256 digest;
    size_t size; /* of the text: long ones are not kept */
};
NODISCARD bool grammar_check_key(const struct json *schema, struct schema_key *out, struct error *err); /* NO_MEMORY */

/* The schema compiled in full, which lives as long as the arena; those of the last requests are kept, since compiling
 * one takes milliseconds. NULL: err, as json_schema_compile has it. */
struct json_schema;
NODISCARD const struct json_schema *grammar_check_schema(struct grammar_check *g, const struct json *schema,
                                                         const struct schema_key *key, struct arena *arena,
                                                         struct error *err);

#endif
