// medgen::rq_spline_coupling and its backward on CUDA: one thread per element, parameters read in three sweeps over the bins.

#include <algorithm>
#include <tuple>

#include "core/affine.h"
#include "core/rq_spline.h"
#include "cuda/sums.cuh"
#include "torch/spline.h"

namespace medgen {
namespace {

constexpr std::int64_t kChunk = 2048;       // elements of a block
constexpr std::int64_t kMostBlocks = 1 << 20;

template <class T>
struct Args {
  Layout layout;
  std::int64_t chunks, size, bins, inner;
  T tail;
  const T *x, *parameters, *grad_y, *grad_log_det;
  std::int64_t x_row, parameters_row, y_row, grad_y_row, grad_log_det_row, gradients_row;
  T *y, *gradients;
  double* partial;
};

// K raw values, `stride` apart, as shares of the interval: the largest, and rest / sum exp(raw - largest).
template <class T>
struct Shares {
  const T* raw;
  std::int64_t stride;
  T top, scale;

  __device__ Shares(const T* from, std::int64_t bins, std::int64_t step) : raw(from), stride(step), top(from[0]), scale(0) {
    for (std::int64_t k = 1; k < bins; ++k) top = raw[k * stride] > top ? raw[k * stride] : top;
    T sum = 0;
    for (std::int64_t k = 0; k < bins; ++k) sum += fast_exp(raw[k * stride] - top);
    scale = static_cast<T>(1.0 - kLeastBin * static_cast<double>(bins)) / sum;
  }
  __device__ T soft(std::int64_t k) const { return scale * fast_exp(raw[k * stride] - top); }  // without the least share
  __device__ T operator()(std::int64_t k) const { return static_cast<T>(kLeastBin) + soft(k); }
};

template <class T>
__device__ __forceinline__ T slope_at(const T* raw, std::int64_t stride, std::int64_t knot, std::int64_t bins) {
  return knot == 0 || knot == bins ? T(1) : static_cast<T>(kLeastSlope) + softplus(raw[(knot - 1) * stride]);
}

template <class T>
struct Found {
  Bin<T> bin;
  std::int64_t k;
};

template <class T, bool kInverse>
__device__ __forceinline__ Found<T> find_bin(T x, const Shares<T>& w, const Shares<T>& h, const T* slopes, std::int64_t bins, T tail) {
  T left = -tail, bottom = -tail;
  for (std::int64_t k = 0;; ++k) {
    const T width = T(2) * tail * w(k), height = T(2) * tail * h(k);
    if (k + 1 == bins || x < (kInverse ? bottom + height : left + width)) {
      return {{left, width, bottom, height, slope_at(slopes, w.stride, k, bins), slope_at(slopes, w.stride, k + 1, bins)}, k};
    }
    left += width;
    bottom += height;
  }
}

template <class T>
__device__ __forceinline__ std::int64_t base_of(const Args<T>& a, std::int64_t p) {
  return p / a.inner * (3 * a.bins - 1) * a.inner + p % a.inner;
}

template <class T, bool kInverse>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? 5 : 0) forward_kernel(const Args<T> a) {
  const Layout& l = a.layout;
  for (std::int64_t q = blockIdx.x; q < l.batch * a.chunks; q += gridDim.x) {
    const std::int64_t b = q / a.chunks, first = (q - b * a.chunks) * a.size, last = first + a.size < l.count ? first + a.size : l.count;
    double sum = 0.0;
    for (std::int64_t i = first + threadIdx.x; i < last; i += kThreads) {
      const Site site = site_of(l, i);
      const T x = a.x[b * a.x_row + i];
      T y = x;
      if (site.on && x >= -a.tail && x <= a.tail) {
        const T* raw = a.parameters + b * a.parameters_row + base_of(a, site.parameter);
        const Shares<T> w(raw, a.bins, a.inner), h(raw + a.bins * a.inner, a.bins, a.inner);
        const Bin<T> bin = find_bin<T, kInverse>(x, w, h, raw + 2 * a.bins * a.inner, a.bins, a.tail).bin;
        const T theta = kInverse ? bin_inverse(bin, x) : (x - bin.x) / bin.w;
        const Rational<T> r = rational(bin, theta);
        y = kInverse ? theta * bin.w + bin.x : bin.y + bin.h * r.p;
        sum += static_cast<double>(kInverse ? -bin_log_slope(r) : bin_log_slope(r));
      }
      a.y[b * a.y_row + i] = y;
    }
    const double total = team_sum<kThreads>(sum);
    if (threadIdx.x == 0) a.partial[q] = total;
  }
}

// Gradients of K raw values from those of the bin's lower end and size.
template <class T>
__device__ __forceinline__ void shares_gradients(const Shares<T>& s, std::int64_t bins, std::int64_t k0, T scale, T end, T size, T* to) {
  const T rest = T(1) / static_cast<T>(1.0 - kLeastBin * static_cast<double>(bins));
  T mean = 0;
  for (std::int64_t k = 0; k <= k0; ++k) mean += s.soft(k) * rest * (k < k0 ? end : size);
  for (std::int64_t k = 0; k < bins; ++k)
    to[k * s.stride] = scale * s.soft(k) * rest * ((k < k0 ? end : (k == k0 ? size : T(0))) - mean);
}

// The gradients are zero at the start: an element outside the interval leaves its own so.
template <class T, bool kInverse>
__global__ void __launch_bounds__(kThreads) backward_kernel(const Args<T> a) {
  const Layout& l = a.layout;
  for (std::int64_t q = blockIdx.x; q < l.batch * a.chunks; q += gridDim.x) {
    const std::int64_t b = q / a.chunks, first = (q - b * a.chunks) * a.size, last = first + a.size < l.count ? first + a.size : l.count;
    const T h0 = a.grad_log_det[b * a.grad_log_det_row];
    for (std::int64_t i = first + threadIdx.x; i < last; i += kThreads) {
      const Site site = site_of(l, i);
      const T x = a.x[b * a.x_row + i], g = a.grad_y[b * a.grad_y_row + i];
      T gx = g;
      if (site.on && x >= -a.tail && x <= a.tail) {
        const std::int64_t base = base_of(a, site.parameter);
        const T* raw = a.parameters + b * a.parameters_row + base;
        T* to = a.gradients + b * a.gradients_row + base;
        const Shares<T> w(raw, a.bins, a.inner), h(raw + a.bins * a.inner, a.bins, a.inner);
        const T* slopes = raw + 2 * a.bins * a.inner;
        const Found<T> found = find_bin<T, kInverse>(x, w, h, slopes, a.bins, a.tail);
        const Bin<T>& bin = found.bin;
        const T theta = kInverse ? bin_inverse(bin, x) : (x - bin.x) / bin.w;
        const Rational<T> r = rational(bin, theta);
        const T ratio = r.delta / r.den;
        // The inverse by the implicit function theorem: dx/dz = -f_z / f'.
        const T total = kInverse ? (g - h0 * bin_log_slope_by_x(bin, r)) / (ratio * ratio * r.m) : g;
        const BinGradients<T> d = bin_gradients(bin, r, kInverse ? -total : total, kInverse ? -h0 : h0);
        gx = kInverse ? total : d.input;
        const T scale = T(2) * a.tail * static_cast<T>(1.0 - kLeastBin * static_cast<double>(a.bins));
        shares_gradients(w, a.bins, found.k, scale, d.x, d.w, to);
        shares_gradients(h, a.bins, found.k, scale, d.y, d.h, to + a.bins * a.inner);
        T* ends = to + 2 * a.bins * a.inner;
        if (found.k > 0) ends[(found.k - 1) * a.inner] = d.d0 * sigmoid(slopes[(found.k - 1) * a.inner]);
        if (found.k + 1 < a.bins) ends[found.k * a.inner] = d.d1 * sigmoid(slopes[found.k * a.inner]);
      }
      a.y[b * a.y_row + i] = gx;
    }
  }
}

template <class T>
Args<T> args_of(const Layout& l, const Tensor& x, const Tensor& parameters, std::int64_t bins, double tail, const Tensor& y) {
  Args<T> a{};
  a.layout = l;
  a.chunks = std::max<std::int64_t>(1, (l.count + kChunk - 1) / kChunk);
  a.size = (l.count + a.chunks - 1) / a.chunks;
  a.bins = bins;
  a.inner = x.size(1) == 0 ? 1 : std::max<std::int64_t>(1, l.count / x.size(1));
  a.tail = static_cast<T>(tail);
  a.x = static_cast<const T*>(x.const_data_ptr()), a.parameters = static_cast<const T*>(parameters.const_data_ptr());
  a.y = static_cast<T*>(y.mutable_data_ptr());
  a.x_row = row_stride(x), a.parameters_row = row_stride(parameters), a.y_row = row_stride(y);
  return a;
}

template <class T>
unsigned blocks_of(const Args<T>& a) {
  return static_cast<unsigned>(std::min(a.layout.batch * a.chunks, kMostBlocks));
}

template <class T>
void forward(const Layout& l, const Tensor& x, const Tensor& parameters, std::int64_t bins, double tail, bool inverse, const Tensor& y,
             const Tensor& log_det) {
  if (l.batch == 0) return;
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const cudaStream_t stream = current_stream(x);
  Args<T> a = args_of<T>(l, x, parameters, bins, tail, y);
  const std::int64_t parts = l.batch * a.chunks;
  const Tensor partial = fresh(x, &parts, 1, ScalarType::Double);
  a.partial = static_cast<double*>(partial.mutable_data_ptr());
  if (inverse) {
    forward_kernel<T, true><<<blocks_of(a), kThreads, 0, stream>>>(a);
  } else {
    forward_kernel<T, false><<<blocks_of(a), kThreads, 0, stream>>>(a);
  }
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  finish_kernel<T><<<blocks_for(l.batch), kThreads, 0, stream>>>(a.partial, static_cast<T*>(log_det.mutable_data_ptr()), l.batch, a.chunks);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

Tensor into(const Tensor& x, const Tensor& parameters, std::int64_t bins, double tail, std::int64_t mask, std::int64_t split, bool inverse,
            const Tensor& y) {
  const Layout l = spline_layout(x, parameters, bins, tail, mask, split);
  const Tensor rows = as_rows(x), p = as_rows(parameters);
  Tensor log_det = fresh_vector(x, x.size(0));
  if (x.scalar_type() == ScalarType::Double) {
    forward<double>(l, rows, p, bins, tail, inverse, y, log_det);
  } else {
    forward<float>(l, rows, p, bins, tail, inverse, y, log_det);
  }
  return log_det;
}

std::tuple<Tensor, Tensor> rq_spline_coupling(const Tensor& x, const Tensor& parameters, std::int64_t bins, double tail, std::int64_t mask,
                                              std::int64_t split, bool inverse) {
  check_floating(x);
  Tensor y = fresh_like(x);
  return {y, into(x, parameters, bins, tail, mask, split, inverse, y)};
}

Tensor rq_spline_coupling_out(const Tensor& x, const Tensor& parameters, std::int64_t bins, double tail, std::int64_t mask, std::int64_t split,
                              bool inverse, Tensor out) {
  check_spline_out(out, x, parameters);
  return into(x, parameters, bins, tail, mask, split, inverse, out);
}

template <class T>
void backward(Args<T> a, const Tensor& grad_y, const Tensor& grad_log_det, const Tensor& gradients, bool inverse) {
  if (a.layout.batch == 0) return;
  const torch::stable::accelerator::DeviceGuard guard(grad_y.get_device_index());
  const cudaStream_t stream = current_stream(grad_y);
  a.grad_y = static_cast<const T*>(grad_y.const_data_ptr()), a.grad_log_det = static_cast<const T*>(grad_log_det.const_data_ptr());
  a.gradients = static_cast<T*>(gradients.mutable_data_ptr());
  a.grad_y_row = row_stride(grad_y), a.grad_log_det_row = row_stride(grad_log_det), a.gradients_row = row_stride(gradients);
  if (inverse) {
    backward_kernel<T, true><<<blocks_of(a), kThreads, 0, stream>>>(a);
  } else {
    backward_kernel<T, false><<<blocks_of(a), kThreads, 0, stream>>>(a);
  }
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

std::tuple<Tensor, Tensor> rq_spline_coupling_backward(const Tensor& grad_y, const Tensor& grad_log_det, const Tensor& x, const Tensor& parameters,
                                                       std::int64_t bins, double tail, std::int64_t mask, std::int64_t split, bool inverse) {
  const Layout l = spline_layout(x, parameters, bins, tail, mask, split);
  check_gradients(grad_y, grad_log_det, x);
  const Tensor g = as_rows(grad_y), rows = as_rows(x), p = as_rows(parameters);
  Tensor gx = fresh_like(x), gp = fresh_like(parameters);
  torch::stable::zero_(gp);
  if (x.scalar_type() == ScalarType::Double) {
    backward(args_of<double>(l, rows, p, bins, tail, gx), g, grad_log_det, gp, inverse);
  } else {
    backward(args_of<float>(l, rows, p, bins, tail, gx), g, grad_log_det, gp, inverse);
  }
  return {gx, gp};
}

}  // namespace
}  // namespace medgen

STABLE_TORCH_LIBRARY_IMPL(medgen, CUDA, m) {
  m.impl("rq_spline_coupling", TORCH_BOX(&medgen::rq_spline_coupling));
  m.impl("rq_spline_coupling_out", TORCH_BOX(&medgen::rq_spline_coupling_out));
  m.impl("rq_spline_coupling_backward", TORCH_BOX(&medgen::rq_spline_coupling_backward));
}
