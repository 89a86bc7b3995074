// Scores of a Parzen density from products of halves: a coordinate is hi + lo, each of 11 bits, and q.x = lo.hi + hi.lo + hi.hi in float.
//
// Half floats have three more bits than bfloat16 at the same speed, and the coordinates are small: with bfloat16 the product of the two low
// parts, which is left out, would be 64 times larger and a density could be 1e-3 nats off. Low parts below 2^-14 are denormal, good to 2^-25.
// Splitting: Recovering single precision accuracy from Tensor Cores (Ootomo, Yokota, 2022), https://doi.org/10.1177/10943420221090256
#pragma once

#include <cmath>
#include <cstdint>

#include "core/exp.h"
#include "core/hd.h"
#include "core/parzen.h"

MEDGEN_NAMESPACE_BEGIN

inline constexpr int kSplitDepth = 16;   // dimensions of one product on the tensor cores
inline constexpr int kSplitMost = 64;    // dimensions that are split; beyond them products are float's
inline constexpr double kSplitReach = 1048576.0;  // |x|^2 in powers of two above which a point is too far to matter
inline constexpr float kSplitLowest = -1e30f;

// To the nearest half float, ties to even, and back, exactly.
MEDGEN_HD std::uint16_t half_of(float value) {
  const std::uint32_t bits = bits_as<std::uint32_t>(value), sign = (bits >> 16) & 0x8000u, size = bits & 0x7fffffffu;
  if (size >= 0x47800000u) return static_cast<std::uint16_t>(sign | (size > 0x7f800000u ? 0x7e00u : 0x7c00u));
  // adding 1/2 rounds a denormal at its last bit, 2^-24
  if (size < 0x38800000u) return static_cast<std::uint16_t>(sign | (bits_as<std::uint32_t>(bits_as<float>(size) + 0.5f) - 0x3f000000u));
  return static_cast<std::uint16_t>(sign | ((size - 0x38000000u + 0xfffu + ((size >> 13) & 1u)) >> 13));
}

MEDGEN_HD float float_of_half(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16, size = half & 0x7fffu;
  const float exact = size < 0x400u ? static_cast<float>(size) * 0x1p-24f
                      : size < 0x7c00u ? bits_as<float>((size << 13) + 0x38000000u)
                                       : bits_as<float>((size << 13) + 0x70000000u);
  return bits_as<float>(bits_as<std::uint32_t>(exact) | sign);
}

struct Split {
  std::uint16_t hi, lo;
  MEDGEN_HD double value() const { return static_cast<double>(float_of_half(hi)) + static_cast<double>(float_of_half(lo)); }
};

MEDGEN_HD Split split(double value) {
  const std::uint16_t hi = half_of(static_cast<float>(value));
  return {hi, half_of(static_cast<float>(value - static_cast<double>(float_of_half(hi))))};
}

// Where a point's score starts: ln w in powers of two less |x|^2, of the coordinates as they are split. No weight is minus infinity.
MEDGEN_HD float split_start(double log_weight, double square) {
  const double start = log_weight * kLog2e - square;
  if (log_weight == -INFINITY) return -INFINITY;
  return start > static_cast<double>(kSplitLowest) ? static_cast<float>(start) : kSplitLowest;
}

// How wrong a score can be, in nats, for coordinates of norms q and x in units of one bandwidth, apart by `distance`: the rounding of the
// coordinates, the products of low parts (2^-22 of each), every term of a step cut to `bits` bits of its largest, the sums in float. The tensor
// cores of sm_80 keep 25 bits, those of sm_90 26. Errors of random sign are far smaller than this sum of worst cases.
MEDGEN_HD double split_bound(double q, double x, double distance, std::int64_t dim, int bits = 25) {
  const double steps = static_cast<double>((dim + kSplitDepth - 1) / kSplitDepth), flat = ::sqrt(static_cast<double>(dim)) * 0x1p-23;
  const double coordinates = distance * (0x1p-22 * (q + x) + flat), left_out = 0x1p-22 * q * x + flat * (q + x);
  const double cut = 18.1 * ::ldexp(1.0, 1 - bits) * q * x, sums = (steps + 1.0) * 0x1p-24 * (0.5 * x * x + q * x);
  return coordinates + left_out + cut + sums;
}

MEDGEN_NAMESPACE_END
