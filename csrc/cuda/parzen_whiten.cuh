// Rows to whitened rows, one thread each.
#pragma once

#include "core/parzen.h"
#include "cuda/parzen.cuh"

namespace medgen {
namespace {

struct Rows {
  const void* data;
  bool is_double;
  std::int64_t count, dim;
  const double *centre, *factor;
  bool dense;
};

// One row per thread: z = L^-1 (row - centre) times `unit`, in double and rounded; narrow may be null. squares: |q|^2 of the rounded coordinates.
__global__ void __launch_bounds__(kThreads) whiten(Rows rows, double unit, double* wide, float* narrow, double* wide_squares, double* narrow_squares,
                                                   std::uint8_t* forms) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= rows.count) return;
  double* z = wide + i * rows.dim;
  double norm = 0.0, wide_square = 0.0, narrow_square = 0.0;
  for (std::int64_t k = 0; k < rows.dim; ++k) {
    const std::int64_t at = i * rows.dim + k;
    double value = (rows.is_double ? static_cast<const double*>(rows.data)[at] : static_cast<double>(static_cast<const float*>(rows.data)[at])) -
                   rows.centre[k];
    if (rows.dense)
      for (std::int64_t j = 0; j < k; ++j) value -= rows.factor[k * rows.dim + j] * z[j];
    value *= 1.0 / rows.factor[rows.dense ? k * rows.dim + k : k];  // as on the CPU
    z[k] = value;
    norm += value * value;
  }
  for (std::int64_t k = 0; k < rows.dim; ++k) {
    const double scaled = z[k] * unit;
    z[k] = scaled;
    wide_square += scaled * scaled;
    if (narrow == nullptr) continue;
    const float rounded = static_cast<float>(scaled);
    narrow[i * rows.dim + k] = rounded;
    narrow_square += static_cast<double>(rounded) * static_cast<double>(rounded);
  }
  wide_squares[i] = wide_square;
  if (narrow != nullptr) narrow_squares[i] = narrow_square;
  if (forms != nullptr) forms[i] = static_cast<std::uint8_t>(form_of(norm, rows.dim, rows.is_double));
}

Rows rows_of(const Tensor& rows, const Tensor& centre, const Tensor& factor) {
  const ScalarType type = rows.scalar_type();
  STD_TORCH_CHECK((type == ScalarType::Float || type == ScalarType::Double) && rows.dim() == 2 && rows.is_contiguous() && centre.is_contiguous() &&
                      factor.is_contiguous() && centre.scalar_type() == ScalarType::Double && factor.scalar_type() == ScalarType::Double,
                  "queries and points must be contiguous float32 or float64, centre and factor contiguous float64");
  return {rows.const_data_ptr(), type == ScalarType::Double, rows.size(0), rows.size(1), static_cast<const double*>(centre.const_data_ptr()),
          static_cast<const double*>(factor.const_data_ptr()), factor.dim() == 2};
}

// Whitened rows of either width, with their squares.
struct White {
  White(const Tensor& like, const Rows& rows, double unit, std::uint8_t* forms, cudaStream_t stream)
      : wide(torch::stable::new_empty(like, {rows.count, rows.dim}, ScalarType::Double)),
        narrow(torch::stable::new_empty(like, {rows.is_double ? 0 : rows.count, rows.dim}, ScalarType::Float)),
        squares(torch::stable::new_empty(like, {2, rows.count}, ScalarType::Double)) {
    if (rows.count == 0) return;
    double* both = data<double>(squares);
    whiten<<<blocks(rows.count, kThreads), kThreads, 0, stream>>>(rows, unit, data<double>(wide), rows.is_double ? nullptr : data<float>(narrow), both,
                                                                  both + rows.count, forms);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
  Tensor wide, narrow, squares;
};

}  // namespace
}  // namespace medgen
