// What every launch does: the tensor's device, the current stream, 64-bit sizes, an early way out, a check.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>

namespace medgen {

inline constexpr int kThreads = 256;

// The stream that torch uses on this device at the moment: graph capture and user streams depend on it.
inline cudaStream_t current_stream(const torch::stable::Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

// Blocks for a grid-stride loop over `work` items: enough to fill any device several times over, never too many for grid.x.
inline unsigned blocks_for(std::int64_t work) {
  return static_cast<unsigned>(std::min<std::int64_t>((work + kThreads - 1) / kThreads, 132 * 16));
}

}  // namespace medgen
