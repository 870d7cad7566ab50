/* See mlx_shim.h. Every call is one guarded expression over mlx::core; what throws is remembered and answered by NULL.
 */
#include "backend/mlx/mlx_shim.h"

#include <mlx/backend/metal/metal.h>
#include <mlx/fast.h>
#include <mlx/mlx.h>
#include <mlx/version.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <deque>
#include <limits>
#include <new>
#include <string>
#include <unistd.h>

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
};

namespace
{

array &of(struct mlx_array *a)
{
    return *reinterpret_cast<array *>(a);
}
const array &of(const struct mlx_array *a)
{
    return *reinterpret_cast<const array *>(a);
}
struct mlx_array *handle(array *a)
{
    return reinterpret_cast<struct mlx_array *>(a);
}

std::optional<array> maybe(struct mlx_array *a)
{
    return a ? std::optional<array>(of(a)) : std::nullopt;
}

void fail(struct mlx_context *m, enum error_code code, const char *what)
{
    if (m->failure.code == 0)
        error_set(&m->failure, code, "MLX: %s", what);
}

/* MLX reports memory that it cannot have as a runtime_error. Whatever else goes wrong in it leaves nobody knows what:
 * its state is not to be trusted any more, which is what a failed device means. */
enum error_code code_of(const std::exception &e)
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

mx::Dtype dtype_of(enum mlx_dtype type)
{
    static const mx::Dtype types[] = {mx::float32, mx::float16, mx::bfloat16, mx::uint32,
                                      mx::int32,   mx::uint8,   mx::bool_};
    return types[type];
}

Shape shape_of(const struct mlx_shape &s)
{
    return Shape(s.dim, s.dim + s.n);
}

array scalar(float x, const array &like)
{
    return array(x, like.dtype());
}

template <typename F> bool timed(struct mlx_context *m, F f)
{
    auto start = std::chrono::steady_clock::now();
    bool ok = guard(m, f);
    m->eval_ns +=
        (uint64_t)std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start)
            .count();
    return ok;
}

} // namespace

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
                               0};
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

/* ---- weights ---- */

/* x as w has its columns. */
static array input_of(const struct mlx_context *m, struct mlx_array *x, const struct mlx_matrix *w)
{
    return w->columns ? mx::take(of(x), of(w->columns), -1, m->stream) : of(x);
}

struct mlx_array *mlx_linear(struct mlx_context *m, struct mlx_array *x, const struct mlx_matrix *w,
                             struct mlx_array *bias)
{
    if (!x)
        return nullptr;
    return node(m, [&] {
        array in = input_of(m, x, w);
        array y = w->scales ? mx::quantized_matmul(in, of(w->w), of(w->scales), maybe(w->biases), true, w->group_size,
                                                   w->bits, group_mode_name(w->mode), m->stream)
                            : mx::matmul(in, of(w->w), m->stream);
        return bias ? mx::add(y, of(bias), m->stream) : y;
    });
}

struct mlx_array *mlx_embed(struct mlx_context *m, const struct mlx_matrix *table, struct mlx_array *ids,
                            enum mlx_dtype type)
{
    if (!ids)
        return nullptr;
    return node(m, [&] {
        auto rows = [&](struct mlx_array *a) { return mx::take(of(a), of(ids), 0, m->stream); };
        if (!table->scales)
            return mx::astype(mx::take(mx::swapaxes(of(table->w), 0, 1, m->stream), of(ids), 0, m->stream),
                              dtype_of(type), m->stream);
        std::optional<array> biases;
        if (table->biases)
            biases = rows(table->biases);
        array found = mx::dequantize(rows(table->w), rows(table->scales), biases, table->group_size, table->bits,
                                     group_mode_name(table->mode), std::nullopt, dtype_of(type), m->stream);
        if (!table->columns)
            return found;
        return mx::take(found, mx::argsort(of(table->columns), m->stream), -1, m->stream);
    });
}

/* MLX's CPU gathers f32 only. */
static array gather_dense(const array &rows, const array &w, const array &experts, bool gpu, mx::Stream s)
{
    if (gpu || rows.dtype() == mx::float32)
        return mx::gather_mm(rows, w, std::nullopt, experts, false, s);
    array wide =
        mx::gather_mm(mx::astype(rows, mx::float32, s), mx::astype(w, mx::float32, s), std::nullopt, experts, false, s);
    return mx::astype(wide, rows.dtype(), s);
}

struct mlx_array *mlx_expert_linear(struct mlx_context *m, struct mlx_array *x, const struct mlx_matrix *w,
                                    struct mlx_array *experts)
{
    if (!x || !experts)
        return nullptr;
    return node(m, [&] {
        int b = of(experts).shape(0), e = of(experts).shape(1), k = of(x).shape(-1);
        /* a row for all its experts, or one for each */
        array rows = mx::reshape(input_of(m, x, w), Shape{b, of(x).ndim() == 2 ? 1 : e, 1, k}, m->stream);
        array y = w->scales
                      ? mx::gather_qmm(rows, of(w->w), of(w->scales), maybe(w->biases), std::nullopt, of(experts), true,
                                       w->group_size, w->bits, group_mode_name(w->mode), std::nullopt, false, m->stream)
                      : gather_dense(rows, of(w->w), of(experts), mlx_on_gpu(m), m->stream);
        return mx::reshape(y, Shape{b, e, y.shape(-1)}, m->stream);
    });
}

/* ---- ops ---- */

struct mlx_array *mlx_add(struct mlx_context *m, struct mlx_array *a, struct mlx_array *b)
{
    return a && b ? node(m, [&] { return mx::add(of(a), of(b), m->stream); }) : nullptr;
}

struct mlx_array *mlx_multiply(struct mlx_context *m, struct mlx_array *a, struct mlx_array *b)
{
    return a && b ? node(m, [&] { return mx::multiply(of(a), of(b), m->stream); }) : nullptr;
}

struct mlx_array *mlx_scale(struct mlx_context *m, struct mlx_array *a, float factor)
{
    return a ? node(m, [&] { return mx::multiply(of(a), scalar(factor, of(a)), m->stream); }) : nullptr;
}

static array softcap(const array &a, float cap, mx::Stream s)
{
    array c = scalar(cap, a);
    return mx::multiply(mx::tanh(mx::divide(a, c, s), s), c, s);
}

struct mlx_array *mlx_softcap(struct mlx_context *m, struct mlx_array *a, float cap)
{
    return a ? node(m, [&] { return softcap(of(a), cap, m->stream); }) : nullptr;
}

static array gelu(const array &a, mx::Stream s)
{
    array half = scalar(0.5f, a), one = scalar(1, a), root = scalar((float)M_SQRT1_2, a);
    return mx::multiply(mx::multiply(a, half, s), mx::add(one, mx::erf(mx::multiply(a, root, s), s), s), s);
}

static array gelu_tanh(const array &a, mx::Stream s)
{
    array half = scalar(0.5f, a), one = scalar(1, a), cubic = scalar(0.044715f, a), root = scalar(0.7978845608f, a);
    array cube = mx::multiply(mx::multiply(mx::square(a, s), a, s), cubic, s);
    array inner = mx::tanh(mx::multiply(mx::add(a, cube, s), root, s), s);
    return mx::multiply(mx::multiply(a, half, s), mx::add(one, inner, s), s);
}

static array activate(const array &a, enum activation act, mx::Stream s)
{
    switch (act) {
    case ACT_SILU:
        return mx::multiply(a, mx::sigmoid(a, s), s);
    case ACT_GELU:
        return gelu(a, s);
    case ACT_GELU_TANH:
        return gelu_tanh(a, s);
    case ACT_RELU:
        return mx::maximum(a, scalar(0, a), s);
    case ACT_RELU2:
        return mx::square(mx::maximum(a, scalar(0, a), s), s);
    case ACT_CLAMPED_SWIGLU:
        break; /* of two values: see clamped_swiglu */
    }
    throw std::runtime_error("an activation that is not known");
}

struct mlx_array *mlx_activate(struct mlx_context *m, struct mlx_array *a, enum activation act)
{
    return a ? node(m, [&] { return activate(of(a), act, m->stream); }) : nullptr;
}

static array clamped_swiglu(const array &gate, const array &up, mx::Stream s)
{
    array limit = scalar(SWIGLU_LIMIT, gate), alpha = scalar(SWIGLU_ALPHA, gate);
    array g = mx::minimum(gate, limit, s);
    array u = mx::clip(up, scalar(-SWIGLU_LIMIT, up), limit, s);
    array swish = mx::multiply(g, mx::sigmoid(mx::multiply(g, alpha, s), s), s);
    return mx::multiply(swish, mx::add(u, scalar(1, up), s), s);
}

struct mlx_array *mlx_gated(struct mlx_context *m, struct mlx_array *gate, struct mlx_array *up, enum activation act)
{
    if (!gate || !up)
        return nullptr;
    return node(m, [&] {
        if (act == ACT_CLAMPED_SWIGLU)
            return clamped_swiglu(of(gate), of(up), m->stream);
        return mx::multiply(activate(of(gate), act, m->stream), of(up), m->stream);
    });
}

struct mlx_array *mlx_sigmoid(struct mlx_context *m, struct mlx_array *a)
{
    return a ? node(m, [&] { return mx::sigmoid(of(a), m->stream); }) : nullptr;
}

/* ---- streams ---- */

struct mlx_array *mlx_subtract(struct mlx_context *m, struct mlx_array *a, struct mlx_array *b)
{
    return a && b ? node(m, [&] { return mx::subtract(of(a), of(b), m->stream); }) : nullptr;
}

struct mlx_array *mlx_thin_out(struct mlx_context *m, struct mlx_array *a, float sparsity)
{
    if (!a)
        return nullptr;
    return node(m, [&] {
        mx::Stream s = m->stream;
        array x = mx::astype(of(a), mx::float32, s), mean = mx::mean(x, -1, true, s);
        array from_mean = mx::subtract(x, mean, s);
        array deviation = mx::sqrt(mx::mean(mx::square(from_mean, s), -1, true, s), s);
        array above = mx::subtract(from_mean, mx::multiply(deviation, scalar(sparsity, x), s), s);
        return mx::astype(mx::maximum(above, scalar(0, x), s), of(a).dtype(), s);
    });
}

struct mlx_array *mlx_match(struct mlx_context *m, struct mlx_array *x, struct mlx_array *y)
{
    if (!x || !y)
        return nullptr;
    return node(m, [&] {
        mx::Stream s = m->stream;
        auto mean_square = [&](const array &a) {
            return mx::mean(mx::square(mx::astype(a, mx::float32, s), s), -1, true, s);
        };
        array wanted = mx::expand_dims(mean_square(of(x)), 1, s), there = mean_square(of(y));
        array factor = mx::sqrt(mx::divide(wanted, mx::maximum(there, scalar(1e-5f, there), s), s), s);
        return mx::multiply(of(y), mx::astype(factor, of(y).dtype(), s), s);
    });
}

struct mlx_array *mlx_stream_coefs(struct mlx_context *m, struct mlx_array *coefs, struct mlx_array *routed,
                                   float scale)
{
    if (!coefs || !routed)
        return nullptr;
    return node(m, [&] {
        mx::Stream s = m->stream;
        array r = mx::astype(of(routed), mx::float32, s);
        array modalities = mx::tanh(mx::multiply(r, scalar(scale, r), s), s);
        array by = mx::swapaxes(mx::astype(of(coefs), mx::float32, s), 0, 1, s);
        return mx::astype(mx::matmul(modalities, by, s), of(routed).dtype(), s);
    });
}

struct mlx_array *mlx_stream_predict(struct mlx_context *m, struct mlx_array *x, struct mlx_array *coefs)
{
    if (!x || !coefs)
        return nullptr;
    return node(m, [&] {
        int n = of(x).shape(1);
        array by = mx::reshape(of(coefs), {of(x).shape(0), n, n}, m->stream);
        return mx::add(of(x), mx::matmul(by, of(x), m->stream), m->stream);
    });
}

struct mlx_array *mlx_stream_correct(struct mlx_context *m, struct mlx_array *x, struct mlx_array *coefs,
                                     struct mlx_array *news)
{
    if (!x || !coefs || !news)
        return nullptr;
    return node(m, [&] {
        mx::Stream s = m->stream;
        array factor = mx::expand_dims(mx::add(of(coefs), scalar(1, of(coefs)), s), 2, s);
        return mx::add(of(x), mx::multiply(factor, mx::expand_dims(of(news), 1, s), s), s);
    });
}

/* ---- norms, positions, attention ---- */

/* What fast::rms_norm is on a CPU, with fewer nodes. */
static array rms_norm(const array &a, const array &weight, float eps, mx::Stream s)
{
    array sums = mx::sum(mx::square(a, s), -1, true, s);
    float n = (float)a.shape(-1); /* x / sqrt(sum / n + eps) = x sqrt(n) / sqrt(sum + n eps) */
    array factor = mx::rsqrt(mx::add(sums, scalar(n * eps, a), s), s);
    return mx::multiply(mx::multiply(a, mx::multiply(factor, scalar(std::sqrt(n), a), s), s), weight, s);
}

struct mlx_array *mlx_norm(struct mlx_context *m, struct mlx_array *a, struct mlx_array *weight, struct mlx_array *bias,
                           const struct norm_params *p)
{
    if (!a)
        return nullptr;
    return node(m, [&] {
        if (p->kind == NORM_LAYER)
            return mx::fast::layer_norm(of(a), maybe(weight), maybe(bias), p->eps, m->stream);
        bool small = weight && !mlx_on_gpu(m) && of(a).dtype() == mx::float32;
        return small ? rms_norm(of(a), of(weight), p->eps, m->stream)
                     : mx::fast::rms_norm(of(a), maybe(weight), p->eps, m->stream);
    });
}

struct mlx_array *mlx_rope(struct mlx_context *m, struct mlx_array *x, const struct rope_params *p,
                           const struct mlx_angles *a)
{
    if (!x || !a->wavelengths || !a->offsets)
        return nullptr;
    return node(m, [&] {
        array y = mx::fast::rope(of(x), p->rot_dim, p->kind == ROPE_NORM, std::nullopt, 1, of(a->offsets),
                                 of(a->wavelengths), m->stream);
        if (p->attn_factor == 1)
            return y;
        if (p->rot_dim == p->head_dim)
            return mx::multiply(y, scalar(p->attn_factor, y), m->stream);
        auto parts = mx::split(y, Shape{p->rot_dim}, -1, m->stream);
        return mx::concatenate({mx::multiply(parts[0], scalar(p->attn_factor, y), m->stream), parts[1]}, -1, m->stream);
    });
}

struct mlx_array *mlx_rotate(struct mlx_context *m, struct mlx_array *x, const struct mlx_angles *a)
{
    if (!x || !a->cos || !a->sin || !a->partner)
        return nullptr;
    return node(m, [&] {
        array partners = mx::matmul(of(x), of(a->partner), m->stream);
        return mx::add(mx::multiply(of(x), of(a->cos), m->stream), mx::multiply(partners, of(a->sin), m->stream),
                       m->stream);
    });
}

/* What the fused kernel has no parameter for; no sinks. */
static array attend_capped(const struct mlx_attention *a, mx::Stream s)
{
    const array &q = of(a->q), &k = of(a->k), &v = of(a->v);
    int kv = k.shape(1), t = q.shape(2), h = q.shape(1);
    array grouped = mx::reshape(q, Shape{1, kv, h / kv, t, q.shape(3)}, s);
    array keys = mx::expand_dims(mx::swapaxes(k, 2, 3, s), 2, s);
    array scores = mx::matmul(mx::multiply(grouped, scalar(a->scale, q), s), keys, s);
    scores = softcap(scores, a->softcap, s);
    if (a->mask)
        scores = mx::where(of(a->mask), scores, scalar(-std::numeric_limits<float>::infinity(), scores), s);
    array out = mx::matmul(mx::softmax(scores, std::vector<int>{-1}, true, s), mx::expand_dims(v, 2, s), s);
    return mx::reshape(out, Shape{1, h, t, v.shape(3)}, s);
}

struct mlx_array *mlx_attend(struct mlx_context *m, const struct mlx_attention *a)
{
    if (!a->q || !a->k || !a->v)
        return nullptr;
    return node(m, [&] {
        if (a->softcap != 0)
            return attend_capped(a, m->stream);
        return mx::fast::scaled_dot_product_attention(of(a->q), of(a->k), of(a->v), a->scale, a->causal ? "causal" : "",
                                                      maybe(a->mask), maybe(a->sinks), false, m->stream);
    });
}

struct mlx_array *mlx_window_mask(struct mlx_context *m, int start, int n, int first, int n_keys, int window)
{
    return node(m, [&] {
        array query = mx::reshape(mx::arange(start, start + n, m->stream), Shape{n, 1}, m->stream);
        array key = mx::reshape(mx::arange(first, first + n_keys, m->stream), Shape{1, n_keys}, m->stream);
        array seen = mx::less_equal(key, query, m->stream);
        if (window == 0)
            return seen;
        array near = mx::greater(key, mx::subtract(query, array(window), m->stream), m->stream);
        return mx::logical_and(seen, near, m->stream);
    });
}

struct mlx_array *mlx_chunk_mask(struct mlx_context *m, int start, int n, int first, int n_keys, int chunk)
{
    return node(m, [&] {
        array query = mx::reshape(mx::arange(start, start + n, m->stream), Shape{n, 1}, m->stream);
        array key = mx::reshape(mx::arange(first, first + n_keys, m->stream), Shape{1, n_keys}, m->stream);
        array stretch = mx::multiply(mx::floor_divide(query, array(chunk), m->stream), array(chunk), m->stream);
        return mx::logical_and(mx::less_equal(key, query, m->stream), mx::greater_equal(key, stretch, m->stream),
                               m->stream);
    });
}

struct mlx_array *mlx_attend_one(struct mlx_context *m, struct mlx_array *q, struct mlx_array *k, struct mlx_array *v)
{
    if (!q || !k || !v)
        return nullptr;
    return node(m, [&] {
        array scores = mx::matmul(of(q), mx::swapaxes(of(k), 2, 3, m->stream), m->stream);
        return mx::matmul(mx::softmax(scores, std::vector<int>{-1}, true, m->stream), of(v), m->stream);
    });
}

/* Stable, so that the lower number comes first among equals. */
static array descending(const array &a, mx::Stream s)
{
    return mx::argsort(mx::negative(a, s), -1, s);
}

static array first_columns(const array &a, int n, mx::Stream s)
{
    Shape start(a.ndim(), 0), stop = a.shape();
    stop.back() = n;
    return mx::slice(a, std::move(start), std::move(stop), s);
}

static array score(const array &logits, enum moe_score kind, mx::Stream s)
{
    switch (kind) {
    case MOE_SOFTMAX:
        return mx::softmax(logits, std::vector<int>{-1}, true, s);
    case MOE_SIGMOID:
        return mx::sigmoid(logits, s);
    case MOE_SOFTMAX_CHOSEN:
        return logits;
    }
    throw std::runtime_error("a score that is not known");
}

/* choice with -inf for experts of groups that are left out. A group stays when fewer than n_groups_used come before it.
 */
static array leave_groups(const array &choice, const struct moe_params *p, mx::Stream s)
{
    int b = choice.shape(0), size = p->n_experts / p->n_groups;
    array by_group = mx::reshape(choice, Shape{b, p->n_groups, size}, s);
    array best = first_columns(mx::negative(mx::sort(mx::negative(by_group, s), -1, s), s), p->group_top, s);
    array places = mx::argsort(descending(mx::sum(best, -1, false, s), s), -1, s);
    array stays = mx::expand_dims(mx::less(places, array(p->n_groups_used, mx::uint32), s), -1, s);
    array none(-std::numeric_limits<float>::infinity());
    return mx::reshape(mx::where(stays, by_group, none, s), Shape{b, p->n_experts}, s);
}

/* A score grows with the logit: where it alone decides, the logits do, of which fewer are equal. */
static array choice_of(const array &logits, const array &scores, struct mlx_array *bias, const struct moe_params *p,
                       mx::Stream s)
{
    bool by_logit = !bias && (p->n_groups <= 1 || p->group_top == 1);
    array choice = by_logit ? logits : scores;
    if (bias)
        choice = mx::add(choice, mx::astype(of(bias), mx::float32, s), s);
    return p->n_groups > 1 ? leave_groups(choice, p, s) : choice;
}

static array weights_of(const array &taken, const struct moe_params *p, mx::Stream s)
{
    array w = taken;
    if (p->score == MOE_SOFTMAX_CHOSEN)
        w = mx::softmax(w, std::vector<int>{-1}, true, s);
    else if (p->norm_weights)
        w = mx::divide(w, mx::add(mx::sum(w, -1, true, s), scalar(1e-20f, w), s), s);
    return p->scale == 1 ? w : mx::multiply(w, scalar(p->scale, w), s);
}

struct mlx_routes mlx_route(struct mlx_context *m, struct mlx_array *logits, struct mlx_array *choice_bias,
                            const struct moe_params *p)
{
    struct mlx_routes r = {nullptr, nullptr};
    if (!logits)
        return r;
    guard(m, [&] {
        array l = mx::astype(of(logits), mx::float32, m->stream);
        array scores = score(l, p->score, m->stream);
        array order = descending(choice_of(l, scores, choice_bias, p, m->stream), m->stream);
        array experts = first_columns(order, p->n_used, m->stream);
        array w = weights_of(mx::take_along_axis(scores, experts, -1, m->stream), p, m->stream);
        r.experts = handle(&m->pool.emplace_back(std::move(experts)));
        r.weights = handle(&m->pool.emplace_back(std::move(w)));
    });
    return r;
}

static array column_of(struct mlx_array *weights, const array &like, mx::Stream s)
{
    return mx::expand_dims(mx::astype(of(weights), like.dtype(), s), -1, s);
}

struct mlx_array *mlx_weigh(struct mlx_context *m, struct mlx_array *x, struct mlx_array *weights)
{
    if (!x || !weights)
        return nullptr;
    return node(m, [&] {
        return mx::multiply(mx::expand_dims(of(x), 1, m->stream), column_of(weights, of(x), m->stream), m->stream);
    });
}

struct mlx_array *mlx_mix(struct mlx_context *m, struct mlx_array *y, struct mlx_array *weights)
{
    if (!y)
        return nullptr;
    return node(m, [&] {
        array terms = weights ? mx::multiply(of(y), column_of(weights, of(y), m->stream), m->stream) : of(y);
        return mx::sum(terms, -2, false, m->stream);
    });
}

/* ---- sampling ---- */

struct mlx_array *mlx_argmax(struct mlx_context *m, struct mlx_array *logits)
{
    if (!logits)
        return nullptr;
    return node(m, [&] { return mx::astype(mx::argmax(of(logits), -1, false, m->stream), mx::int32, m->stream); });
}

/* Every filter keeps a prefix of the descending order: top-k by place, top-p by the sum before it, min-p by the share
 * of the first. */
static array draw(const array &logits, const struct mlx_sampling *p, mx::Stream s)
{
    auto column = [&](struct mlx_array *a) { return mx::expand_dims(of(a), -1, s); };
    int n = logits.shape(-1);
    array order = descending(logits, s);
    array sorted = mx::divide(mx::take_along_axis(logits, order, -1, s), column(p->temperature), s);
    array in_k = mx::less(mx::reshape(mx::arange(0, n, s), Shape{1, n}, s), column(p->top_k), s);
    sorted = mx::where(in_k, sorted, array(-std::numeric_limits<float>::infinity()), s);
    array share = mx::softmax(sorted, std::vector<int>{-1}, true, s);
    array before = mx::cumsum(share, -1, false, false, s);
    array first = mx::slice(share, Shape{0, 0}, Shape{share.shape(0), 1}, s);
    array kept = mx::logical_and(in_k, mx::less(before, column(p->top_p), s), s);
    kept = mx::logical_and(kept, mx::greater_equal(share, mx::multiply(first, column(p->min_p), s), s), s);
    share = mx::where(kept, share, array(0.0f), s);
    array sums = mx::cumsum(share, -1, false, true, s);
    array total = mx::slice(sums, Shape{0, n - 1}, Shape{sums.shape(0), n}, s);
    array passed = mx::less_equal(sums, mx::multiply(column(p->uniform), total, s), s);
    array at = mx::sum(mx::astype(passed, mx::int32, s), -1, true, s);
    array last = mx::subtract(mx::sum(mx::astype(kept, mx::int32, s), -1, true, s), array(1), s);
    at = mx::maximum(mx::minimum(at, last, s), array(0), s);
    return mx::squeeze(mx::astype(mx::take_along_axis(order, at, -1, s), mx::int32, s), -1, s);
}

struct mlx_array *mlx_sample(struct mlx_context *m, struct mlx_array *logits, const struct mlx_sampling *p)
{
    return logits ? node(m, [&] { return draw(of(logits), p, m->stream); }) : nullptr;
}

struct mlx_array *mlx_logsumexp(struct mlx_context *m, struct mlx_array *logits)
{
    return logits ? node(m, [&] { return mx::logsumexp(of(logits), -1, false, m->stream); }) : nullptr;
}
