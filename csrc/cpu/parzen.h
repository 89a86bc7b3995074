// Parzen density on the CPU: whitening, packing, log-sums, gradients, nearest points. Torch-free; the caller decides about threads.
#pragma once

#include "cpu/kernels.h"

namespace medgen {

// Rows [count, dim] of float or double and how to whiten them: z = L^-1 (row - centre), L diagonal [dim] or lower triangular [dim, dim].
struct ParzenRows {
  const void* data;
  bool is_double;
  std::int64_t count, dim;
  const double* centre;
  const double* factor;
  bool dense;
};

// Points as tiles [tile][dim][points of a tile] of float or (wide) double, in the unit in which scores are powers of two.
// product, direct: what each point's score starts from in either form. Room for count + kParzenPadding points.
struct ParzenPoints {
  void* x;
  void* product;
  void* direct;
  bool wide;
  std::int64_t count, dim;
};

inline constexpr std::int64_t kParzenPadding = 8;
inline constexpr std::int64_t kParzenChunk = 12288;  // points of one pass, whose sums merge in order; a multiple of every tile
inline constexpr std::int64_t kNoOwn = INT64_MIN;    // no query is a point

}  // namespace medgen

// forms[i] of queries [begin, end).
MEDGEN_KERNEL(parzen_forms, (const medgen::ParzenRows& queries, std::uint8_t* forms, std::int64_t begin, std::int64_t end))
// Whitened rows [begin, end) of out [count, dim], and their norms.
MEDGEN_KERNEL(parzen_whiten, (const medgen::ParzenRows& rows, double* out, double* norms, std::int64_t begin, std::int64_t end))
// Packs points [begin, end), begin a multiple of kParzenChunk. log_weights (null: zeros) may be -inf; poisoned is set where anything else is not finite.
MEDGEN_KERNEL(parzen_pack, (const medgen::ParzenRows& points, const double* log_weights, const medgen::ParzenPoints& to, bool* poisoned,
                            std::int64_t begin, std::int64_t end))
// (max, sum) pairs, in nats, of queries [begin, end) over the points [first, last), first a multiple of kParzenChunk. Query i is point
// i + own_offset and leaves it out, unless that is kNoOwn. out: [count, 2], of all queries;
// those of form kDone are left alone.
MEDGEN_KERNEL(parzen_sums, (const medgen::ParzenRows& queries, const std::uint8_t* forms, const medgen::ParzenPoints& narrow,
                            const medgen::ParzenPoints& wide, std::int64_t begin, std::int64_t end, std::int64_t first, std::int64_t last,
                            std::int64_t own_offset, double* out))
// Rows [begin, end) of one side against all of the other: w_j = factor_j exp(start_i + score_ij) with factor null: ones, total_i = sum_j w_j,
// gradient_i = sum_j w_j (x_j - z_i). Both are indexed by row.
MEDGEN_KERNEL(parzen_weigh, (const medgen::ParzenRows& rows, const double* start, const medgen::ParzenPoints& points, const double* factor,
                             std::int64_t own_offset, std::int64_t begin, std::int64_t end, double* gradient, double* total))
// The k nearest points of queries [begin, end), nearest first, of equals the first: whitened distances and numbers, each [., k].
// exact: the whitened points [count, dim] in double, which decide; reach: their largest norm.
MEDGEN_KERNEL(parzen_nearest, (const medgen::ParzenRows& queries, const medgen::ParzenPoints& points, const double* exact, double reach,
                               std::int64_t k, std::int64_t begin, std::int64_t end, double* distances, std::int64_t* numbers))
