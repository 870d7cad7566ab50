/* What an engine with given options will take of the memory: the one place where it is computed, for the plan of many
 * models (gateway/model_manager.h) and for the size of a KV pool. Pure but for the look at what the system has left,
 * where nothing else says how large the pool may be. Any thread. */
#ifndef TANDEM_GATEWAY_MEMORY_NEED_H
#define TANDEM_GATEWAY_MEMORY_NEED_H

#include "base/limits.h"
#include "gateway/gateway.h"

#define MEMORY_LEAST_POOL   MIB(32) /* where nobody says how large it is: smaller ones are of no use */
#define MEMORY_BUDGET_SHARE 5       /* default of --memory: all but one part in so many of what the system leaves */

struct memory_need {   /* bytes */
    uint64_t weights;  /* as the file has them, the draft model's too */
    uint64_t kv;       /* the KV pool, with the seals of its pages and the draft model's pool */
    uint64_t scratch;  /* of a step, at most */
    uint64_t adapters; /* of all that may be loaded at once: options->lora_memory */
    uint64_t process;  /* what an engine takes by itself: code, tokenizer, masks of constraints */
    uint64_t total;
    size_t pool_size; /* of kv: the pool alone */
};

/* budget: for all engines, bytes; 0: none was given. The pool is as large as options->kv_memory says, else a quarter of
 * what the budget, or without one the system, leaves after the rest; never larger than the sequences that may run at
 * once could fill. INVALID: the KV type is not known. */
NODISCARD bool memory_need(const struct served_model_options *options, const struct model_file *file,
                           const struct decoder_config *config, uint64_t budget, struct memory_need *out,
                           struct error *err);

/* The parts, for whoever asks before there is a model in its final precision. 0 of rows or sequences: the defaults. */
uint64_t memory_scratch(const struct decoder_config *config, uint32_t max_batch_tokens, uint32_t max_sequences);
uint64_t memory_process(const struct decoder_config *config);
uint64_t memory_draft_weights(const char *path); /* 0: NULL, or it cannot be read, which its engine will say */
/* What a pool takes with the seals of its pages and, with draft, a draft model's pool whose size nobody has said; and
 * the largest pool that takes no more than size with them. */
uint64_t memory_of_pool(uint64_t pool_size, bool draft);
uint64_t memory_pool_within(uint64_t size, bool draft);

/* No more than the sequences that may run at once could fill. 0: the model's context, the default of sequences. */
uint64_t memory_useful_pool(const struct decoder_config *config, enum kv_type type, uint32_t max_context,
                            uint32_t max_sequences);

/* The smallest that is of use: MEMORY_LEAST_POOL, or what one sequence needs where states are larger. */
uint64_t memory_least_pool(const struct decoder_config *config, enum kv_type type);

/* Bytes of KV of one position, windows as if they were full. With states of fixed size as much again: the prefix cache
 * keeps so many of them. */
size_t memory_kv_token_size(const struct decoder_config *config, enum kv_type type);

uint64_t memory_default_budget(void); /* of --memory where it is not given */

#endif
