#include "gateway/memory_need.h"

#include "base/array.h"
#include "base/sys_memory.h"

#define KV_SHARE     4 /* default: one part in so many of the memory left */
#define KV_ROUND     MIB(2)
#define SEALS_SHARE  64  /* gateway/engine_memory.c */
#define DRAFT_SHARE  8   /* of the pool, for a draft model */
#define BATCH_TOKENS 256 /* default rows of a step: engine/engine.h */
/* Measured of engines without a request: 20 to 32 MiB with vocabularies of 49k and 150k tokens. */
#define PROCESS_SIZE MIB(32)
#define TOKEN_SIZE   512 /* of a token: its text, its place in tables, its masks */
#define LEAST_STATES 6   /* pages of states: those of a sequence, and two in whose room its K and V begin */

static uint64_t or_default(uint64_t value, uint64_t fallback)
{
    return value ? value : fallback;
}

/* Bytes of a position's K and V, and of one page of states (engine/scheduler_state.c), of all groups. */
static void kv_sizes(const struct decoder_config *config, enum kv_type type, size_t *position, size_t *state)
{
    struct kv_group_spec groups[KV_MAX_GROUPS];
    uint8_t layer_group[MODEL_MAX_LAYERS];
    uint16_t layer_index[MODEL_MAX_LAYERS];
    int n = decoder_kv_groups(config, type, groups, layer_group, layer_index);
    *position = *state = 0;
    for (int i = 0; i < n; i++) {
        *position += kv_position_size(&groups[i]);
        *state += groups[i].state_size > 0 ? kv_state_page_size(&groups[i]) : 0;
    }
}

size_t memory_kv_token_size(const struct decoder_config *config, enum kv_type type)
{
    size_t position, state;
    kv_sizes(config, type, &position, &state);
    return state == 0 ? position : position > 0 ? 2 * position : state / CPU_PAGE_TOKENS;
}

uint64_t memory_useful_pool(const struct decoder_config *config, enum kv_type type, uint32_t max_context,
                            uint32_t max_sequences)
{
    size_t position, state, token_size = memory_kv_token_size(config, type);
    size_t context = max_context ? max_context : (size_t)config->n_context;
    size_t sequences = max_sequences ? max_sequences : SERVED_DEFAULT_SEQUENCES;
    size_t all;
    kv_sizes(config, type, &position, &state);
    bool ok = size_mul(token_size, context, &all) && size_add(all, LEAST_STATES * state, &all) &&
              size_mul(all, sequences, &all);
    return ok ? all : SIZE_MAX;
}

uint64_t memory_draft_weights(const char *path)
{
    struct error ignored = {0};
    struct model_file *file = path ? model_file_open(path, &ignored) : NULL;
    uint64_t size = file ? model_file_size(file) : 0;
    model_file_close(file);
    return size;
}

/* Values of a step in f32: a few per row of what is as wide as the model, its heads (of the delta rule too) and its
 * MLP, its streams and per-layer inputs, and the logits of the rows that are sampled. Step memory grows by doubling,
 * hence twice. */
uint64_t memory_scratch(const struct decoder_config *c, uint32_t max_batch_tokens, uint32_t max_sequences)
{
    uint64_t rows = or_default(max_batch_tokens, BATCH_TOKENS);
    uint64_t sampled = or_default(max_sequences, SERVED_DEFAULT_SEQUENCES);
    uint64_t heads = (uint64_t)(c->n_heads + 2 * c->n_kv_heads) * (uint64_t)(c->k_dim + c->v_dim);
    uint64_t mlp = (uint64_t)c->n_ff + (uint64_t)c->n_experts_used * (uint64_t)c->n_ff_expert;
    uint64_t streams = 2 * (uint64_t)c->n_streams * (uint64_t)c->n_embd;
    uint64_t inputs = 2 * (uint64_t)c->n_layers * (uint64_t)c->n_layer_input;
    uint64_t keys = 2 * (uint64_t)c->delta.n_k_heads * (uint64_t)c->delta.k_dim;
    uint64_t values = (uint64_t)c->delta.n_v_heads * (uint64_t)c->delta.v_dim;
    uint64_t row = 6 * (uint64_t)c->n_embd + heads + 2 * keys + 4 * values + 3 * mlp + streams + inputs;
    sampled = sampled < rows ? sampled : rows;
    return 2 * sizeof(float) * (rows * row + sampled * (uint64_t)c->n_vocab);
}

uint64_t memory_process(const struct decoder_config *config)
{
    return PROCESS_SIZE + TOKEN_SIZE * (uint64_t)config->n_vocab;
}

uint64_t memory_of_pool(uint64_t pool_size, bool draft)
{
    return pool_size + pool_size / SEALS_SHARE + (draft ? pool_size / DRAFT_SHARE : 0);
}

/* In parts of SEALS_SHARE * DRAFT_SHARE: the pool has that many, the seals DRAFT_SHARE more, a draft model SEALS_SHARE.
 */
uint64_t memory_pool_within(uint64_t size, bool draft)
{
    uint64_t parts = SEALS_SHARE * DRAFT_SHARE + DRAFT_SHARE + (draft ? SEALS_SHARE : 0);
    return size / parts * (SEALS_SHARE * DRAFT_SHARE) / KV_ROUND * KV_ROUND;
}

uint64_t memory_least_pool(const struct decoder_config *config, enum kv_type type)
{
    size_t position, state;
    kv_sizes(config, type, &position, &state);
    uint64_t states = LEAST_STATES * (uint64_t)state;
    return states > MEMORY_LEAST_POOL ? states : MEMORY_LEAST_POOL;
}

static uint64_t pool_of(const struct memory_need *n, uint64_t least, uint64_t budget)
{
    uint64_t rest = n->weights + n->adapters + (budget ? n->scratch + n->process : 0);
    uint64_t left = budget ? budget : sys_memory().available;
    uint64_t size = (left > rest ? left - rest : 0) / KV_SHARE;
    return size < least ? least : size;
}

bool memory_need(const struct served_model_options *options, const struct model_file *file,
                 const struct decoder_config *config, uint64_t budget, struct memory_need *out, struct error *err)
{
    enum kv_type type;
    if (!kv_type_parse(options->kv_type, &type, err)) {
        return false;
    }
    struct memory_need n = {.weights = model_file_size(file) + memory_draft_weights(options->draft_model_path),
                            .adapters = options->lora_memory,
                            .scratch = memory_scratch(config, options->max_batch_tokens, options->max_sequences),
                            .process = memory_process(config)};
    bool draft = options->draft_model_path && options->draft_kv_memory == 0;
    uint64_t useful = memory_useful_pool(config, type, options->max_context, options->max_sequences);
    uint64_t size = options->kv_memory ? options->kv_memory : pool_of(&n, memory_least_pool(config, type), budget);
    size = size > useful ? useful : size;
    n.pool_size = (size_t)((size + KV_ROUND - 1) / KV_ROUND * KV_ROUND);
    n.kv = memory_of_pool(n.pool_size, draft) + (options->draft_model_path ? options->draft_kv_memory : 0);
    n.total = n.weights + n.adapters + n.kv + n.scratch + n.process;
    *out = n;
    return true;
}

uint64_t memory_default_budget(void)
{
    uint64_t available = sys_memory().available;
    return available - available / MEMORY_BUDGET_SHARE;
}
