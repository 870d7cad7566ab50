/* What the files of the shim share: guarded expressions over mlx::core, whose results lie in the step's pool. */
#ifndef TANDEM_BACKEND_MLX_MLX_SHIM_INTERNAL_HPP
#define TANDEM_BACKEND_MLX_MLX_SHIM_INTERNAL_HPP

#include "backend/mlx/mlx_shim.h"

#include <mlx/mlx.h>

#include <cstring>
#include <deque>
#include <new>
#include <string>
#include <vector>

namespace mx = mlx::core;
using mx::array;
using mx::Shape;

struct mlx_context {
    mx::Stream stream;
    std::string device_name;
    size_t working_set;
    std::deque<array> pool; /* addresses of its elements stay */
    struct error failure;   /* code 0: none */
    uint64_t eval_ns;
    std::vector<array> delta_masks; /* made when first wanted: mlx_shim_delta.cpp */
};

/* Of the files of the shim. */
namespace shim
{

inline array &of(struct mlx_array *a)
{
    return *reinterpret_cast<array *>(a);
}
inline const array &of(const struct mlx_array *a)
{
    return *reinterpret_cast<const array *>(a);
}
inline struct mlx_array *handle(array *a)
{
    return reinterpret_cast<struct mlx_array *>(a);
}

inline std::optional<array> maybe(struct mlx_array *a)
{
    return a ? std::optional<array>(of(a)) : std::nullopt;
}

inline void fail(struct mlx_context *m, enum error_code code, const char *what)
{
    if (m->failure.code == 0)
        error_set(&m->failure, code, "MLX: %s", what);
}

/* MLX reports memory that it cannot have as a runtime_error. Whatever else goes wrong in it leaves nobody knows what:
 * its state is not to be trusted any more, which is what a failed device means. */
inline enum error_code code_of(const std::exception &e)
{
    return std::strstr(e.what(), "allocate") || std::strstr(e.what(), "out of memory") ? ERR_NO_MEMORY : ERR_DEVICE;
}

template <typename F> bool guard(struct mlx_context *m, F f)
{
    try {
        f();
        return true;
    } catch (const std::bad_alloc &) {
        fail(m, ERR_NO_MEMORY, "there is no memory for the graph");
    } catch (const std::exception &e) {
        fail(m, code_of(e), e.what());
    }
    return false;
}

/* The node that f makes, in the pool. */
template <typename F> struct mlx_array *node(struct mlx_context *m, F f)
{
    struct mlx_array *out = nullptr;
    guard(m, [&] { out = handle(&m->pool.emplace_back(f())); });
    return out;
}

inline mx::Dtype dtype_of(enum mlx_dtype type)
{
    static const mx::Dtype types[] = {mx::float32, mx::float16, mx::bfloat16, mx::uint32,
                                      mx::int32,   mx::uint8,   mx::bool_};
    return types[type];
}

inline array scalar(float x, const array &like)
{
    return array(x, like.dtype());
}

} // namespace shim

using namespace shim;

#endif
