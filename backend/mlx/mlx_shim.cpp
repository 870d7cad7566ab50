/* See mlx_shim.h. Every call is one guarded expression over mlx::core; what throws is remembered and answered by NULL.
 * Here: the library, handles, values and their shapes. */
#include "backend/mlx/mlx_shim_internal.hpp"

#include <mlx/backend/metal/metal.h>
#include <mlx/version.h>

#include <chrono>
#include <limits>
#include <unistd.h>

/* ---- the library and its device ---- */

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

const char *mlx_built_for(void)
{
    return TEXT(MLX_VERSION_MAJOR) "." TEXT(MLX_VERSION_MINOR) "." TEXT(MLX_VERSION_PATCH);
}

const char *mlx_loaded(void)
{
    return mx::version();
}

/* Patch releases change the library's layout without changing its name. */
bool mlx_same_version(struct error *err)
{
    return std::strcmp(mlx_built_for(), mx::version()) == 0 ||
           error_set(err, ERR_UNSUPPORTED, "It was built for MLX %s, and the library found is %s. Build it again.",
                     mlx_built_for(), mx::version());
}

static size_t number(const mx::Device &device, const char *key)
{
    const auto &info = mx::device_info(device);
    auto found = info.find(key);
    return found != info.end() && std::holds_alternative<size_t>(found->second) ? std::get<size_t>(found->second) : 0;
}

static std::string name_of(const mx::Device &device)
{
    const auto &info = mx::device_info(device);
    auto found = info.find("device_name");
    if (found != info.end() && std::holds_alternative<std::string>(found->second))
        return std::get<std::string>(found->second);
    return device.type == mx::Device::gpu ? "gpu" : "cpu";
}

struct mlx_context *mlx_open(enum mlx_device wanted, struct error *err)
{
    try {
        if (!mlx_same_version(err))
            return nullptr;
        bool gpu = mx::is_available(mx::Device(mx::Device::gpu));
        if (wanted == MLX_DEVICE_GPU && !gpu) {
            error_set(err, ERR_UNSUPPORTED, "MLX finds no GPU here.");
            return nullptr;
        }
        mx::disable_compile(); /* fused kernels would want a compiler at run time */
        mx::Device device(gpu && wanted != MLX_DEVICE_CPU ? mx::Device::gpu : mx::Device::cpu);
        mx::set_default_device(device);
        /* Weights are made on the thread that loads, steps on the engine's. */
        return new mlx_context{mx::new_thread_unsafe_stream(device),
                               name_of(device),
                               number(device, "max_recommended_working_set_size"),
                               {},
                               {},
                               0,
                               {}};
    } catch (const std::exception &e) {
        error_set(err, code_of(e), "MLX could not be started: %s", e.what());
        return nullptr;
    }
}

void mlx_close(struct mlx_context *m)
{
    if (!m)
        return;
    guard(m, [&] { mx::synchronize(m->stream); });
    delete m;
}

bool mlx_on_gpu(const struct mlx_context *m)
{
    return m->stream.device.type == mx::Device::gpu;
}
const char *mlx_device_name(const struct mlx_context *m)
{
    return m->device_name.c_str();
}
size_t mlx_working_set(const struct mlx_context *m)
{
    return m->working_set;
}

bool mlx_set_limits(struct mlx_context *m, const struct mlx_limits *limits, struct error *err)
{
    guard(m, [&] {
        if (limits->memory)
            mx::set_memory_limit(limits->memory);
        mx::set_cache_limit(limits->cache);
        if (limits->wired)
            mx::set_wired_limit(limits->wired);
    });
    return mlx_take_error(m, err);
}

size_t mlx_active_memory(void)
{
    return mx::get_active_memory();
}
void mlx_clear_cache(void)
{
    mx::clear_cache();
}

/* ---- handles, failures, evaluation ---- */

struct mlx_array *mlx_hold(struct mlx_context *m, struct mlx_array *a)
{
    struct mlx_array *out = nullptr;
    if (a)
        guard(m, [&] { out = handle(new array(of(a))); });
    return out;
}

void mlx_drop(struct mlx_array *held)
{
    delete reinterpret_cast<array *>(held);
}
void mlx_reset(struct mlx_context *m)
{
    m->pool.clear();
}
void mlx_fail(struct mlx_context *m, enum error_code code, const char *what)
{
    fail(m, code, what);
}
bool mlx_ok(const struct mlx_context *m)
{
    return m->failure.code == 0;
}

bool mlx_take_error(struct mlx_context *m, struct error *err)
{
    if (m->failure.code == 0)
        return true;
    *err = m->failure;
    m->failure = {};
    return false;
}

static std::vector<array> outputs_of(struct mlx_array *const *arrays, size_t n)
{
    std::vector<array> outputs;
    for (size_t i = 0; i < n; i++)
        outputs.push_back(of(arrays[i]));
    return outputs;
}

template <typename F> static bool timed(struct mlx_context *m, F f)
{
    auto start = std::chrono::steady_clock::now();
    bool ok = guard(m, f);
    m->eval_ns +=
        (uint64_t)std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start)
            .count();
    return ok;
}

bool mlx_eval_async(struct mlx_context *m, struct mlx_array *const *arrays, size_t n)
{
    return timed(m, [&] { mx::async_eval(outputs_of(arrays, n)); });
}

bool mlx_eval(struct mlx_context *m, struct mlx_array *const *arrays, size_t n)
{
    return timed(m, [&] { mx::eval(outputs_of(arrays, n)); });
}

template <typename T> static bool read(struct mlx_context *m, struct mlx_array *a, mx::Dtype type, T *dst, size_t n)
{
    if (!a)
        return false;
    return timed(m, [&] {
        array value = mx::contiguous(mx::astype(of(a), type, m->stream), false, m->stream);
        value.eval();
        if (value.size() != n)
            throw std::runtime_error("a read of another number of values than there are");
        std::memcpy(dst, value.data<T>(), n * sizeof(T));
    });
}

bool mlx_read_f32(struct mlx_context *m, struct mlx_array *a, float *dst, size_t n)
{
    return read(m, a, mx::float32, dst, n);
}
bool mlx_read_i32(struct mlx_context *m, struct mlx_array *a, int32_t *dst, size_t n)
{
    return read(m, a, mx::int32, dst, n);
}
uint64_t mlx_eval_ns(const struct mlx_context *m)
{
    return m->eval_ns;
}

/* ---- values ---- */

static Shape shape_of(const struct mlx_shape &s)
{
    return Shape(s.dim, s.dim + s.n);
}

/* Metal takes whole pages in place: the array begins at the page's start and the tensor is a slice of it. */
static array map_pages(struct mlx_context *m, const void *data, const Shape &shape, mx::Dtype type, size_t n)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)data, begin = at & ~(page - 1);
    int skip = (int)((at - begin) / type.size());
    array whole((void *)begin, Shape{(int)(n + (size_t)skip)}, type, [](void *) {});
    return mx::reshape(mx::slice(whole, {skip}, {(int)(n + (size_t)skip)}, {1}, m->stream), shape, m->stream);
}

struct mlx_array *mlx_map(struct mlx_context *m, const void *data, struct mlx_shape shape, enum mlx_dtype type)
{
    size_t n = 1, size = dtype_of(type).size();
    for (int i = 0; i < shape.n; i++)
        n *= (size_t)shape.dim[i];
    if (!mx::metal::is_available() || (uintptr_t)data % size != 0 ||
        n > (size_t)std::numeric_limits<int>::max() - 65536)
        return mlx_copy(m, data, shape, type);
    return node(m, [&] { return map_pages(m, data, shape_of(shape), dtype_of(type), n); });
}

struct mlx_array *mlx_copy(struct mlx_context *m, const void *data, struct mlx_shape shape, enum mlx_dtype type)
{
    return node(m, [&] {
        size_t n = dtype_of(type).size();
        for (int i = 0; i < shape.n; i++)
            n *= (size_t)shape.dim[i];
        mx::allocator::Data memory = mx::allocator::malloc(n);
        std::memcpy(memory.buffer().raw_ptr(), data, n);
        return array(std::move(memory), shape_of(shape), dtype_of(type));
    });
}

struct mlx_array *mlx_zeros(struct mlx_context *m, struct mlx_shape shape, enum mlx_dtype type)
{
    return node(m, [&] { return mx::zeros(shape_of(shape), dtype_of(type), m->stream); });
}

struct mlx_array *mlx_cast(struct mlx_context *m, struct mlx_array *a, enum mlx_dtype type)
{
    return a ? node(m, [&] { return mx::astype(of(a), dtype_of(type), m->stream); }) : nullptr;
}

bool mlx_maps(void)
{
    return mx::metal::is_available();
}

int mlx_dim(const struct mlx_array *a, int axis)
{
    return of(a).shape(axis);
}

size_t mlx_size(const struct mlx_array *a)
{
    return of(a).nbytes();
}

/* ---- shapes ---- */

struct mlx_array *mlx_reshape(struct mlx_context *m, struct mlx_array *a, struct mlx_shape shape)
{
    return a ? node(m, [&] { return mx::reshape(of(a), shape_of(shape), m->stream); }) : nullptr;
}

struct mlx_array *mlx_swap_axes(struct mlx_context *m, struct mlx_array *a, int i, int j)
{
    return a ? node(m, [&] { return mx::swapaxes(of(a), i, j, m->stream); }) : nullptr;
}

struct mlx_array *mlx_slice(struct mlx_context *m, struct mlx_array *a, int axis, int begin, int end)
{
    if (!a)
        return nullptr;
    return node(m, [&] {
        Shape start(of(a).ndim(), 0), stop = of(a).shape();
        start[(size_t)axis] = begin;
        stop[(size_t)axis] = end;
        return mx::slice(of(a), std::move(start), std::move(stop), m->stream);
    });
}

bool mlx_split(struct mlx_context *m, struct mlx_array *a, int n, struct mlx_array **out)
{
    return a && guard(m, [&] {
               std::vector<array> parts = mx::split(of(a), n, 0, m->stream);
               for (int i = 0; i < n; i++)
                   out[i] = handle(&m->pool.emplace_back(std::move(parts[(size_t)i])));
           });
}

struct mlx_array *mlx_concat(struct mlx_context *m, struct mlx_array *const *arrays, int n, int axis)
{
    for (int i = 0; i < n; i++) {
        if (!arrays[i])
            return nullptr;
    }
    return node(m, [&] {
        std::vector<array> parts;
        for (int i = 0; i < n; i++)
            parts.push_back(of(arrays[i]));
        return mx::concatenate(std::move(parts), axis, m->stream);
    });
}

struct mlx_array *mlx_contiguous(struct mlx_context *m, struct mlx_array *a)
{
    return a ? node(m, [&] { return mx::contiguous(of(a), false, m->stream); }) : nullptr;
}

bool mlx_update(struct mlx_context *m, struct mlx_array *held, struct mlx_array *update, int axis, int begin)
{
    if (!held || !update)
        return false;
    return guard(m, [&] {
        array &a = of(held);
        Shape start(a.ndim(), 0), stop = a.shape();
        start[(size_t)axis] = begin;
        stop[(size_t)axis] = begin + of(update).shape(axis);
        a = mx::slice_update(a, of(update), std::move(start), std::move(stop), m->stream);
    });
}

struct mlx_array *mlx_take(struct mlx_context *m, struct mlx_array *a, struct mlx_array *indices, int axis)
{
    return a && indices ? node(m, [&] { return mx::take(of(a), of(indices), axis, m->stream); }) : nullptr;
}

struct mlx_array *mlx_choose_ids(struct mlx_context *m, struct mlx_array *ids, struct mlx_array *from,
                                 struct mlx_array *prev)
{
    if (!ids || !from || !prev)
        return nullptr;
    return node(m, [&] {
        array zero(0);
        array taken = mx::take(of(prev), mx::maximum(of(from), zero, m->stream), 0, m->stream);
        return mx::where(mx::less(of(from), zero, m->stream), of(ids), taken, m->stream);
    });
}

struct mlx_array *mlx_limit_ids(struct mlx_context *m, struct mlx_array *ids, int n)
{
    return ids ? node(m,
                      [&] { return mx::where(mx::less(of(ids), array(n), m->stream), of(ids), array(0), m->stream); })
               : nullptr;
}
