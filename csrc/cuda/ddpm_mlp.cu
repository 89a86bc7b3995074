// medgen::ddpm_sample_mlp on CUDA: the whole chain in one launch. A block of threads owns 32 samples, whose values and, where they fit, the
// weights stay in shared memory for all steps; nothing else is written until the end.
//
// Work per step and sample is 2 sum(in out) operations, in float32 on the ordinary cores: 49 kFLOP for 32-128-128-32, so that 4096 samples
// (128 blocks, one per multiprocessor) need about 1.6 MFLOP per block and step.

#include <cuda_bf16.h>

#include <optional>
#include <vector>

#include "core/normal.h"
#include "core/philox.h"
#include "cuda/launch.cuh"
#include "torch/ddpm.h"

namespace medgen {
namespace {

constexpr int kLayers = 8;   // at most
constexpr int kRows = 32;    // samples of a block
constexpr int kWidest = 256;  // so that values fit into every device's shared memory

struct Chain {
  float* x;
  const float* weights[kLayers];  // [out, in]
  const float* biases[kLayers];
  float* packed;  // [in, padded out] of each layer, one behind the other
  const float *embedding, *table;
  const std::int64_t* index;
  std::int64_t rows;
  int steps, layers, widest, widths[kLayers + 1];
  long long packed_size;
  std::uint64_t seed;
  std::uint32_t stream;
  float clip;
  bool clipped, bfloat16, weights_fit;
};

__host__ __device__ inline int padded(int width) { return (width + 3) / 4 * 4; }

__device__ inline float rounded(float x, bool bfloat16) { return bfloat16 ? __bfloat162float(__float2bfloat16_rn(x)) : x; }

__global__ void __launch_bounds__(kThreads) pack(const Chain chain) {
  float* to = chain.packed;
  for (int l = 0; l < chain.layers; ++l) {
    const int in = chain.widths[l], out = chain.widths[l + 1], columns = padded(out);
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < in * columns; i += gridDim.x * blockDim.x) {
      const int k = i / columns, n = i - k * columns;
      to[i] = n < out ? rounded(chain.weights[l][n * in + k], chain.bfloat16) : 0.0f;
    }
    to += in * columns;
  }
}

// out [columns, 32] = W in [in, 32] + bias, four samples by four columns a thread; with SiLU on hidden layers.
template <bool kHidden>
__device__ void dense(float* out, const float* in, const float* weight, const float* bias, const float* embedding, int depth, int width,
                      bool bfloat16) {
  const int columns = padded(width);
  for (int tile = threadIdx.x; tile < columns / 4 * (kRows / 4); tile += kThreads) {
    const int r = tile % (kRows / 4) * 4, n = tile / (kRows / 4) * 4;
    float sum[4][4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float b = n + j < width ? bias[n + j] + (embedding == nullptr ? 0.0f : embedding[n + j]) : 0.0f;
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[j][i] = b;
    }
#pragma unroll 4
    for (int k = 0; k < depth; ++k) {
      const float4 a = *reinterpret_cast<const float4*>(in + k * kRows + r);
      const float4 w = *reinterpret_cast<const float4*>(weight + k * columns + n);
      const float av[4] = {a.x, a.y, a.z, a.w}, wv[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
      for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[j][i] = fmaf(wv[j], av[i], sum[j][i]);
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (kHidden) {
#pragma unroll
        // exp by the special-function unit: 2 ulp for the values that matter; where it is infinite the quotient is 0, as it must be
        for (int i = 0; i < 4; ++i) sum[j][i] = rounded(__fdividef(sum[j][i], 1.0f + __expf(-sum[j][i])), bfloat16);
      }
      *reinterpret_cast<float4*>(out + (n + j) * kRows + r) = make_float4(sum[j][0], sum[j][1], sum[j][2], sum[j][3]);
    }
  }
}

// x = step(x, output, z) and, rounded where asked, into `input`; a thread does the four elements of a counter.
__device__ void advance(const Chain& chain, float* x, float* input, const float* output, std::int64_t row, int k) {
  const Step<float> c = step_of(chain.table + k * kStepColumns);
  const bool noisy = step_is_noisy(c.scale, false);
  const int width = chain.widths[0], counters = (width + 3) / 4;
  for (int item = threadIdx.x; item < kRows * counters; item += kThreads) {
    const int r = item % kRows, block = item / kRows;
    float z[4] = {};
    if (noisy && row + r < chain.rows) {
      const std::uint64_t sample = static_cast<std::uint64_t>(chain.index[row + r]);
      const Philox p = philox(static_cast<std::uint32_t>(block), chain.stream + static_cast<std::uint32_t>(k),
                              static_cast<std::uint32_t>(sample), static_cast<std::uint32_t>(sample >> 32), chain.seed);
      normal_pair(p.w0, p.w1, z[0], z[1]);
      normal_pair(p.w2, p.w3, z[2], z[3]);
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int d = 4 * block + j, at = d * kRows + r;
      if (d >= width) break;
      const float o = output[at];
      const float mean = chain.clipped ? step_mean<true>(c, x[at], o, chain.clip) : step_mean<false>(c, x[at], o, chain.clip);
      x[at] = noisy ? mean + c.scale * z[j] : mean;
      input[at] = rounded(x[at], chain.bfloat16);
    }
  }
}

__global__ void __launch_bounds__(kThreads) sample(const Chain chain) {
  extern __shared__ float4 memory[];
  const int width = chain.widths[0], most = chain.widest * kRows;
  float* one = reinterpret_cast<float*>(memory);
  float *other = one + most, *x = other + most, *held = x + padded(width) * kRows;
  const float* weights = chain.packed;
  if (chain.weights_fit) {
    for (long long i = threadIdx.x; i < chain.packed_size; i += kThreads) held[i] = chain.packed[i];
    weights = held;
  }
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kRows;
  for (int i = threadIdx.x; i < width * kRows; i += kThreads) {
    const int r = i / width, d = i - r * width;
    const float value = row + r < chain.rows ? chain.x[(row + r) * width + d] : 0.0f;
    x[d * kRows + r] = value;
    one[d * kRows + r] = rounded(value, chain.bfloat16);
  }
  __syncthreads();
  for (int k = chain.steps - 1; k >= 0; --k) {
    const float* weight = weights;
    float *in = one, *out = other;
    for (int l = 0; l < chain.layers; ++l) {
      const int depth = chain.widths[l], columns = chain.widths[l + 1];
      const float* embedding = l == 0 ? chain.embedding + static_cast<std::int64_t>(k) * columns : nullptr;
      if (l + 1 < chain.layers) {
        dense<true>(out, in, weight, chain.biases[l], embedding, depth, columns, chain.bfloat16);
      } else {
        dense<false>(out, in, weight, chain.biases[l], embedding, depth, columns, chain.bfloat16);
      }
      __syncthreads();
      weight += depth * padded(columns);
      float* swap = in;
      in = out;
      out = swap;
    }
    advance(chain, x, one, in, row, k);
    __syncthreads();
  }
  for (int i = threadIdx.x; i < width * kRows; i += kThreads) {
    const int r = i / width, d = i - r * width;
    if (row + r < chain.rows) chain.x[(row + r) * width + d] = x[d * kRows + r];
  }
}

// The sizes of shared and packed memory.
void measure(Chain& chain) {
  chain.widest = padded(chain.widths[0]);
  for (int l = 0; l <= chain.layers; ++l) {
    STD_TORCH_CHECK(chain.widths[l] <= kWidest, "layers must be at most ", kWidest, " wide; got ", chain.widths[l]);
    chain.widest = std::max(chain.widest, padded(chain.widths[l]));
    if (l > 0) chain.packed_size += static_cast<long long>(chain.widths[l - 1]) * padded(chain.widths[l]);
  }
}

void launch(Chain& chain, int device, cudaStream_t on) {
  int most = 0;
  STD_CUDA_CHECK(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  const long long values = static_cast<long long>(2 * chain.widest + padded(chain.widths[0])) * kRows * 4;
  chain.weights_fit = values + chain.packed_size * 4 <= most;
  const int bytes = static_cast<int>(values + (chain.weights_fit ? chain.packed_size * 4 : 0));
  STD_CUDA_CHECK(cudaFuncSetAttribute(sample, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  pack<<<blocks_for(chain.packed_size), kThreads, 0, on>>>(chain);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  sample<<<static_cast<unsigned>((chain.rows + kRows - 1) / kRows), kThreads, bytes, on>>>(chain);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

Tensor ddpm_sample_mlp(const Tensor& x, const std::vector<Tensor>& weights, const std::vector<Tensor>& biases, const Tensor& embedding,
                       const Tensor& table, const Tensor& index, std::int64_t seed, std::int64_t stream, std::optional<double> clip,
                       bool bfloat16) {
  Chain chain{};
  set_chain(chain, x, weights, biases, embedding, table, index, kLayers);
  measure(chain);
  chain.seed = static_cast<std::uint64_t>(seed);
  chain.stream = static_cast<std::uint32_t>(stream);
  chain.clipped = clip.has_value();
  chain.clip = static_cast<float>(clip.value_or(0.0));
  chain.bfloat16 = bfloat16;

  const float* from = floats(x, x.numel(), x);
  Tensor out = torch::stable::new_empty(x, x.sizes());
  if (out.numel() == 0) return out;
  const Tensor packed = torch::stable::new_empty(x, {static_cast<std::int64_t>(chain.packed_size)});
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const cudaStream_t on = current_stream(x);
  chain.x = static_cast<float*>(out.mutable_data_ptr());
  chain.packed = static_cast<float*>(const_cast<void*>(packed.const_data_ptr()));
  STD_CUDA_CHECK(cudaMemcpyAsync(chain.x, from, static_cast<std::size_t>(out.numel()) * sizeof(float), cudaMemcpyDeviceToDevice, on));
  launch(chain, x.get_device_index(), on);
  return out;
}

}  // namespace
}  // namespace medgen

STABLE_TORCH_LIBRARY_IMPL(medgen, CUDA, m) { m.impl("ddpm_sample_mlp", TORCH_BOX(&medgen::ddpm_sample_mlp)); }
