// What the spline ops check on the CPU and CUDA.
#pragma once

#include "torch/coupling.h"

namespace medgen {

inline Layout spline_layout(const Tensor& x, const Tensor& parameters, std::int64_t bins, double tail, std::int64_t mask, std::int64_t split) {
  check_floating(x);
  check_like(parameters, x, "parameters");
  STD_TORCH_CHECK(bins >= 1 && bins < 1000 && tail > 0.0, "bins must be in [1, 1000) and tail positive");
  return layout_of(x, mask, split, parameters.size(1), 3 * bins - 1);
}

inline void check_spline_out(const Tensor& out, const Tensor& x, const Tensor& parameters) {
  check_out(out, x);
  check_overlap(out, as_rows(x), "x", true);
  check_overlap(out, as_rows(parameters), "parameters", false);
}

}  // namespace medgen
