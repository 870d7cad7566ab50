/* The choice between the backends. */
#include "backend/backend.h"

#include "backend/timed.h"
#include "base/array.h"

#include <string.h>

static const char *const kind_names[] = {[BACKEND_AUTO] = "auto", [BACKEND_CPU] = "cpu", [BACKEND_MLX] = "mlx"};
static const char *const device_names[] = {
    [MLX_DEVICE_AUTO] = "auto", [MLX_DEVICE_CPU] = "cpu", [MLX_DEVICE_GPU] = "gpu"};
static const char *const type_names[] = {
    [MLX_TYPE_AUTO] = "auto", [MLX_TYPE_F32] = "f32", [MLX_TYPE_F16] = "f16", [MLX_TYPE_BF16] = "bf16"};

static struct backend *create(const struct backend_options *options, struct error *err)
{
    struct error why = {0};
    if (options->kind == BACKEND_CPU)
        return cpu_backend_create(&options->cpu, err);
    if (options->kind == BACKEND_MLX)
        return mlx_backend_create(&options->mlx, err);
    struct mlx_backend_options on_gpu = options->mlx;
    on_gpu.device = MLX_DEVICE_GPU; /* on a CPU, Tandem's own kernels are the faster ones */
    struct backend *be = options->mlx.device == MLX_DEVICE_CPU ? NULL : mlx_backend_create(&on_gpu, &why);
    return be ? be : cpu_backend_create(&options->cpu, err);
}

struct backend *backend_create(const struct backend_options *options, struct error *err)
{
    struct backend *be = create(options, err);
    return be && options->op_times && !be->ops->lazy ? timed_backend_create(be, options->op_times, err) : be;
}

struct word_list {
    const char *option, *known; /* for the message */
    const char *const *names;
    size_t n;
};

static bool find_word(const struct word_list *list, const char *word, int *out, struct error *err)
{
    for (size_t i = 0; word && i < list->n; i++) {
        if (strcmp(word, list->names[i]) == 0) {
            *out = (int)i;
            return true;
        }
    }
    return !word || error_set(err, ERR_INVALID, "--%s: '%.40s' is not one of %s.", list->option, word, list->known);
}

bool backend_options_parse(const struct backend_words *words, struct backend_options *out, struct error *err)
{
    static const struct word_list kinds = {"backend", "auto, cpu and mlx", kind_names, ARRAY_LEN(kind_names)},
                                  devices = {"mlx-device", "auto, cpu and gpu", device_names, ARRAY_LEN(device_names)},
                                  types = {"mlx-type", "auto, f32, f16 and bf16", type_names, ARRAY_LEN(type_names)};
    int kind = (int)out->kind, device = (int)out->mlx.device, type = (int)out->mlx.type;
    if (!find_word(&kinds, words->backend, &kind, err) || !find_word(&devices, words->mlx_device, &device, err) ||
        !find_word(&types, words->mlx_type, &type, err) ||
        (words->cpu_kernels && !cpu_kernels_parse(words->cpu_kernels, &out->cpu.kernels, err)))
        return false;
    out->kind = (enum backend_kind)kind;
    out->mlx.device = (enum mlx_device)device;
    out->mlx.type = (enum mlx_type)type;
    return true;
}
