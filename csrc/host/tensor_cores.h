// The scores of cuda/parzen_split.cuh on the host, for tests: products of halves are exact, a sum of 16 of them and what stood there cuts every
// term to `bits` bits of the largest and its result to a float, as tensor cores do.
// Numerical behavior of NVIDIA tensor cores (Fasi, Higham, Mikaitis, Pranesh, 2021), https://doi.org/10.7717/peerj-cs.330
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/split.h"

namespace medgen::host {

// Towards zero at `bits` bits of `largest`.
inline double cut(double value, double largest, int bits) {
  if (largest == 0.0) return 0.0;
  const double last = std::ldexp(1.0, std::ilogb(largest) + 1 - bits);
  return std::trunc(value / last) * last;
}

// sum + rows . columns over one step.
inline float multiply(float sum, const float* row, const float* column, int bits) {
  double terms[kSplitDepth + 1] = {static_cast<double>(sum)}, largest = std::fabs(static_cast<double>(sum)), total = 0.0;
  for (int k = 0; k < kSplitDepth; ++k) {
    terms[k + 1] = static_cast<double>(row[k]) * static_cast<double>(column[k]);
    largest = std::max(largest, std::fabs(terms[k + 1]));
  }
  for (const double term : terms) total += cut(term, largest, bits);
  return static_cast<float>(cut(total, total, 24));
}

struct SplitRow {
  std::vector<float> hi, lo;
  double square = 0.0;  // in powers of two

  // z: whitened, in units of one bandwidth.
  SplitRow(const double* z, std::int64_t dim, double scale) {
    const std::size_t padded = static_cast<std::size_t>((dim + kSplitDepth - 1) / kSplitDepth * kSplitDepth);
    hi.resize(padded), lo.resize(padded);
    for (std::int64_t k = 0; k < dim; ++k) {
      const Split part = split(scale * (z[k] * kUnit));
      hi[static_cast<std::size_t>(k)] = float_of_half(part.hi), lo[static_cast<std::size_t>(k)] = float_of_half(part.lo);
      square += part.value() / scale * (part.value() / scale);
    }
  }
};

// ln w - |q - x|^2 / 2 + |q|^2 / 2 in powers of two, as the kernel has it; `query` was split with scale 2, `point` with 1.
inline float split_score(const SplitRow& query, const SplitRow& point, double log_weight, int bits) {
  const std::size_t depth = static_cast<std::size_t>(kSplitDepth);
  float sum = 0.0f, score = split_start(log_weight, point.square);
  for (std::size_t k = 0; k < query.hi.size(); k += depth) {
    sum = multiply(sum, &query.lo[k], &point.hi[k], bits);
    sum = multiply(sum, &query.hi[k], &point.lo[k], bits);
  }
  for (std::size_t k = 0; k < query.hi.size(); k += depth, sum = 0.0f) score += multiply(sum, &query.hi[k], &point.hi[k], bits);
  return score;
}

}  // namespace medgen::host
