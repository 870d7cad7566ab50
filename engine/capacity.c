/* How many pages a sequence needs, and what fits. */
#include "engine/engine_internal.h"

#include "base/array.h"

static uint32_t blocks_of(uint64_t n_tokens, uint32_t page_tokens)
{
    return (uint32_t)((n_tokens + page_tokens - 1) / page_tokens);
}

/* Blocks of a window group that are held at once: what the oldest row of a step sees, and the rows of the step. */
static uint32_t live_blocks(uint32_t n_tokens, int window, uint32_t rows, uint32_t page_tokens)
{
    uint32_t all = blocks_of(n_tokens, page_tokens);
    uint32_t live = window > 0 ? blocks_of((uint64_t)window + rows, page_tokens) + 2 : all;
    return live < all ? live : all;
}

/* However long it is: what the longest of its steps holds (engine/scheduler_state.c). */
static uint32_t live_states(uint32_t n_tokens, uint32_t page_tokens)
{
    uint32_t all = blocks_of(n_tokens, page_tokens);
    return all < STATES_HELD ? all : STATES_HELD;
}

void engine__pages_needed(const struct engine_config *config, uint32_t n_tokens, uint32_t need[KV_MAX_GROUPS])
{
    for (int g = 0; g < config->geometry.n_groups; g++) {
        need[g] = config->state[g]
                      ? live_states(n_tokens, config->page_tokens)
                      : live_blocks(n_tokens, config->window[g], config->max_batch_tokens, config->page_tokens);
    }
}

uint32_t engine__longest(const struct engine_config *config, uint32_t n_tokens)
{
    uint32_t low = 0, high = n_tokens; /* low fits, everything above high does not */
    while (low < high) {
        uint32_t need[KV_MAX_GROUPS] = {0}, middle = low + (high - low + 1) / 2;
        engine__pages_needed(config, middle, need);
        if (kv_geometry_fits(&config->geometry, need)) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

/* Pages of states are so large that the room between slabs counts (kv.h). */
static size_t size_of_pool(const struct kv_group_spec *groups, int n_groups, int page_tokens, uint32_t n_tokens)
{
    struct engine_config config = {.geometry.n_groups = n_groups,
                                   .page_tokens = (uint32_t)page_tokens,
                                   .max_batch_tokens = ENGINE_DEFAULT_BATCH_TOKENS};
    uint32_t need[KV_MAX_GROUPS] = {0};
    for (int g = 0; g < n_groups; g++) {
        config.window[g] = groups[g].window;
        config.state[g] = groups[g].state_size > 0;
        config.geometry.page_size[g] =
            config.state[g] ? kv_state_page_size(&groups[g]) : kv_position_size(&groups[g]) * (size_t)page_tokens;
    }
    engine__pages_needed(&config, n_tokens, need);
    return kv_geometry_size(&config.geometry, need);
}

size_t engine_kv_bytes(const struct decoder_config *config, enum kv_type type, int page_tokens, uint32_t n_tokens)
{
    struct kv_group_spec groups[KV_MAX_GROUPS];
    uint8_t layer_group[MODEL_MAX_LAYERS];
    uint16_t layer_index[MODEL_MAX_LAYERS];
    int n_groups = decoder_kv_groups(config, type, groups, layer_group, layer_index);
    size_t total = 0;
    if (decoder_has_states(config)) {
        return size_of_pool(groups, n_groups, page_tokens, n_tokens);
    }
    for (int g = 0; g < n_groups; g++) {
        const struct kv_group_spec *spec = &groups[g];
        size_t blocks = live_blocks(n_tokens, spec->window, ENGINE_DEFAULT_BATCH_TOKENS, (uint32_t)page_tokens), bytes;
        if (!size_mul(kv_position_size(spec) * (size_t)page_tokens, blocks, &bytes) ||
            !size_add(total, bytes, &total)) {
            return SIZE_MAX;
        }
    }
    return total;
}
