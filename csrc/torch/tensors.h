// Small helpers over torch's stable ABI.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <array>
#include <cstdint>

namespace medgen {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Runs body(begin, end) over [0, rows) on torch's threads; a thread gets at least about `grain` element operations.
template <class Body>
void for_rows(std::int64_t rows, std::int64_t per_row, std::int64_t grain, const Body& body) {
  const std::int64_t least = std::max<std::int64_t>(1, grain / std::max<std::int64_t>(1, per_row));
  torch::stable::parallel_for(0, rows, least, body);
}

template <class T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
T* mutable_data(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

// The sample numbers of counter-based noise.
inline const std::int64_t* sample_numbers(const Tensor& index) {
  STD_TORCH_CHECK(index.scalar_type() == ScalarType::Long && index.dim() == 1 && index.is_contiguous(), "index must be contiguous int64 [B]");
  return data<std::int64_t>(index);
}

inline const std::int64_t* sample_numbers(const Tensor& index, std::int64_t rows) {
  STD_TORCH_CHECK(index.numel() == rows, "index must be [B] with B = ", rows, "; got ", index.numel());
  return sample_numbers(index);
}

// Contiguous inside each sample, whatever the stride between samples.
inline bool rows_are_contiguous(const Tensor& tensor) {
  if (tensor.numel() == 0) return true;
  const auto sizes = tensor.sizes(), strides = tensor.strides();
  std::int64_t expected = 1;
  for (std::int64_t d = tensor.dim() - 1; d >= 1; --d) {
    const auto i = static_cast<std::size_t>(d);
    if (sizes[i] != 1 && strides[i] != expected) return false;
    expected *= sizes[i];
  }
  return true;
}

inline Tensor as_rows(const Tensor& tensor) {
  return rows_are_contiguous(tensor) ? tensor : torch::stable::contiguous(tensor);
}

inline std::int64_t row_stride(const Tensor& tensor) { return tensor.stride(0); }

// A new contiguous tensor; cheaper than torch::stable::new_empty, which looks its op up by name.
inline Tensor fresh(const Tensor& like, const std::int64_t* sizes, std::int64_t dim, ScalarType dtype) {
  std::array<std::int64_t, 64> strides{};
  std::int64_t stride = 1;
  for (std::int64_t d = dim - 1; d >= 0; --d) {
    strides[static_cast<std::size_t>(d)] = stride;
    stride *= std::max<std::int64_t>(sizes[d], 1);
  }
  std::int32_t type = 0, index = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &index));
  AtenTensorHandle made = nullptr;
  const std::int32_t number = dtype == ScalarType::Double ? aoti_torch_dtype_float64() : aoti_torch_dtype_float32();
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(dim, sizes, strides.data(), number, type, index, &made));
  return Tensor(made);
}

inline Tensor fresh_like(const Tensor& like) { return fresh(like, like.sizes().data(), like.dim(), like.scalar_type()); }
inline Tensor fresh_vector(const Tensor& like, std::int64_t n) { return fresh(like, &n, 1, like.scalar_type()); }

}  // namespace medgen
