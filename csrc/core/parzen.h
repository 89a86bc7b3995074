// Which arithmetic a query of a Parzen density needs. Coordinates are whitened: one bandwidth is one unit, the points' mean is zero.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/hd.h"

MEDGEN_NAMESPACE_BEGIN

// kDot: x.y - |x|^2 / 2 in float. kDirect: differences in float. kWide: differences in double. kWideDot: products in double.
// kInfinite, kNan: the answer needs no points; kDone: there is nothing to do.
enum class Form : std::uint8_t { kDot, kDirect, kWideDot, kWide, kInfinite, kNan, kDone };

// The form depends on the query alone (never on its neighbours in the batch), so its density does not either.
//
// Rounding of a float product form is about 2^-24 sqrt(dim) |y|^2 / 4 (one standard deviation, for the points that count, near y): 7e-6 nats at
// the bound below. In up to four dimensions differences cost next to nothing more. Rounding of float differences is about
// 2^-24 |y| |y - x| / sqrt(dim), that of whitening: below 1e-5 up to |y| = 128.
MEDGEN_HD Form form_of(double norm2, std::int64_t dim, bool is_double) {
  if (!(norm2 < INFINITY)) return norm2 > 0.0 ? Form::kInfinite : Form::kNan;
  const double root = ::sqrt(static_cast<double>(dim));
  if (is_double) return dim > 4 && norm2 * root <= 2.0e4 ? Form::kWideDot : Form::kWide;
  if (dim > 4 && norm2 * (root > 6.4 ? root : 6.4) <= 1024.0) return Form::kDot;
  return norm2 <= 16384.0 ? Form::kDirect : Form::kWide;
}

// Whether a log-sum found in float is too low for float: far from every point, the scores' own rounding counts, about 2.1e-8 sqrt(dim) of
// them (one standard deviation; 3.5 of them must stay within 3e-5 + 2e-7 |value|). Such a query is done again in double.
MEDGEN_HD bool too_far(Form form, double log_sum, std::int64_t dim, std::int64_t points) {
  if (form != Form::kDot && form != Form::kDirect) return false;
  const double root = ::sqrt(static_cast<double>(dim)), score = log_sum + ::log(static_cast<double>(points));
  const double excess = 7.4e-8 * root - 2e-7, direct = excess > 0.0 ? 3e-5 / excess : INFINITY;
  return score < -(form == Form::kDot ? 1024.0 / root : direct) && score > -INFINITY;
}

inline constexpr double kLn2 = 0.693147180559945309417, kLog2e = 1.44269504088896340736;
inline constexpr double kUnit = 0.8493218002880191;  // sqrt(log2(e) / 2): scores |y - x|^2 / 2 become powers of two without a product

MEDGEN_NAMESPACE_END
