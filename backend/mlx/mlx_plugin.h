/* What the shared object of the mlx backend exports; mlx_load.c looks these names up. */
#ifndef TANDEM_BACKEND_MLX_MLX_PLUGIN_H
#define TANDEM_BACKEND_MLX_MLX_PLUGIN_H

#include "backend/backend.h"

#define MLX_PLUGIN_EXPORT __attribute__((visibility("default")))

/* Both sides are of one build. */
MLX_PLUGIN_EXPORT NODISCARD bool mlx_plugin_check(size_t ops_size, struct error *err);
MLX_PLUGIN_EXPORT struct backend *mlx_plugin_create(const struct mlx_backend_options *options, struct error *err);
MLX_PLUGIN_EXPORT const char *mlx_plugin_version(void);

#endif
