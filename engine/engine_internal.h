/* An engine from parts that somebody else made: what engine_create does at its end, and what tests do with an executor
 * of their own. */
#ifndef TANDEM_ENGINE_ENGINE_INTERNAL_H
#define TANDEM_ENGINE_ENGINE_INTERNAL_H

#include "engine/drafter.h"
#include "engine/engine.h"
#include "engine/executor.h"
#include "engine/kv_disk.h"
#include "engine/kv_seal.h"
#include "engine/request.h"
#include "text/tokenizer.h"

struct engine_parts {
    struct engine_config config; /* eog_ids: copied */
    struct engine_info info;
    struct executor *executor;        /* freed by the engine, first */
    struct kv_disk *disk;             /* likewise; may be NULL */
    struct kv_seals *seals;           /* closed by the engine; may be NULL */
    void (*release)(void *resources); /* what the executor stands on; may be NULL */
    void *resources;
    void (*discard)(void *arg, size_t offset, size_t size); /* see engine_options; may be NULL */
    void *discard_arg;
    struct drafter *drafter;           /* beside the one that every scheduler has; may be NULL */
    const struct tokenizer *tokenizer; /* of the resources, for constraints; NULL: jobs have none */
    /* Jobs with bad numbers are computed once more with these options; NULL: they fail. Copied. */
    const struct engine_options *replay;
};

/* The draft model of the options (engine_draft.c). be, tokenizer and n_vocab are those of the model that it guesses
 * for; be outlives it. *weights_size grows by what it takes. INVALID: its vocabulary is another one. */
NODISCARD struct drafter *engine__load_draft(const struct engine_options *o, const struct engine_config *config,
                                             struct backend *be, const struct tokenizer *tokenizer,
                                             uint64_t *weights_size, struct error *err);

void engine__free_drafter(struct drafter *d); /* NULL: nothing */

/* Takes the parts; they are released also when it fails. */
NODISCARD struct engine *engine__assemble(const struct engine_parts *parts, struct error *err);

/* Pages of every group that one sequence of n tokens needs at once. */
void engine__pages_needed(const struct engine_config *config, uint32_t n_tokens, uint32_t need[KV_MAX_GROUPS]);
/* The longest sequence, at most n_tokens, that fits into the empty pool. */
uint32_t engine__longest(const struct engine_config *config, uint32_t n_tokens);

/* True in builds with TANDEM_TEST_HOOKS: scripts and digests are allowed. Chosen by the build: test_hooks_on.c or
 * test_hooks_off.c. */
bool engine__test_hooks(void);

#endif
