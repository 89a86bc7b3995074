// medgen::affine_coupling, its backward, and medgen::additive_coupling on CUDA.
//
// A team of 32 or 256 threads per (sample, chunk): one read of x, s, t and one write of y, four elements at a time where the layout allows;
// log-dets summed in float64 in a fixed order.

#include <algorithm>
#include <optional>
#include <tuple>

#include "core/affine.h"
#include "cuda/launch.cuh"
#include "torch/coupling.h"

namespace medgen {
namespace {

constexpr std::int64_t kChunk = 16384;        // elements of a chunk
constexpr std::int64_t kWarpSample = 2048;    // samples up to this size get a warp each
constexpr std::int64_t kManySamples = 4096;   // enough blocks to fill a device without cutting samples
constexpr std::int64_t kMostBlocks = 1 << 20;

template <class T>
struct Args {
  Layout layout;
  std::int64_t chunks, size;  // size: elements of a chunk, a multiple of 4
  T s_max;
  const T *x, *s, *t, *grad_log_det;
  std::int64_t x_row, s_row, t_row, y_row, grad_log_det_row;
  T* y;
  double* partial;
  T* log_det;
  // backward: x is the kept side, t the gradient to y
  T *gs, *gt;
  std::int64_t gs_row, gt_row;
};

template <class T, int kV>
struct alignas(sizeof(T) * kV) Pack {
  T v[kV];
};

template <int kV, class T>
__device__ __forceinline__ Pack<T, kV> load(const T* from) {
  return *reinterpret_cast<const Pack<T, kV>*>(from);
}

template <int kV, class T>
__device__ __forceinline__ void store(T* to, const Pack<T, kV>& pack) {
  *reinterpret_cast<Pack<T, kV>*>(to) = pack;
}

__device__ __forceinline__ bool is_on(const Layout& l, const Site& site, int j) {
  return l.pattern == Pattern::kChecker ? ((j & 1) == 0) == site.on : site.on;
}

// Whether a group of kV elements may hold a transformed one.
template <int kV>
__device__ __forceinline__ bool any_on(const Layout& l, const Site& site) {
  return site.on || (kV > 1 && l.pattern == Pattern::kChecker);
}

// The sum over a team, in every lane of its first warp; a fixed tree, so bit-equal from run to run.
template <int kTeam>
__device__ __forceinline__ double team_sum(double value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  if constexpr (kTeam > 32) {
    __shared__ double warps[kTeam / 32];
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    value = threadIdx.x % 32 < kTeam / 32 ? warps[threadIdx.x % 32] : 0.0;
    __syncthreads();
#pragma unroll
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  }
  return value;
}

template <class T, Bound kBound, bool kInverse, bool kAdditive, int kV, int kTeam>
__global__ void __launch_bounds__(kThreads) forward_kernel(const Args<T> a) {
  constexpr int kTeams = kThreads / kTeam;
  const Layout& l = a.layout;
  const std::int64_t items = l.batch * a.chunks, step = static_cast<std::int64_t>(gridDim.x) * kTeams;
  const int lane = static_cast<int>(threadIdx.x) % kTeam;
  const T inverse_s_max = T(1) / a.s_max;
  for (std::int64_t q = static_cast<std::int64_t>(blockIdx.x) * kTeams + threadIdx.x / kTeam; q < items; q += step) {
    const std::int64_t b = q / a.chunks, first = (q - b * a.chunks) * a.size, last = first + a.size < l.count ? first + a.size : l.count;
    const T* x = a.x + b * a.x_row;
    T* y = a.y + b * a.y_row;
    double sum = 0.0;
    for (std::int64_t i = first + lane * kV; i < last; i += kTeam * kV) {
      const Site site = site_of(l, i);
      Pack<T, kV> value = load<kV>(x + i);
      if (any_on<kV>(l, site)) {
        const Pack<T, kV> t = load<kV>(a.t + b * a.t_row + site.parameter);
        Pack<T, kV> s{};
        if constexpr (!kAdditive) s = load<kV>(a.s + b * a.s_row + site.parameter);
#pragma unroll
        for (int j = 0; j < kV; ++j) {
          if (!is_on(l, site, j)) continue;
          if constexpr (kAdditive) {
            value.v[j] = kInverse ? value.v[j] - t.v[j] : value.v[j] + t.v[j];
          } else {
            const T bounded = bound<kBound>(s.v[j], a.s_max, inverse_s_max);
            value.v[j] = affine<kInverse>(value.v[j], bounded, t.v[j]);
            sum += static_cast<double>(bounded);
          }
        }
      } else if (x == y) {
        continue;
      }
      store<kV>(y + i, value);
    }
    if constexpr (!kAdditive) {
      const double total = team_sum<kTeam>(sum);
      if (lane == 0) {
        if (a.partial != nullptr) {
          a.partial[q] = kInverse ? -total : total;
        } else {
          a.log_det[b] = static_cast<T>(kInverse ? -total : total);
        }
      }
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) finish_kernel(const double* partial, T* log_det, std::int64_t batch, std::int64_t chunks) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t b = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; b < batch; b += step) {
    double total = 0.0;
    for (std::int64_t c = 0; c < chunks; ++c) total += partial[b * chunks + c];
    log_det[b] = static_cast<T>(total);
  }
}

template <class T, Bound kBound, bool kInverse, int kV, int kTeam>
__global__ void __launch_bounds__(kThreads) backward_kernel(const Args<T> a) {
  constexpr int kTeams = kThreads / kTeam;
  const Layout& l = a.layout;
  const std::int64_t items = l.batch * a.chunks, step = static_cast<std::int64_t>(gridDim.x) * kTeams;
  const int lane = static_cast<int>(threadIdx.x) % kTeam;
  const T inverse_s_max = T(1) / a.s_max;
  for (std::int64_t q = static_cast<std::int64_t>(blockIdx.x) * kTeams + threadIdx.x / kTeam; q < items; q += step) {
    const std::int64_t b = q / a.chunks, first = (q - b * a.chunks) * a.size, last = first + a.size < l.count ? first + a.size : l.count;
    const T h = a.grad_log_det[b * a.grad_log_det_row];
    for (std::int64_t i = first + lane * kV; i < last; i += kTeam * kV) {
      const Site site = site_of(l, i);
      Pack<T, kV> g = load<kV>(a.t + b * a.t_row + i), gs{}, gt{};
      if (any_on<kV>(l, site)) {
        const Pack<T, kV> side = load<kV>(a.x + b * a.x_row + i), s = load<kV>(a.s + b * a.s_row + site.parameter);
#pragma unroll
        for (int j = 0; j < kV; ++j) {
          if (!is_on(l, site, j)) continue;
          const AffineGradients<T> r = affine_gradients<kBound, kInverse>(g.v[j], h, side.v[j], s.v[j], a.s_max, inverse_s_max);
          g.v[j] = r.x, gs.v[j] = r.s, gt.v[j] = r.t;
        }
      }
      store<kV>(a.y + b * a.y_row + i, g);
      if (l.full || site.on) {  // with parameters of their own only the transformed elements have a place
        store<kV>(a.gs + b * a.gs_row + site.parameter, gs);
        store<kV>(a.gt + b * a.gt_row + site.parameter, gt);
      }
    }
  }
}

template <class T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
T* mutable_data(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

template <class T>
bool packs(const T* pointer, std::int64_t row) {
  return reinterpret_cast<std::uintptr_t>(pointer) % (4 * sizeof(T)) == 0 && row % 4 == 0;
}

// Whether no block or line ends within a group of four elements.
bool groups(const Layout& l) {
  if (l.pattern == Pattern::kHalf) return l.length[0] % 4 == 0 && l.length[1] % 4 == 0;
  return l.pattern == Pattern::kAlternate ? l.length[0] % 4 == 0 : l.full && l.width % 4 == 0;
}

template <class T>
void cut(Args<T>& a) {
  a.chunks = a.layout.batch >= kManySamples ? 1 : std::max<std::int64_t>(1, (a.layout.count + kChunk - 1) / kChunk);
  a.size = ((a.layout.count + a.chunks - 1) / a.chunks + 3) / 4 * 4;
}

unsigned blocks_of(std::int64_t items, std::int64_t teams) { return static_cast<unsigned>(std::min((items + teams - 1) / teams, kMostBlocks)); }

template <class T, Bound kBound, bool kInverse, bool kAdditive>
void launch_forward(const Args<T>& a, bool packed, cudaStream_t stream) {
  const std::int64_t items = a.layout.batch * a.chunks;
  if (a.layout.count <= kWarpSample) {
    const unsigned blocks = blocks_of(items, kThreads / 32);
    if (packed) {
      forward_kernel<T, kBound, kInverse, kAdditive, 4, 32><<<blocks, kThreads, 0, stream>>>(a);
    } else {
      forward_kernel<T, kBound, kInverse, kAdditive, 1, 32><<<blocks, kThreads, 0, stream>>>(a);
    }
  } else if (packed) {
    forward_kernel<T, kBound, kInverse, kAdditive, 4, kThreads><<<blocks_of(items, 1), kThreads, 0, stream>>>(a);
  } else {
    forward_kernel<T, kBound, kInverse, kAdditive, 1, kThreads><<<blocks_of(items, 1), kThreads, 0, stream>>>(a);
  }
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

template <class T, Bound kBound, bool kInverse>
void launch_backward(const Args<T>& a, bool packed, cudaStream_t stream) {
  const std::int64_t items = a.layout.batch * a.chunks;
  if (a.layout.count <= kWarpSample) {
    const unsigned blocks = blocks_of(items, kThreads / 32);
    if (packed) {
      backward_kernel<T, kBound, kInverse, 4, 32><<<blocks, kThreads, 0, stream>>>(a);
    } else {
      backward_kernel<T, kBound, kInverse, 1, 32><<<blocks, kThreads, 0, stream>>>(a);
    }
  } else if (packed) {
    backward_kernel<T, kBound, kInverse, 4, kThreads><<<blocks_of(items, 1), kThreads, 0, stream>>>(a);
  } else {
    backward_kernel<T, kBound, kInverse, 1, kThreads><<<blocks_of(items, 1), kThreads, 0, stream>>>(a);
  }
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

// call(Bound constant, inverse constant)
template <class Call>
void choose(std::int64_t bound, bool inverse, const Call& call) {
  const auto with = [&](auto chosen) { inverse ? call(chosen, std::true_type{}) : call(chosen, std::false_type{}); };
  if (bound == 1) return with(std::integral_constant<Bound, Bound::kTanh>{});
  if (bound == 2) return with(std::integral_constant<Bound, Bound::kSoft>{});
  with(std::integral_constant<Bound, Bound::kNone>{});
}

template <class T>
void forward(const Tensor& x, const Layout& l, const Tensor* scale, const Tensor& shift, std::int64_t bound, double s_max, bool inverse,
             const Tensor& y, const Tensor* log_det) {
  if (l.batch == 0) return;
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const cudaStream_t stream = current_stream(x);
  Args<T> a{};
  a.layout = l;
  cut(a);
  a.s_max = static_cast<T>(s_max);
  a.x = data<T>(x), a.y = mutable_data<T>(y);
  a.x_row = row_stride(x), a.y_row = row_stride(y), a.t_row = row_stride(shift);
  if (scale != nullptr) a.s = data<T>(*scale), a.s_row = row_stride(*scale), a.log_det = mutable_data<T>(*log_det);
  a.t = scale == &shift ? a.s + l.parameters : data<T>(shift);
  const bool packed = groups(l) && packs(a.x, a.x_row) && packs<T>(a.y, a.y_row) && packs(a.t, a.t_row) && packs(a.s, a.s_row);
  if (scale == nullptr) {
    inverse ? launch_forward<T, Bound::kNone, true, true>(a, packed, stream) : launch_forward<T, Bound::kNone, false, true>(a, packed, stream);
    return;
  }
  const std::int64_t parts = l.batch * a.chunks;
  Tensor partial = fresh(x, &parts, 1, ScalarType::Double);
  if (a.chunks > 1) a.partial = mutable_data<double>(partial);
  choose(bound, inverse, [&](auto chosen, auto backwards) { launch_forward<T, chosen.value, backwards.value, false>(a, packed, stream); });
  if (a.chunks > 1) {
    finish_kernel<T><<<blocks_for(l.batch), kThreads, 0, stream>>>(a.partial, a.log_det, l.batch, a.chunks);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
}

struct Parameters {
  Tensor scale;
  std::optional<Tensor> shift;
  std::int64_t channels;
  Parameters(const Tensor& x, const Tensor& log_scale, const std::optional<Tensor>& shift_) : scale(log_scale), shift(shift_), channels(0) {
    check_like(scale, x, "log_scale");
    scale = as_rows(scale);
    if (shift.has_value()) {
      check_like(*shift, x, "shift");
      STD_TORCH_CHECK(shift->size(1) == scale.size(1), "shift must have the shape of log_scale");
      shift = as_rows(*shift);
    }
    STD_TORCH_CHECK(shift.has_value() || scale.size(1) % 2 == 0, "packed parameters must have an even number of channels");
    channels = shift.has_value() ? scale.size(1) : scale.size(1) / 2;
  }
};

void affine_into(const Tensor& x, const Tensor& log_scale, const std::optional<Tensor>& shift, std::int64_t mask, std::int64_t split,
                 std::int64_t bound, double s_max, bool inverse, const Tensor& y, const Tensor& log_det) {
  check_floating(x);
  const Parameters p(x, log_scale, shift);
  const Layout l = layout_of(x, mask, split, p.channels, 1);
  const Tensor rows = as_rows(x);
  const Tensor& t = p.shift.has_value() ? *p.shift : p.scale;
  check_overlap(y, rows, "x", true);
  check_overlap(y, p.scale, "log_scale", false);
  check_overlap(y, t, "shift", false);
  if (x.scalar_type() == ScalarType::Double) {
    forward<double>(rows, l, &p.scale, t, bound, s_max, inverse, y, &log_det);
  } else {
    forward<float>(rows, l, &p.scale, t, bound, s_max, inverse, y, &log_det);
  }
}

std::tuple<Tensor, Tensor> affine_coupling(const Tensor& x, const Tensor& log_scale, const std::optional<Tensor>& shift, std::int64_t mask,
                                           std::int64_t split, std::int64_t bound, double s_max, bool inverse) {
  check_floating(x);
  Tensor y = fresh_like(x), log_det = fresh_vector(x, x.size(0));
  affine_into(x, log_scale, shift, mask, split, bound, s_max, inverse, y, log_det);
  return {y, log_det};
}

void check_out(const Tensor& out, const Tensor& x) {
  check_like(out, x, "out");
  STD_TORCH_CHECK(out.size(1) == x.size(1) && rows_are_contiguous(out), "out must have the shape of x, contiguous in each sample");
}

Tensor affine_coupling_out(const Tensor& x, const Tensor& log_scale, const std::optional<Tensor>& shift, std::int64_t mask, std::int64_t split,
                           std::int64_t bound, double s_max, bool inverse, Tensor out) {
  check_out(out, x);
  Tensor log_det = fresh_vector(x, x.size(0));
  affine_into(x, log_scale, shift, mask, split, bound, s_max, inverse, out, log_det);
  return log_det;
}

void additive_into(const Tensor& x, const Tensor& shift, std::int64_t mask, std::int64_t split, bool inverse, const Tensor& y) {
  check_floating(x);
  check_like(shift, x, "shift");
  const Layout l = layout_of(x, mask, split, shift.size(1), 1);
  const Tensor rows = as_rows(x), t = as_rows(shift);
  check_overlap(y, rows, "x", true);
  check_overlap(y, t, "shift", false);
  if (x.scalar_type() == ScalarType::Double) {
    forward<double>(rows, l, nullptr, t, 0, 1.0, inverse, y, nullptr);
  } else {
    forward<float>(rows, l, nullptr, t, 0, 1.0, inverse, y, nullptr);
  }
}

Tensor additive_coupling(const Tensor& x, const Tensor& shift, std::int64_t mask, std::int64_t split, bool inverse) {
  check_floating(x);
  Tensor y = fresh_like(x);
  additive_into(x, shift, mask, split, inverse, y);
  return y;
}

void additive_coupling_out(const Tensor& x, const Tensor& shift, std::int64_t mask, std::int64_t split, bool inverse, Tensor out) {
  check_out(out, x);
  additive_into(x, shift, mask, split, inverse, out);
}

template <class T>
void backward(const Layout& l, const Tensor& grad_y, const Tensor& grad_log_det, const Tensor& side, const Tensor& scale, std::int64_t bound,
              double s_max, bool inverse, const Tensor& x, const Tensor& gs, const Tensor& gt) {
  if (l.batch == 0) return;
  const torch::stable::accelerator::DeviceGuard guard(side.get_device_index());
  Args<T> a{};
  a.layout = l;
  cut(a);
  a.s_max = static_cast<T>(s_max);
  a.t = data<T>(grad_y), a.grad_log_det = data<T>(grad_log_det), a.x = data<T>(side), a.s = data<T>(scale);
  a.t_row = row_stride(grad_y), a.grad_log_det_row = row_stride(grad_log_det), a.x_row = row_stride(side), a.s_row = row_stride(scale);
  a.y = mutable_data<T>(x), a.gs = mutable_data<T>(gs), a.gt = &gs == &gt ? a.gs + l.parameters : mutable_data<T>(gt);
  a.y_row = row_stride(x), a.gs_row = row_stride(gs), a.gt_row = row_stride(gt);
  const bool packed = groups(l) && packs(a.x, a.x_row) && packs<T>(a.y, a.y_row) && packs(a.t, a.t_row) && packs(a.s, a.s_row) &&
                      packs<T>(a.gs, a.gs_row) && packs<T>(a.gt, a.gt_row);
  const cudaStream_t stream = current_stream(side);
  choose(bound, inverse, [&](auto chosen, auto backwards) { launch_backward<T, chosen.value, backwards.value>(a, packed, stream); });
}

std::tuple<Tensor, Tensor, Tensor> affine_coupling_backward(const Tensor& grad_y, const Tensor& grad_log_det, const Tensor& side,
                                                            const Tensor& log_scale, bool packed, std::int64_t mask, std::int64_t split,
                                                            std::int64_t bound, double s_max, bool inverse) {
  check_floating(side);
  check_like(grad_y, side, "grad_y");
  check_like(log_scale, side, "log_scale");
  STD_TORCH_CHECK(grad_log_det.dim() == 1 && grad_log_det.size(0) == side.size(0) && grad_log_det.scalar_type() == side.scalar_type(),
                  "grad_log_det must be [B] of the dtype of x");
  const Layout l = layout_of(side, mask, split, log_scale.size(1) / (packed ? 2 : 1), 1);
  const Tensor g = as_rows(grad_y), rows = as_rows(side), scale = as_rows(log_scale);
  Tensor x = fresh_like(side), gs = fresh_like(log_scale), separate = packed ? fresh_vector(side, 0) : fresh_like(log_scale);
  const Tensor& gt = packed ? gs : separate;
  if (side.scalar_type() == ScalarType::Double) {
    backward<double>(l, g, grad_log_det, rows, scale, bound, s_max, inverse, x, gs, gt);
  } else {
    backward<float>(l, g, grad_log_det, rows, scale, bound, s_max, inverse, x, gs, gt);
  }
  return {x, gs, separate};
}

}  // namespace
}  // namespace medgen

STABLE_TORCH_LIBRARY_IMPL(medgen, CUDA, m) {
  m.impl("affine_coupling", TORCH_BOX(&medgen::affine_coupling));
  m.impl("affine_coupling_out", TORCH_BOX(&medgen::affine_coupling_out));
  m.impl("affine_coupling_backward", TORCH_BOX(&medgen::affine_coupling_backward));
  m.impl("additive_coupling", TORCH_BOX(&medgen::additive_coupling));
  m.impl("additive_coupling_out", TORCH_BOX(&medgen::additive_coupling_out));
}
