/* What the mlx backend makes of each tensor of a file. Pure: used by the backend itself and by `tandem inspect`, which
 * does not load it. The rule:
 *
 *     one row                                     vector, f32 or the activations' type
 *     F32, F16, BF16                              as it is, when that is the activations' type; else converted to it
 *     other plain types                           converted
 *     GROUPED                                     as it is; scales in the activations' type
 *     GROUPED, packed by other programs           affine groups of 128, 64 or 32 with the same codes; scales, and
 * biases made of zeros, in the activations' type: the same values in f32, biases rounded in 16 bits. Columns that are
 * not in the order of their groups are sorted, or, where that makes no whole groups or several tensors are one weight,
 * expanded
 *     Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K          affine groups of 32 with the same codes: the same values, as far as
 * the activations' type holds their scales (f32 and f16: all but Q4_K, Q5_K, whose scales are products, rounded in f16)
 *     MXFP4                                       mxfp4, the same values
 *     Q2_K Q3_K Q6_K IQ4_NL IQ4_XS                f32 activations: expanded to f32, the same values; else requantized
 * to affine 8 bits in groups of 32
 */
#ifndef TANDEM_BACKEND_MLX_MLX_PLAN_H
#define TANDEM_BACKEND_MLX_MLX_PLAN_H

#include "backend/backend.h"

enum mlx_plan_kind {
    MLX_PLAN_VECTOR,
    MLX_PLAN_DENSE,      /* in the activations' type */
    MLX_PLAN_GROUPED,    /* the file's own codes */
    MLX_PLAN_REPACKED,   /* blocks with the same codes as groups */
    MLX_PLAN_REQUANTIZED /* affine 8 bits, from the values */
};

struct mlx_plan {
    enum mlx_plan_kind kind;
    struct group_quant quant; /* mode, bits and group_size of what becomes groups */
    bool exact;               /* the values are the file's */
};

/* type: that of the activations, not AUTO. */
struct mlx_plan mlx_plan_of(const struct tensor_view *t, enum mlx_type type);
/* "affine 4 bits in groups of 32, same values". Returns buf. */
const char *mlx_plan_text(const struct mlx_plan *plan, const struct tensor_view *t, enum mlx_type type, char *buf,
                          size_t size);
/* What AUTO means on a GPU for a model whose first matrix is t. */
enum mlx_type mlx_plan_type(const struct tensor_view *t);
const char *mlx_type_name(enum mlx_type type); /* "f16" */

#endif
