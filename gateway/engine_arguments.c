#include "gateway/engine_arguments.h"

#include "base/array.h"

#include <stddef.h>
#include <stdio.h>

/* TEXT: left out when NULL; SWITCH: on or off; U32 and U64: left out when 0; FACTOR: a double. */
enum kind { TEXT, SWITCH, U32, U64, FACTOR };

#define AT(member) offsetof(struct served_model_options, member)

static const struct {
    const char *flag;
    enum kind kind;
    size_t at;
} table[] = {
    {"--model", TEXT, AT(model_path)},
    {"--backend", TEXT, AT(backend.backend)},
    {"--cpu-kernels", TEXT, AT(backend.cpu_kernels)},
    {"--mlx-device", TEXT, AT(backend.mlx_device)},
    {"--mlx-type", TEXT, AT(backend.mlx_type)},
    {"--kv-type", TEXT, AT(kv_type)},
    {"--rope-scaling", TEXT, AT(rope_scaling)},
    {"--lora-dir", TEXT, AT(lora_dir)},
    {"--script", TEXT, AT(script_path)},
    {"--fault", TEXT, AT(fault)},
    {"--log-level", TEXT, AT(log_level)},
    {"--log-format", TEXT, AT(log_format)},
    {"--sandbox", SWITCH, AT(sandbox)},
    {"--prefix-cache", SWITCH, AT(prefix_cache)},
    {"--reserve-output", SWITCH, AT(reserve_output)},
    {"--kv-disk-dir", TEXT, AT(kv_disk_dir)},
    {"--kv-disk-gb", FACTOR, AT(kv_disk_gb)},
    {"--speculation", TEXT, AT(speculation)},
    {"--draft-model", TEXT, AT(draft_model_path)},
    {"--max-draft-tokens", U32, AT(max_draft_tokens)},
    {"--draft-kv-memory", U64, AT(draft_kv_memory)},
    {"--max-itl-factor", FACTOR, AT(max_itl_factor)},
    {"--threads", U32, AT(n_threads)}, /* an int, never negative */
    {"--max-context", U32, AT(max_context)},
    {"--max-batch-tokens", U32, AT(max_batch_tokens)},
    {"--max-sequences", U32, AT(max_sequences)},
    {"--prefill-chunk", U32, AT(prefill_chunk)},
};

static void add(struct engine_arguments *a, const char *flag, const char *value)
{
    if (!value) {
        return;
    }
    a->full = a->full || a->n + 2 > (int)ARRAY_LEN(a->items);
    if (!a->full) {
        a->items[a->n++] = flag;
        a->items[a->n++] = value;
    }
}

/* Room for a number; NULL: full. */
static char *number(struct engine_arguments *a)
{
    a->full = a->full || a->n_numbers == (int)ARRAY_LEN(a->numbers);
    return a->full ? NULL : a->numbers[a->n_numbers++];
}

static void add_number(struct engine_arguments *a, const char *flag, uint64_t value)
{
    char *text = value ? number(a) : NULL;
    if (text) {
        snprintf(text, sizeof a->numbers[0], "%llu", (unsigned long long)value);
        add(a, flag, text);
    }
}

static void add_factor(struct engine_arguments *a, const char *flag, double value)
{
    char *text = number(a);
    if (text) {
        snprintf(text, sizeof a->numbers[0], "%.9g", value);
        add(a, flag, text);
    }
}

static void add_option(struct engine_arguments *a, const char *flag, enum kind kind, const void *value)
{
    switch (kind) {
    case TEXT:
        add(a, flag, *(const char *const *)value);
        break;
    case SWITCH:
        add(a, flag, *(const bool *)value ? "on" : "off");
        break;
    case U32:
        add_number(a, flag, *(const uint32_t *)value);
        break;
    case U64:
        add_number(a, flag, *(const uint64_t *)value);
        break;
    case FACTOR:
        add_factor(a, flag, *(const double *)value);
        break;
    }
}

bool engine_arguments_fill(struct engine_arguments *a, const struct served_model_options *options, uint32_t max_waiting,
                           struct error *err)
{
    *a = (struct engine_arguments){0};
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        add_option(a, table[i].flag, table[i].kind, (const char *)options + table[i].at);
    }
    add_number(a, "--max-waiting", max_waiting);
    for (int i = 0; i < options->n_overrides; i++) {
        add(a, "--override-kv", options->overrides[i]);
    }
    for (int i = 0; i < options->n_loras; i++) {
        add(a, "--lora", options->loras[i]);
    }
    return !a->full || error_set(err, ERR_INVALID, "too many options for an engine: it takes at most %d.",
                                 (int)ARRAY_LEN(a->items) / 2);
}
