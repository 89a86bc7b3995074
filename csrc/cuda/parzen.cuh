// What the CUDA sources of the Parzen density share.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>

#include "cuda/launch.cuh"

namespace medgen {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// (max, sum), or value where it is not null, of the log-sum of every query over all points; see medgen.ops.reference.parzen. No host sync.
void parzen_log_sums(const Tensor& queries, const Tensor& points, const Tensor& log_weights, const Tensor& centre, const Tensor& factor,
                     bool leave_one_out, std::int64_t own_offset, double* max, double* sum, double* value);

inline unsigned blocks(std::int64_t work, int each) { return static_cast<unsigned>((work + each - 1) / each); }

template <class T>
T* data(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

template <class T>
const T* values(const Tensor& tensor, std::int64_t numel, ScalarType type, const char* what) {
  STD_TORCH_CHECK(tensor.scalar_type() == type && tensor.is_contiguous() && tensor.numel() == numel, what);
  return static_cast<const T*>(tensor.const_data_ptr());
}

}  // namespace medgen
