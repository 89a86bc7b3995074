// Which elements of a sample a coupling kernel visits, forward and backward.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/affine.h"
#include "cpu/sums.h"

MEDGEN_NAMESPACE_BEGIN
namespace {

// One copy of each form's loop: inlining them everywhere would triple the time to compile.
#define MEDGEN_ONCE __attribute__((noinline))

// The form of a call, known at compile time.
template <class Element, Bound kB, bool kInv, bool kAdd>
struct Form {
  using T = Element;
  static constexpr Bound kBound = kB;
  static constexpr bool kInverse = kInv, kAdditive = kAdd;
};

struct Piece {
  std::int64_t begin, end;
};

// Chunk c of a block of n elements; the same for every thread count.
MEDGEN_HD Piece piece_of(std::int64_t n, std::int64_t chunks, std::int64_t c) {
  if (chunks == 1) return {0, n};
  const std::int64_t size = ((n + chunks - 1) / chunks + kSumLanes - 1) / kSumLanes * kSumLanes;
  return {std::min(n, c * size), std::min(n, (c + 1) * size)};
}

// visit(transformed, offset in the sample, offset in the parameters, n) over the blocks of chunk c.
template <class Visit>
MEDGEN_HD void blocks(const Layout& l, std::int64_t chunks, std::int64_t c, const Visit& visit) {
  std::int64_t start = 0, packed = 0;
  for (std::int64_t k = 0; k < l.blocks; ++k) {
    const std::int64_t length = l.length[k & 1];
    const bool on = (k & 1) == l.parity;
    const Piece piece = piece_of(length, chunks, c);
    if (piece.begin < piece.end) visit(on, start + piece.begin, (l.full ? start : packed) + piece.begin, piece.end - piece.begin);
    start += length;
    packed += on ? length : 0;
  }
}

// visit(index % 2 that is transformed, offset, n) over the lines of chunk c, offsets into the sample.
template <class Visit>
MEDGEN_HD void lines(const Layout& l, std::int64_t chunks, std::int64_t c, const Visit& visit) {
  const Piece piece = piece_of(l.count, chunks, c);
  if (l.width == 0) return;
  for (std::int64_t p = piece.begin; p < piece.end;) {
    const std::int64_t line = p / l.width, i = p - line * l.width, n = std::min(l.width - i, piece.end - p);
    const std::int64_t h = line % l.height, d = line / l.height % l.depth;
    visit(static_cast<int>((l.parity + d + h + i) & 1), p, n);
    p += n;
  }
}

}  // namespace
MEDGEN_NAMESPACE_END
