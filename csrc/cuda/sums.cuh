// Sums in float64 in a fixed order, so that they are bit-equal from run to run.
#pragma once

#include <cstdint>

#include "cuda/launch.cuh"

namespace medgen {

// The sum over a team of threads, a warp or a whole block, in every lane; a fixed tree.
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

// The chunks of each sample, [batch, chunks], added up.
template <class T>
__global__ void __launch_bounds__(kThreads) finish_kernel(const double* partial, T* log_det, std::int64_t batch, std::int64_t chunks) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t b = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; b < batch; b += step) {
    double total = 0.0;
    for (std::int64_t c = 0; c < chunks; ++c) total += partial[b * chunks + c];
    log_det[b] = static_cast<T>(total);
  }
}

}  // namespace medgen
