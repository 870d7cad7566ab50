/* Which precision a model is loaded in, as --quantize and --memory say, and the file that has it: the model itself, or
 * one in the cache folder that is made of it once.
 *
 * The cache: quantized/DIGEST-rRULE-BITS/NAME.gguf, where DIGEST is the source's (model_file_digest) and RULE the
 * version of quantize_plan.h. It is written under a lock, appears when it is complete, and is checked before use: what
 * does not read is made again. Older versions are not used any more; `rm -r` on the folder is always safe. */
#ifndef TANDEM_CLI_PRECISION_H
#define TANDEM_CLI_PRECISION_H

#include "cli/model_path.h"
#include "cli/options.h"

#define PRECISION_SERVE_SEQUENCES 4 /* that a server leaves room for, when none are said */

struct precision_wanted {
    const char *quantize; /* auto, none, 8, 6 or 4 */
    uint64_t memory;      /* for weights, KV and the rest of the process; 0: what the machine has left */
    /* The memory is that of many models: what must fit into it is this one alone, whatever else is loaded. How large
     * its pool is, and whether there is room, is said by others. */
    bool on_demand;
    uint64_t kv_memory; /* 0: not said */
    enum kv_type kv_type;
    uint32_t max_context, max_sequences, max_batch_tokens; /* 0: not said */
    uint32_t usual_sequences;                              /* that there shall be room for, when it is not said */
    uint32_t most_sequences;                               /* that the engine runs at most, when it is not said */
    int n_threads;
    const char *draft_path;   /* of the draft model, whose weights and KV are in the memory too; NULL: none */
    uint64_t draft_kv_memory; /* 0: an eighth of the pool */
    uint64_t adapter_memory;  /* of all adapters, which are in the memory too */
    bool overrides;           /* --override-kv: keys of the source, which another container does not have */
    bool mlx;                 /* the backend's memory is a device's */
};

struct precision_found {
    char path[MODEL_PATH_MAX]; /* what is to be loaded */
    int bits;                  /* 0: as it is */
    uint64_t weights;          /* bytes */
    uint64_t kv_memory;        /* for the KV pool; 0: not limited by --memory */
    char why[240];
};

/* Without a draft model. usual and most: as above. */
struct precision_wanted precision_wanted_by(const struct options *o, enum kv_type type, uint32_t usual, uint32_t most);

/* Decides only: path is the source's. NO_MEMORY: it does not fit into --memory in any precision that is allowed; on
 * demand it is left as it is instead. */
NODISCARD bool precision_plan(const char *model, const struct precision_wanted *w, struct precision_found *out,
                              struct error *err);

/* Decides, and says whether the file is there. */
NODISCARD bool precision_find(const char *model, const struct precision_wanted *w, struct precision_found *out,
                              bool *is_there, struct error *err);

/* Decides, and makes the file when it is not there. progress may be NULL; when it says false, it ends with CANCELLED.
 */
NODISCARD bool precision_resolve(const char *model, const struct precision_wanted *w,
                                 bool (*progress)(void *arg, double fraction), void *arg, struct precision_found *out,
                                 struct error *err);

#endif
