// medgen::ddpm_step on CUDA: one thread per counter, four elements each, in a grid-stride loop.
//
// 12 bytes an element in float32 (x and output in, x out); a counter of ten rounds makes four normals. Bound by memory.

#include <cmath>
#include <optional>

#include "core/normal.h"
#include "core/philox.h"
#include "cuda/launch.cuh"
#include "torch/ddpm.h"

namespace medgen {
namespace {

template <class T>
struct Job {
  T* out;
  const T *x, *output, *table;
  const std::int64_t *step, *index;
  std::int64_t stride, steps, rows, count;
  std::uint64_t seed;
  std::uint32_t stream;
  T clip;
};

// Four values at `from`, of which `n` exist; one 128-bit access where the address allows it.
template <class T>
__device__ __forceinline__ void load4(T (&v)[4], const T* from, std::int64_t n, bool aligned) {
  if (aligned) {
    struct alignas(16) Vector {
      T v[16 / sizeof(T)];
    };
#pragma unroll
    for (int k = 0; k < 4; k += 16 / sizeof(T)) {
      const Vector part = *reinterpret_cast<const Vector*>(from + k);
#pragma unroll
      for (int j = 0; j < 16 / static_cast<int>(sizeof(T)); ++j) v[k + j] = part.v[j];
    }
    return;
  }
#pragma unroll
  for (int k = 0; k < 4; ++k) v[k] = k < n ? from[k] : T(0);
}

template <class T>
__device__ __forceinline__ void store4(T* to, const T (&v)[4], std::int64_t n, bool aligned) {
  if (aligned) {
    struct alignas(16) Vector {
      T v[16 / sizeof(T)];
    };
#pragma unroll
    for (int k = 0; k < 4; k += 16 / sizeof(T)) {
      Vector part;
#pragma unroll
      for (int j = 0; j < 16 / static_cast<int>(sizeof(T)); ++j) part.v[j] = v[k + j];
      *reinterpret_cast<Vector*>(to + k) = part;
    }
    return;
  }
#pragma unroll
  for (int k = 0; k < 4; ++k)
    if (k < n) to[k] = v[k];
}

// A row number outside the table makes NaN: asking the host would stop the stream.
template <class T>
__device__ __forceinline__ Step<T> step_at(const Job<T>& job, std::int64_t step) {
  if (step < 0 || step >= job.steps) {
    const T nan = static_cast<T>(NAN);
    return {nan, nan, nan, nan, nan, nan, T(0), T(0)};
  }
  return step_of(job.table + step * kStepColumns);
}

template <bool kClip, bool kLearned, class T>
__global__ void __launch_bounds__(kThreads) update(const Job<T> job, bool aligned) {
  const std::int64_t per_row = (job.count + 3) / 4, total = job.rows * per_row, wide = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  const bool narrow = total <= 0xffffffff;
  for (std::int64_t q = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; q < total; q += wide) {
    // 64-bit divisions cost as much as the noise; they are rarely needed.
    const std::int64_t row = narrow ? static_cast<std::uint32_t>(q) / static_cast<std::uint32_t>(per_row) : q / per_row, block = q - row * per_row, first = row * job.count + 4 * block, n = job.count - 4 * block;
    const std::int64_t number = job.step[row * job.stride], from = kLearned ? first + row * job.count : first;
    const Step<T> c = step_at(job, number);
    T x[4], output[4], second[4] = {}, z[4] = {};
    load4(x, job.x + first, n, aligned);
    load4(output, job.output + from, n, aligned);
    const bool noisy = step_is_noisy(c.scale, kLearned);
    if (noisy) {
      if (kLearned) load4(second, job.output + from + job.count, n, aligned);
      const std::uint64_t sample = static_cast<std::uint64_t>(job.index[row]);
      const Philox p = philox(static_cast<std::uint32_t>(block), job.stream + static_cast<std::uint32_t>(number),
                              static_cast<std::uint32_t>(sample), static_cast<std::uint32_t>(sample >> 32), job.seed);
      normal_pair(p.w0, p.w1, z[0], z[1]);
      normal_pair(p.w2, p.w3, z[2], z[3]);
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const T mean = step_mean<kClip>(c, x[k], output[k], job.clip);
      x[k] = noisy ? mean + (kLearned ? exp(c.scale + c.slope * second[k]) : c.scale) * z[k] : mean;
    }
    store4(job.out + first, x, n, aligned);
  }
}

template <class T>
bool on_16_bytes(const T* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
}

template <class T>
void run(const Tensor& out, const Tensor& x, const Tensor& output, const Tensor& table, const Tensor& step, const Tensor& index,
         std::int64_t seed, std::int64_t stream, std::optional<double> clip, bool learned) {
  const std::int64_t rows = x.size(0), count = rows == 0 ? 0 : x.numel() / rows, work = rows * ((count + 3) / 4);
  if (work == 0) return;
  const Job<T> job{static_cast<T*>(const_cast<void*>(out.const_data_ptr())),
                   static_cast<const T*>(x.const_data_ptr()),
                   static_cast<const T*>(output.const_data_ptr()),
                   static_cast<const T*>(table.const_data_ptr()),
                   static_cast<const std::int64_t*>(step.const_data_ptr()),
                   static_cast<const std::int64_t*>(index.const_data_ptr()),
                   step.numel() == 1 ? 0 : 1,
                   table.size(0),
                   rows,
                   count,
                   static_cast<std::uint64_t>(seed),
                   static_cast<std::uint32_t>(stream),
                   static_cast<T>(clip.value_or(0.0))};
  const bool aligned = count % 4 == 0 && on_16_bytes(job.out) && on_16_bytes(job.x) && on_16_bytes(job.output);
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const cudaStream_t on = current_stream(x);
  const unsigned blocks = blocks_for(work);
  if (clip.has_value() && learned) {
    update<true, true><<<blocks, kThreads, 0, on>>>(job, aligned);
  } else if (clip.has_value()) {
    update<true, false><<<blocks, kThreads, 0, on>>>(job, aligned);
  } else if (learned) {
    update<false, true><<<blocks, kThreads, 0, on>>>(job, aligned);
  } else {
    update<false, false><<<blocks, kThreads, 0, on>>>(job, aligned);
  }
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

void ddpm_step_out(const Tensor& out, const Tensor& x, const Tensor& output, const Tensor& table, const Tensor& step, const Tensor& index,
                   std::int64_t seed, std::int64_t stream, std::optional<double> clip, bool learned) {
  check_step(out, x, output, table, step, index, learned);
  if (x.scalar_type() == ScalarType::Double) {
    run<double>(out, x, output, table, step, index, seed, stream, clip, learned);
  } else {
    run<float>(out, x, output, table, step, index, seed, stream, clip, learned);
  }
}

Tensor ddpm_step(const Tensor& x, const Tensor& output, const Tensor& table, const Tensor& step, const Tensor& index, std::int64_t seed,
                 std::int64_t stream, std::optional<double> clip, bool learned) {
  Tensor out = torch::stable::new_empty(x, x.sizes());
  ddpm_step_out(out, x, output, table, step, index, seed, stream, clip, learned);
  return out;
}

}  // namespace
}  // namespace medgen

STABLE_TORCH_LIBRARY_IMPL(medgen, CUDA, m) {
  m.impl("ddpm_step", TORCH_BOX(&medgen::ddpm_step));
  m.impl("ddpm_step_out", TORCH_BOX(&medgen::ddpm_step_out));
}
