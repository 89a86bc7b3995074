// Affine and additive coupling on CUDA: the kernels and their launches.
//
// A team of 32 or 256 threads per (sample, chunk): one read of x, s, t and one write of y, four elements at a time where the layout allows;
// log-dets summed in float64 in a fixed order.
#pragma once

#include <algorithm>
#include <type_traits>

#include "core/affine.h"
#include "cuda/sums.cuh"

namespace medgen::coupling {

inline constexpr std::int64_t kChunk = 16384;        // elements of a chunk
inline constexpr std::int64_t kWarpSample = 2048;    // samples up to this size get a warp each
inline constexpr std::int64_t kManySamples = 4096;   // enough blocks to fill a device without cutting samples
inline constexpr std::int64_t kMostBlocks = 1 << 20;

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
bool packs(const T* pointer, std::int64_t row) {
  return reinterpret_cast<std::uintptr_t>(pointer) % (4 * sizeof(T)) == 0 && row % 4 == 0;
}

// Whether no block or line ends within a group of four elements.
inline bool groups(const Layout& l) {
  if (l.pattern == Pattern::kHalf) return l.length[0] % 4 == 0 && l.length[1] % 4 == 0;
  return l.pattern == Pattern::kAlternate ? l.length[0] % 4 == 0 : l.full && l.width % 4 == 0;
}

template <class T>
void cut(Args<T>& a) {
  a.chunks = a.layout.batch >= kManySamples ? 1 : std::max<std::int64_t>(1, (a.layout.count + kChunk - 1) / kChunk);
  a.size = ((a.layout.count + a.chunks - 1) / a.chunks + 3) / 4 * 4;
}

inline unsigned blocks_of(std::int64_t items, std::int64_t teams) { return static_cast<unsigned>(std::min((items + teams - 1) / teams, kMostBlocks)); }

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

}  // namespace medgen::coupling
