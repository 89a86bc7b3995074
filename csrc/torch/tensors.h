// Small helpers over torch's stable ABI.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
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

}  // namespace medgen
