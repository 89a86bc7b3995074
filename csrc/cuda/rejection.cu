// medgen::parzen_draw and medgen::rejection_step on CUDA: the CPU's counters, words and formulas; densities are those of parzen_log_sums.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "core/draw.h"
#include "core/normal.h"
#include "core/philox.h"
#include "cuda/parzen.cuh"

namespace medgen {
namespace {

struct Key {
  const std::int64_t* index;
  std::uint64_t seed;
  std::uint32_t stream;

  __device__ Philox words(std::int64_t row, std::uint32_t block, std::uint32_t next) const {
    const std::uint64_t sample = static_cast<std::uint64_t>(index[row]);
    return philox(block, stream + next, static_cast<std::uint32_t>(sample), static_cast<std::uint32_t>(sample >> 32), seed);
  }
};

__device__ __forceinline__ std::int64_t first_item() { return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ std::int64_t all_items() { return static_cast<std::int64_t>(gridDim.x) * blockDim.x; }

// The point that each row starts from.
__global__ void __launch_bounds__(kThreads) choose(Key key, const double* cumulative, std::int64_t rows, std::int64_t points, std::int64_t* chosen) {
  for (std::int64_t i = first_item(); i < rows; i += all_items()) chosen[i] = chosen_point(cumulative, points, key.words(i, 0, 1).w0);
}

// One thread per counter: four normals.
template <class T>
__global__ void __launch_bounds__(kThreads) noise_of(Key key, std::int64_t rows, std::int64_t dim, T* noise) {
  const std::int64_t per_row = (dim + 3) / 4;
  for (std::int64_t at = first_item(); at < rows * per_row; at += all_items()) {
    const std::int64_t row = at / per_row, block = at - row * per_row;
    const Philox w = key.words(row, static_cast<std::uint32_t>(block), 0);
    T v[4];
    normal_pair(w.w0, w.w1, v[0], v[1]);
    normal_pair(w.w2, w.w3, v[2], v[3]);
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (4 * block + k < dim) noise[row * dim + 4 * block + k] = v[k];
  }
}

// base + L noise, one element per thread, in double and rounded once. base: the chosen point, or `mean` where that is not null.
template <class T>
struct Proposal {
  const T *points, *noise;
  const std::int64_t* chosen;
  const double *mean, *factor;
  bool dense;
  std::int64_t rows, dim;
  T* out;
};

template <class T>
__global__ void __launch_bounds__(kThreads) propose(Proposal<T> job) {
  const std::int64_t dim = job.dim;
  for (std::int64_t at = first_item(); at < job.rows * dim; at += all_items()) {
    const std::int64_t row = at / dim, k = at - row * dim;
    const T* z = job.noise + row * dim;
    double shift = 0.0;
    if (job.dense) {
      for (std::int64_t j = 0; j <= k; ++j) shift += job.factor[k * dim + j] * static_cast<double>(z[j]);
    } else {
      shift = job.factor[k] * static_cast<double>(z[k]);
    }
    const double base = job.mean != nullptr ? job.mean[k] : static_cast<double>(job.points[job.chosen[row] * dim + k]);
    job.out[at] = static_cast<T>(base + shift);
  }
}

// ln of the Gaussian's normaliser.
__device__ double normaliser(const double* factor, bool dense, std::int64_t dim) {
  double sum = -0.5 * static_cast<double>(dim) * log(2.0 * 3.14159265358979323846);
  for (std::int64_t k = 0; k < dim; ++k) sum -= log(factor[dense ? k * dim + k : k]);
  return sum;
}

// constants[0] of the target, [1] of the proposal; one thread each.
__global__ void normalisers(const double* target, bool target_dense, const double* proposal, bool proposal_dense, std::int64_t dim,
                            double* constants) {
  if (threadIdx.x == 0) constants[0] = normaliser(target, target_dense, dim);
  if (threadIdx.x == 1) constants[1] = normaliser(proposal, proposal_dense, dim);
}

// Log-sums to log-densities, and accepted where log_k + ln u + log Q < log P. noise: of a Gaussian proposal, else null.
template <class T>
__global__ void __launch_bounds__(kThreads) decide(Key key, const double* constants, const T* noise, std::int64_t rows, std::int64_t dim, double log_k,
                                                   double* log_p, double* log_q, bool* accepted) {
  for (std::int64_t i = first_item(); i < rows; i += all_items()) {
    double square = 0.0;
    for (std::int64_t k = 0; noise != nullptr && k < dim; ++k) {
      const double z = static_cast<double>(noise[i * dim + k]);
      square += z * z;
    }
    const double p = log_p[i] + constants[0], q = constants[1] + (noise == nullptr ? log_q[i] : -0.5 * square);
    log_p[i] = p, log_q[i] = q;
    accepted[i] = log_k + log(unit_of(key.words(i, 0, 1).w1)) + q < p;
  }
}

struct Given {
  const double* factor;
  bool dense;
};

Given factor_of(const Tensor& factor, std::int64_t dim) {
  const bool dense = factor.dim() == 2;
  return {values<double>(factor, dense ? dim * dim : dim, ScalarType::Double, "factors must be contiguous float64, [D] or [D, D]"), dense};
}

Key key_of(const Tensor& index, std::int64_t seed, std::int64_t stream) {
  STD_TORCH_CHECK(index.dim() == 1, "index must be [B]");
  return {values<std::int64_t>(index, index.numel(), ScalarType::Long, "index must be contiguous int64 [B]"), static_cast<std::uint64_t>(seed),
          static_cast<std::uint32_t>(stream)};
}

void check_points(const Tensor& points, std::int64_t rows) {
  const ScalarType type = points.scalar_type();
  STD_TORCH_CHECK((type == ScalarType::Float || type == ScalarType::Double) && points.dim() == 2 && points.is_contiguous() &&
                      (points.size(0) > 0 || rows == 0),
                  "points must be contiguous float32 or float64 [N, D] with at least one point");
}

// Noise into `noise`, and base + L noise into `out`.
template <class T>
void proposals(const Key& key, const Tensor& points, const Tensor& cumulative, const double* mean, const Given& factor, const Tensor& noise,
               const Tensor& out, cudaStream_t stream) {
  const std::int64_t rows = out.size(0), dim = points.size(1), n = points.size(0);
  const bool weighted = cumulative.numel() != 0;
  const auto* sums = weighted ? values<double>(cumulative, n, ScalarType::Double, "cumulative must be contiguous float64 [N], or empty") : nullptr;
  Tensor chosen = torch::stable::new_empty(points, {mean == nullptr ? rows : 0}, ScalarType::Long);
  if (mean == nullptr) {
    choose<<<blocks_for(rows), kThreads, 0, stream>>>(key, sums, rows, n, data<std::int64_t>(chosen));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
  noise_of<T><<<blocks_for(rows * ((dim + 3) / 4)), kThreads, 0, stream>>>(key, rows, dim, data<T>(noise));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  const Proposal<T> job{static_cast<const T*>(points.const_data_ptr()), data<T>(noise), data<std::int64_t>(chosen), mean, factor.factor, factor.dense,
                        rows, dim, data<T>(out)};
  propose<T><<<blocks_for(rows * dim), kThreads, 0, stream>>>(job);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

Tensor draw_op(const Tensor& points, const Tensor& cumulative, const Tensor& factor, const Tensor& index, std::int64_t seed, std::int64_t stream) {
  const Key key = key_of(index, seed, stream);
  check_points(points, index.numel());
  const Given given = factor_of(factor, points.size(1));
  Tensor out = torch::stable::new_empty(points, {index.numel(), points.size(1)}), noise = torch::stable::empty_like(out);
  if (out.numel() == 0) return out;
  const torch::stable::accelerator::DeviceGuard guard(points.get_device_index());
  const auto run = points.scalar_type() == ScalarType::Double ? &proposals<double> : &proposals<float>;
  run(key, points, cumulative, nullptr, given, noise, out, current_stream(points));
  return out;
}

template <class T>
void step(const Key& key, const Tensor& points, const Tensor& log_weights, const Tensor& cumulative, const Tensor& centre, const Tensor& factor,
          const Tensor& mean, const Tensor& proposal_factor, double log_k, const Tensor& out, double* log_p, double* log_q, bool* accepted,
          cudaStream_t stream) {
  const std::int64_t rows = out.size(0), dim = points.size(1);
  const Given target = factor_of(factor, dim), proposal = factor_of(proposal_factor, dim);
  const bool gaussian = mean.numel() != 0;
  const auto* middle = gaussian ? values<double>(mean, dim, ScalarType::Double, "mean must be contiguous float64 [D], or empty") : nullptr;
  Tensor noise = torch::stable::empty_like(out), constants = torch::stable::new_empty(factor, {2});
  proposals<T>(key, points, cumulative, middle, proposal, noise, out, stream);
  normalisers<<<1, 32, 0, stream>>>(target.factor, target.dense, proposal.factor, proposal.dense, dim, data<double>(constants));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  if (!gaussian) parzen_log_sums(out, points, log_weights, centre, proposal_factor, false, 0, nullptr, nullptr, log_q);
  parzen_log_sums(out, points, log_weights, centre, factor, false, 0, nullptr, nullptr, log_p);
  decide<T><<<blocks_for(rows), kThreads, 0, stream>>>(key, data<double>(constants), gaussian ? data<T>(noise) : nullptr, rows, dim, log_k, log_p,
                                                       log_q, accepted);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

std::tuple<Tensor, Tensor, Tensor, Tensor> step_op(const Tensor& index, const Tensor& points, const Tensor& log_weights, const Tensor& cumulative,
                                                   const Tensor& centre, const Tensor& factor, const Tensor& mean, const Tensor& proposal_factor,
                                                   double log_k, std::int64_t seed, std::int64_t stream) {
  const Key key = key_of(index, seed, stream);
  check_points(points, index.numel());
  const std::int64_t rows = index.numel();
  Tensor accepted = torch::stable::new_empty(index, {rows}, ScalarType::Bool), out = torch::stable::new_empty(points, {rows, points.size(1)});
  Tensor log_p = torch::stable::new_empty(index, {rows}, ScalarType::Double), log_q = torch::stable::empty_like(log_p);
  if (rows == 0) return {accepted, out, log_p, log_q};
  const torch::stable::accelerator::DeviceGuard guard(points.get_device_index());
  const auto run = points.scalar_type() == ScalarType::Double ? &step<double> : &step<float>;
  run(key, points, log_weights, cumulative, centre, factor, mean, proposal_factor, log_k, out, data<double>(log_p), data<double>(log_q),
      data<bool>(accepted), current_stream(points));
  return {accepted, out, log_p, log_q};
}

}  // namespace
}  // namespace medgen

STABLE_TORCH_LIBRARY_IMPL(medgen, CUDA, m) {
  m.impl("parzen_draw", TORCH_BOX(&medgen::draw_op));
  m.impl("rejection_step", TORCH_BOX(&medgen::step_op));
}
