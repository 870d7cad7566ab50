#include "backend/mlx/mlx_plan.h"

#include "tensor/group_packed.h"

#include <stdio.h>

static const char *const type_names[] = {
    [MLX_TYPE_AUTO] = "auto", [MLX_TYPE_F32] = "f32", [MLX_TYPE_F16] = "f16", [MLX_TYPE_BF16] = "bf16"};

const char *mlx_type_name(enum mlx_type type)
{
    return type_names[type];
}

const char *mlx_layout_of(const struct tensor_view *t, enum mlx_type type, char *buf, size_t size)
{
    struct mlx_plan plan = mlx_plan_of(t, type);
    return mlx_plan_text(&plan, t, type, buf, size);
}

enum mlx_type mlx_plan_type(const struct tensor_view *t)
{
    enum dtype type = t->type == DTYPE_GROUPED && t->quant.mode == GROUP_AFFINE ? t->quant.scale_type : t->type;
    if (type == DTYPE_F32)
        return MLX_TYPE_F32;
    return type == DTYPE_F16 || dtype_info(type)->quantized ? MLX_TYPE_F16 : MLX_TYPE_BF16;
}

/* Bits of the codes of block formats whose groups are of 32 and affine; 0 for others. */
static int block_bits(enum dtype type)
{
    switch (type) {
    case DTYPE_Q4_0:
    case DTYPE_Q4_1:
    case DTYPE_Q4_K:
        return 4;
    case DTYPE_Q5_0:
    case DTYPE_Q5_1:
    case DTYPE_Q5_K:
        return 5;
    case DTYPE_Q8_0:
        return 8;
    default:
        return 0;
    }
}

/* Their scales and biases are exact in the type: d times a power of two in f16; products of two numbers only in f32. */
static bool scales_exact(enum dtype type, enum mlx_type activations)
{
    bool products = type == DTYPE_Q4_K || type == DTYPE_Q5_K;
    return activations == MLX_TYPE_F32 || (activations == MLX_TYPE_F16 && !products);
}

static enum mlx_type type_of(enum dtype type)
{
    switch (type) {
    case DTYPE_F32:
        return MLX_TYPE_F32;
    case DTYPE_F16:
        return MLX_TYPE_F16;
    case DTYPE_BF16:
        return MLX_TYPE_BF16;
    default:
        return MLX_TYPE_AUTO;
    }
}

/* Zeros become biases, -(scale * zero): exact in f32, and of the one zero of symmetric groups in any type. */
static struct mlx_plan plan_packed(const struct tensor_view *t, enum mlx_type type)
{
    const struct group_quant *q = &t->quant;
    bool same_type = type == MLX_TYPE_F32 || (type_of(q->scale_type) == type && !q->packing->zeros);
    if (!packed_in_order(q) && !packed_can_sort(q))
        return (struct mlx_plan){.kind = MLX_PLAN_DENSE, .exact = type == MLX_TYPE_F32};
    return (struct mlx_plan){MLX_PLAN_REPACKED, {.bits = q->bits, .group_size = packed_mlx_group(q)}, same_type};
}

static struct mlx_plan plan_grouped(const struct tensor_view *t, enum mlx_type type)
{
    if (t->quant.packing)
        return plan_packed(t, type);
    bool same = t->quant.mode != GROUP_AFFINE || type == MLX_TYPE_F32 || type_of(t->quant.scale_type) == type;
    return (struct mlx_plan){.kind = MLX_PLAN_GROUPED, .quant = t->quant, .exact = same};
}

static struct mlx_plan plan_blocks(const struct tensor_view *t, enum mlx_type type)
{
    int bits = block_bits(t->type);
    if (t->type == DTYPE_MXFP4)
        return (struct mlx_plan){MLX_PLAN_REPACKED, {.mode = GROUP_MXFP4, .bits = 4, .group_size = 32}, true};
    if (bits)
        return (struct mlx_plan){MLX_PLAN_REPACKED, {.bits = bits, .group_size = 32}, scales_exact(t->type, type)};
    if (type == MLX_TYPE_F32)
        return (struct mlx_plan){.kind = MLX_PLAN_DENSE, .exact = true};
    return (struct mlx_plan){.kind = MLX_PLAN_REQUANTIZED, .quant = {.bits = 8, .group_size = 32}};
}

struct mlx_plan mlx_plan_of(const struct tensor_view *t, enum mlx_type type)
{
    if (t->n_dims < 2)
        return (struct mlx_plan){.kind = MLX_PLAN_VECTOR, .exact = true};
    if (t->type == DTYPE_GROUPED)
        return plan_grouped(t, type);
    if (dtype_info(t->type)->quantized)
        return plan_blocks(t, type);
    return (struct mlx_plan){.kind = MLX_PLAN_DENSE, .exact = type == MLX_TYPE_F32 || type_of(t->type) == type};
}

const char *mlx_plan_text(const struct mlx_plan *plan, const struct tensor_view *t, enum mlx_type type, char *buf,
                          size_t size)
{
    struct tensor_view groups = {.type = DTYPE_GROUPED, .quant = plan->quant};
    const char *values = plan->exact ? "same values" : plan->kind == MLX_PLAN_REQUANTIZED ? "requantized" : "rounded";
    char name[64];
    switch (plan->kind) {
    case MLX_PLAN_VECTOR:
        snprintf(buf, size, "%s vector", type_names[type]);
        break;
    case MLX_PLAN_DENSE:
        snprintf(buf, size, "%s%s, %s", type_names[type], type_of(t->type) == type ? " in place" : "", values);
        break;
    case MLX_PLAN_GROUPED:
    case MLX_PLAN_REPACKED:
    case MLX_PLAN_REQUANTIZED:
        snprintf(buf, size, "%s, %s", tensor_type_name(&groups, name, sizeof name), values);
        break;
    }
    return buf;
}
