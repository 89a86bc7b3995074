// medgen::philox_* on CUDA: one thread per counter, four values each, in a grid-stride loop.

#include "core/normal.h"
#include "core/philox.h"
#include "cuda/launch.cuh"
#include "torch/tensors.h"

namespace medgen {
namespace {

template <class T>
struct NormalOf {
  __device__ void operator()(const Philox& p, T* v) const {
    normal_pair(p.w0, p.w1, v[0], v[1]);
    normal_pair(p.w2, p.w3, v[2], v[3]);
  }
};

struct UniformOf {
  __device__ void operator()(const Philox& p, float* v) const {
    v[0] = uniform_of_float(p.w0), v[1] = uniform_of_float(p.w1), v[2] = uniform_of_float(p.w2), v[3] = uniform_of_float(p.w3);
  }
  __device__ void operator()(const Philox& p, double* v) const {
    v[0] = uniform_of_double(p.w0), v[1] = uniform_of_double(p.w1), v[2] = uniform_of_double(p.w2), v[3] = uniform_of_double(p.w3);
  }
};

struct WordsOf {
  __device__ void operator()(const Philox& p, std::int64_t* v) const { v[0] = p.w0, v[1] = p.w1, v[2] = p.w2, v[3] = p.w3; }
};

template <class T, class Function>
__global__ void __launch_bounds__(kThreads)
    fill(T* out, const std::int64_t* index, std::int64_t rows, std::int64_t count, std::uint64_t seed, std::uint32_t stream, Function make) {
  const std::int64_t per_row = (count + 3) / 4, total = rows * per_row, step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t q = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; q < total; q += step) {
    const std::int64_t row = q / per_row, block = q - row * per_row;
    const std::uint64_t sample = static_cast<std::uint64_t>(index[row]);
    T v[4];
    make(philox(static_cast<std::uint32_t>(block), stream, static_cast<std::uint32_t>(sample), static_cast<std::uint32_t>(sample >> 32), seed), v);
    T* to = out + row * count + 4 * block;
    const std::int64_t rest = count - 4 * block;
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (k < rest) to[k] = v[k];
  }
}

template <class T, class Function>
void launch(Tensor& out, const Tensor& index, std::int64_t count, std::int64_t seed, std::int64_t stream, Function make) {
  const std::int64_t rows = index.numel(), work = rows * ((count + 3) / 4);
  if (work == 0) return;
  const torch::stable::accelerator::DeviceGuard guard(index.get_device_index());
  fill<<<blocks_for(work), kThreads, 0, current_stream(index)>>>(
      static_cast<T*>(out.mutable_data_ptr()), static_cast<const std::int64_t*>(index.const_data_ptr()), rows, count,
      static_cast<std::uint64_t>(seed), static_cast<std::uint32_t>(stream), make);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

template <template <class> class Pick>
Tensor draw(const Tensor& index, std::int64_t count, std::int64_t seed, std::int64_t stream, ScalarType dtype) {
  sample_numbers(index);
  STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::Double, "dtype must be float32 or float64");
  Tensor out = torch::stable::new_empty(index, {index.numel(), count}, dtype);
  if (dtype == ScalarType::Double) {
    launch<double>(out, index, count, seed, stream, Pick<double>{});
  } else {
    launch<float>(out, index, count, seed, stream, Pick<float>{});
  }
  return out;
}

template <class T>
struct UniformPick : UniformOf {};

Tensor philox_normal(const Tensor& index, std::int64_t count, std::int64_t seed, std::int64_t stream, ScalarType dtype) {
  return draw<NormalOf>(index, count, seed, stream, dtype);
}

Tensor philox_uniform(const Tensor& index, std::int64_t count, std::int64_t seed, std::int64_t stream, ScalarType dtype) {
  return draw<UniformPick>(index, count, seed, stream, dtype);
}

Tensor philox_bits(const Tensor& index, std::int64_t count, std::int64_t seed, std::int64_t stream) {
  Tensor out = torch::stable::new_empty(index, {index.numel(), count}, ScalarType::Long);
  launch<std::int64_t>(out, index, count, seed, stream, WordsOf{});
  return out;
}

}  // namespace
}  // namespace medgen

STABLE_TORCH_LIBRARY_IMPL(medgen, CUDA, m) {
  m.impl("philox_normal", TORCH_BOX(&medgen::philox_normal));
  m.impl("philox_uniform", TORCH_BOX(&medgen::philox_uniform));
  m.impl("philox_bits", TORCH_BOX(&medgen::philox_bits));
}
