// Log-sums on the ordinary cores: differences, and products in double or of more than kSplitMost dimensions.
//
// A block holds 64 queries and streams points through shared memory, 64 at a time; a thread has 4 x 4 scores in registers and its own
// running log-sums, which are merged in a fixed order. Forms, passes and merges are those of the CPU (core/parzen.h).
#pragma once

#include <cfloat>

#include "core/logsumexp.h"
#include "core/parzen.h"
#include "cuda/launch.cuh"

namespace medgen {
namespace {

constexpr int kTile = 64, kDepth = 16, kSide = 16, kEach = kTile / kSide;
constexpr std::int64_t kChunk = 12288, kNoOwn = INT64_MIN;

template <class T>
__device__ constexpr T lowest() {
  return sizeof(T) == 4 ? static_cast<T>(-FLT_MAX) : static_cast<T>(-DBL_MAX);
}

template <class T>
struct Scan {
  const T *queries, *points;                          // [M, D] and [N, D] in score units
  const double *query_squares, *point_squares, *log_weights;
  const std::uint8_t* forms;
  std::int64_t m, n, dim, own_offset;
  double* parts;  // [chunks, M, 2]
};

// A 64 x 16 panel of rows, transposed; rows beyond `count` are zeros.
template <class T>
__device__ __forceinline__ void load_panel(T (&to)[kDepth][kTile + 1], const T* rows, std::int64_t first, std::int64_t count, std::int64_t dim,
                                           std::int64_t depth) {
#pragma unroll
  for (int e = 0; e < kEach; ++e) {
    const int at = static_cast<int>(threadIdx.x) + e * kThreads, r = at / kDepth, k = at % kDepth;
    const bool there = first + r < count && depth + k < dim;
    to[k][r] = there ? rows[(first + r) * dim + depth + k] : T(0);
  }
}

// Adds 4 scores of one query to a running (top, sum): rescaled only where a score is far above `top`.
template <class T>
__device__ __forceinline__ void add_scores(const T (&s)[kEach], T& top, T& sum) {
  T best = s[0];
#pragma unroll
  for (int j = 1; j < kEach; ++j) best = s[j] > best ? s[j] : best;
  if (best - top > T(60)) {
    const T next = ceil(best);
    sum = top > lowest<T>() ? sum * exp2(top - next) : T(0);
    top = next;
  }
#pragma unroll
  for (int j = 0; j < kEach; ++j) sum += s[j] > lowest<T>() ? exp2(s[j] - top) : T(0);
}

// The scores of one tile: products, or minus squared differences, summed over dimensions.
template <class T, bool kProduct>
__device__ __forceinline__ void tile_scores(const Scan<T>& job, std::int64_t first, std::int64_t point, T (&q)[kDepth][kTile + 1],
                                            T (&x)[kDepth][kTile + 1], T (&s)[kEach][kEach]) {
  const int row = static_cast<int>(threadIdx.x) / kSide, column = static_cast<int>(threadIdx.x) % kSide;
#pragma unroll
  for (int i = 0; i < kEach; ++i)
#pragma unroll
    for (int j = 0; j < kEach; ++j) s[i][j] = T(0);
  for (std::int64_t depth = 0; depth < job.dim; depth += kDepth) {
    __syncthreads();
    load_panel(q, job.queries, first, job.m, job.dim, depth);
    load_panel(x, job.points, point, job.n, job.dim, depth);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      T a[kEach], b[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) a[i] = q[k][row + i * kSide], b[i] = x[k][column + i * kSide];
#pragma unroll
      for (int i = 0; i < kEach; ++i)
#pragma unroll
        for (int j = 0; j < kEach; ++j) {
          const T d = kProduct ? a[i] : a[i] - b[j];
          s[i][j] += kProduct ? (d + d) * b[j] : -(d * d);
        }
    }
  }
}

template <class T, bool kProduct>
__global__ void __launch_bounds__(kThreads, 2) scan(Scan<T> job, int form, bool split) {
  __shared__ T q[kDepth][kTile + 1], x[kDepth][kTile + 1];
  __shared__ double tops[kTile][kSide], sums[kTile][kSide];
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const int thread = static_cast<int>(threadIdx.x), row = thread / kSide, column = thread % kSide;
  const bool mine = thread < kTile && first + thread < job.m && job.forms[first + thread] == form;
  if (!__syncthreads_or(mine)) return;
  LogSum merged;
  const std::int64_t start = split ? static_cast<std::int64_t>(blockIdx.y) * kChunk : 0, stop = split ? min(job.n, start + kChunk) : job.n;
  for (std::int64_t chunk = start; chunk < stop; chunk += kChunk) {
    T top[kEach], sum[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) top[i] = lowest<T>(), sum[i] = T(0);
    for (std::int64_t point = chunk; point < min(stop, chunk + kChunk); point += kTile) {
      T s[kEach][kEach];
      tile_scores<T, kProduct>(job, first, point, q, x, s);
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        const std::int64_t at = point + column + j * kSide;
        const double weight = at < job.n ? job.log_weights[at] * kLog2e - (kProduct ? job.point_squares[at] : 0.0) : -INFINITY;
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
          const bool own = job.own_offset != kNoOwn && first + row + i * kSide + job.own_offset == at;
          s[i][j] = own || weight == -INFINITY ? lowest<T>() : s[i][j] + static_cast<T>(weight);
        }
      }
#pragma unroll
      for (int i = 0; i < kEach; ++i) add_scores(s[i], top[i], sum[i]);
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      tops[row + i * kSide][column] = top[i] > lowest<T>() ? static_cast<double>(top[i]) * kLn2 : -INFINITY;
      sums[row + i * kSide][column] = static_cast<double>(sum[i]);
    }
    __syncthreads();
    if (mine) {
      LogSum part;
      for (int c = 0; c < kSide; ++c) part.merge({tops[thread][c], sums[thread][c]});
      if (kProduct) part.max -= job.query_squares[first + thread] * kLn2;
      merged.merge(part);
    }
    __syncthreads();
  }
  if (mine) {
    double* pair = job.parts + 2 * ((split ? static_cast<std::int64_t>(blockIdx.y) * job.m : 0) + first + thread);
    pair[0] = merged.max, pair[1] = merged.sum;
  }
}

}  // namespace
}  // namespace medgen
