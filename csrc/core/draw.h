// What a draw from a Parzen density makes of two random words: which point, and a level for rejection.
#pragma once

#include <cstdint>

#include "core/hd.h"

MEDGEN_NAMESPACE_BEGIN

// (word + 1/2) / 2^32, strictly inside (0, 1).
MEDGEN_HD double unit_of(std::uint32_t word) { return (static_cast<double>(word) + 0.5) * 0x1p-32; }

// A point by its weight. cumulative: running sums of the weights, [count], or null for equal ones.
MEDGEN_HD std::int64_t chosen_point(const double* cumulative, std::int64_t count, std::uint32_t word) {
  if (cumulative == nullptr) {  // word * count / 2^32, whose product may have 96 bits
    const std::uint64_t n = static_cast<std::uint64_t>(count), low = (n & 0xffffffffu) * word;
    return static_cast<std::int64_t>((n >> 32) * word + (low >> 32));
  }
  const double u = unit_of(word) * cumulative[count - 1];
  std::int64_t low = 0, high = count - 1;  // the first whose running sum exceeds u
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (cumulative[middle] > u) high = middle;
    else low = middle + 1;
  }
  return low;
}

MEDGEN_NAMESPACE_END
