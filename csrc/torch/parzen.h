// Tensors to the rows and packed points of the Parzen kernels.
#pragma once

#include <cmath>
#include <cstdlib>
#include <memory>
#include <vector>

#include "cpu/parzen.h"
#include "torch/dispatch.h"
#include "torch/tensors.h"

namespace medgen {

inline const double* doubles(const Tensor& tensor, std::int64_t numel, const char* name) {
  STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Double && tensor.is_contiguous() && tensor.numel() == numel, name,
                  " must be contiguous float64 of the right size");
  return static_cast<const double*>(tensor.const_data_ptr());
}

inline ParzenRows parzen_rows(const Tensor& rows, const Tensor& centre, const Tensor& factor) {
  const ScalarType type = rows.scalar_type();
  STD_TORCH_CHECK((type == ScalarType::Float || type == ScalarType::Double) && rows.dim() == 2 && rows.is_contiguous(),
                  "queries and points must be contiguous float32 or float64 [rows, D]");
  const std::int64_t dim = rows.size(1);
  const bool dense = factor.dim() == 2;
  return {rows.const_data_ptr(), type == ScalarType::Double, rows.size(0), dim, doubles(centre, dim, "centre"),
          doubles(factor, dense ? dim * dim : dim, "factor"), dense};
}

// Packed points and the memory that holds them.
class Packed {
 public:
  Packed(const ParzenRows& rows, const double* log_weights, bool wide, bool* poisoned) {
    const std::size_t width = wide ? sizeof(double) : sizeof(float);
    const auto padded = static_cast<std::size_t>(rows.count + kParzenPadding);
    const auto bytes = [&](std::size_t count) { return (count * width + 63) / 64 * 64; };
    const std::size_t coordinates = bytes(padded * static_cast<std::size_t>(rows.dim)), starts = bytes(padded);
    memory_.reset(static_cast<char*>(std::aligned_alloc(64, coordinates + 2 * starts)));
    STD_TORCH_CHECK(memory_ != nullptr, "out of memory");
    points = {memory_.get(), memory_.get() + coordinates, memory_.get() + coordinates + starts, wide, rows.count, rows.dim};
    const std::int64_t chunks = (rows.count + kParzenChunk - 1) / kParzenChunk;
    torch::stable::parallel_for(0, chunks, 1, [&](std::int64_t begin, std::int64_t end) {
      MEDGEN_CALL(parzen_pack)(rows, log_weights, points, poisoned, begin * kParzenChunk, std::min(rows.count, end * kParzenChunk));
    });
  }

  ParzenPoints points;

 private:
  struct Free {
    void operator()(char* p) const { std::free(p); }
  };
  std::unique_ptr<char, Free> memory_;
};

// Rows from which on a second thread is worth waking, for `pairs` of `dim` dimensions per row.
inline std::int64_t parzen_grain(std::int64_t pairs, std::int64_t dim) {
  return std::max<std::int64_t>(1, 400000 / std::max<std::int64_t>(1, pairs * (dim + 16)));
}

}  // namespace medgen
