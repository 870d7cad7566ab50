/* A backend that forwards every op to another one and notes how long it took: where the time of a step goes, without a
 * clock in any kernel. Only for backends that compute each op at once (not lazy ones). Costs two looks at the clock per
 * op while it is switched on, some 0.1% of a small model's step.
 *
 *     struct op_times times = {.on = true};
 *     struct backend_options o = {.op_times = &times};     backend_create wraps what it makes
 *
 * The engine's thread writes the times; read or change them while no step runs. */
#ifndef TANDEM_BACKEND_TIMED_H
#define TANDEM_BACKEND_TIMED_H

#include "backend/backend.h"

/* X(op): those of struct backend_ops that belong to a step and take time of their own. */
#define TIMED_OP_TABLE(X) \
    X(embed)              \
    X(embed_add)          \
    X(rows)               \
    X(linear)             \
    X(norm)               \
    X(add)                \
    X(scale)              \
    X(softcap)            \
    X(rope)               \
    X(gate)               \
    X(cut)                \
    X(join)               \
    X(linear_heads)       \
    X(multiply)           \
    X(add_each)           \
    X(activate_mul)       \
    X(match)              \
    X(stream_predict)     \
    X(stream_correct)     \
    X(kv_write)           \
    X(attention)          \
    X(short_conv)         \
    X(delta_net)          \
    X(mlp_gated)          \
    X(mlp)                \
    X(moe)                \
    X(sample)

enum timed_op {
#define X(op) TIMED_##op,
    TIMED_OP_TABLE(X)
#undef X
        TIMED_OP_COUNT
};

const char *timed_op_name(enum timed_op op); /* "mlp_gated" */

struct op_times {
    bool on;
    uint64_t ns[TIMED_OP_COUNT], calls[TIMED_OP_COUNT];
};

/* Takes `inner` over, also when it fails. times outlives the backend. UNSUPPORTED for a lazy one. */
NODISCARD struct backend *timed_backend_create(struct backend *inner, struct op_times *times, struct error *err);

#endif
