/* Types of K and V: names and sizes. */
#include "backend/backend.h"

#include <string.h>

static const struct {
    const char *name;
    size_t element; /* bytes */
    size_t group;   /* bytes besides for each group of KV_GROUP elements */
} types[KV_TYPE_COUNT] = {[KV_F32] = {"f32", 4, 0}, [KV_F16] = {"f16", 2, 0}, [KV_Q8] = {"q8", 1, 2}};

bool kv_type_parse(const char *name, enum kv_type *out, struct error *err)
{
    for (int i = 0; i < KV_TYPE_COUNT; i++) {
        if (strcmp(name, types[i].name) == 0) {
            *out = (enum kv_type)i;
            return true;
        }
    }
    return error_set(err, ERR_INVALID, "'%.40s' is no type of KV cache: f32, f16 or q8.", name);
}

const char *kv_type_name(enum kv_type type)
{
    return types[type].name;
}

size_t kv_vector_size(enum kv_type type, int dim)
{
    size_t n = (size_t)dim, n_groups = (n + KV_GROUP - 1) / KV_GROUP;
    return n * types[type].element + n_groups * types[type].group;
}

size_t kv_position_size(const struct kv_group_spec *spec)
{
    size_t head = kv_vector_size(spec->type, spec->k_dim) + kv_vector_size(spec->type, spec->v_dim);
    if (spec->type == KV_Q8)
        head += (2 * (size_t)spec->k_dim + KV_OFFSET_TOKENS - 1) / KV_OFFSET_TOKENS;
    return (size_t)spec->n_layers * (size_t)spec->n_kv_heads * head;
}

/* ---- states ---- */

#define STATE_ALIGN 64 /* a cache line: of each layer's part, and of pages */

static size_t columns(const struct delta_params *p)
{
    return 2 * (size_t)p->n_k_heads * (size_t)p->k_dim + (size_t)p->n_v_heads * (size_t)p->v_dim;
}

size_t delta_state_size(const struct delta_params *p)
{
    uint64_t heads = (uint64_t)p->n_v_heads * (uint64_t)p->v_dim, most = KV_MAX_STATE / sizeof(float);
    uint64_t kept = (uint64_t)(p->n_taps - 1) * columns(p); /* counts are below 2^12: products of three fit */
    return heads * (uint64_t)p->k_dim + kept > most ? 0 : (size_t)(heads * (uint64_t)p->k_dim + kept) * sizeof(float);
}

size_t kv_state_stride(const struct kv_group_spec *spec)
{
    return (spec->state_size + STATE_ALIGN - 1) / STATE_ALIGN * STATE_ALIGN;
}

size_t kv_state_page_size(const struct kv_group_spec *spec)
{
    return (size_t)spec->n_layers * kv_state_stride(spec) + STATE_ALIGN;
}
