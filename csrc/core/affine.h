// The affine coupling of one element, y = x exp(b) + t with b = bound(s), and where the elements of a sample lie.
//
// Forward, inverse, log-det and every derivative take b from `bound` here and nowhere else; the inverse multiplies by exp(-b).
#pragma once

#include <cstdint>

#include "core/exp.h"
#include "core/hd.h"

namespace medgen {

// How the raw log-scale is bounded. The numbers are those of medgen/ops/reference/affine_coupling.py.
enum class Bound : std::int64_t { kNone = 0, kTanh = 1, kSoft = 2 };

// Which elements are transformed: halves and every other channel along dim 1, or every other site of the spatial axes.
enum class Pattern : std::int64_t { kHalf = 0, kAlternate = 1, kChecker = 2 };

// A sample of `count` elements, row-major [channels, depth, height, width]. Blocks and lines are numbered along the sample.
//   kHalf, kAlternate: blocks of length[0] and length[1] elements in turn; those of number k with k % 2 == parity are transformed.
//   kChecker: lines of `width` sites; site i of line (d, h) is transformed where (d + h + i) % 2 == parity. Alternate features of [B, D]
//   are one line.
struct Layout {
  Pattern pattern;
  std::int64_t parity;
  std::int64_t batch, count;
  std::int64_t blocks, length[2];
  std::int64_t width, height, depth;
  bool full;  // parameters for every element of the sample, or for the transformed ones only
  std::int64_t parameters;  // per sample
};

}  // namespace medgen

MEDGEN_NAMESPACE_BEGIN

// b and db/ds.
//   kTanh: s_max tanh(s / s_max)           kSoft: s / (1 + |s| / s_max)
template <Bound kBound, class T>
MEDGEN_HD T bound(T s, T s_max, T inverse_s_max) {
  if constexpr (kBound == Bound::kTanh) return s_max * fast_tanh(s * inverse_s_max);
  if constexpr (kBound == Bound::kSoft) return s / (T(1) + (s < T(0) ? -s : s) * inverse_s_max);
  return s;
}

template <Bound kBound, class T>
MEDGEN_HD T bound_slope(T s, T b, T inverse_s_max) {
  if constexpr (kBound == Bound::kTanh) {
    const T u = b * inverse_s_max;
    return T(1) - u * u;
  }
  if constexpr (kBound == Bound::kSoft) {
    const T q = T(1) / (T(1) + (s < T(0) ? -s : s) * inverse_s_max);
    return q * q;
  }
  return T(1);
}

// Where element i of a sample stands. A group of elements that begins at i, and that no block or line ends within, shares it.
struct Site {
  bool on;                  // transformed; kChecker: element j of the group is, where (j % 2 == 0) == on
  std::int64_t parameter;   // its parameter's number, of a transformed element
};

MEDGEN_HD Site site_of(const Layout& l, std::int64_t i) {
  if (l.pattern == Pattern::kHalf) {
    const bool second = i >= l.length[0];
    return {second == (l.parity == 1), l.full || !second ? i : i - l.length[0]};
  }
  if (l.pattern == Pattern::kAlternate) {
    const std::int64_t k = i / l.length[0];
    return {(k & 1) == l.parity, l.full ? i : i - (k + 1) / 2 * l.length[0]};
  }
  const std::int64_t line = i / l.width, h = line % l.height, d = line / l.height % l.depth;
  return {((i - line * l.width + h + d + l.parity) & 1) == 0, l.full ? i : i / 2};
}

template <bool kInverse, class T>
MEDGEN_HD T affine(T x, T b, T t) {
  if constexpr (kInverse) return (x - t) * fast_exp(-b);
  return x * fast_exp(b) + t;
}

// Gradients of one transformed element from that of its output, g, and of its sample's log-det, h. `side` is the input of a forward
// pass and the output of an inverse one: then no other tensor is needed.
template <class T>
struct AffineGradients {
  T x, s, t;
};

template <Bound kBound, bool kInverse, class T>
MEDGEN_HD AffineGradients<T> affine_gradients(T g, T h, T side, T s, T s_max, T inverse_s_max) {
  const T b = bound<kBound>(s, s_max, inverse_s_max), slope = bound_slope<kBound>(s, b, inverse_s_max);
  if constexpr (kInverse) {
    const T gx = g * fast_exp(-b);
    return {gx, -(g * side + h) * slope, -gx};
  }
  const T gx = g * fast_exp(b);
  return {gx, (gx * side + h) * slope, g};
}

MEDGEN_NAMESPACE_END
