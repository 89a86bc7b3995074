// The inner loops of the Parzen density: a register tile of kQueries vectors of queries by kPoints points.
//
// Scores are powers of two. A lane's reference power `top` (an integer, so that scaling is exact) rises only when a score exceeds it by
// kHeadroom, so that the common path has one exp2 per pair, one comparison per tile, and no branch per pair. What a lane computes depends
// on its query and on the order of the points, not on the other lanes.
#pragma once

#include <cfloat>
#include <cstdint>

#include "core/logsumexp.h"
#include "core/parzen.h"
#include "cpu/simd.h"

MEDGEN_NAMESPACE_BEGIN

#if defined(__AVX512F__)
inline constexpr int kQueries = 4, kPoints = 6;  // 24 of 32 registers hold scores
#else
inline constexpr int kQueries = 2, kPoints = 4;
#endif
template <class T>
inline constexpr int kLaneCount = kQueries * kWidth<T>;

template <class T>
struct Floor {
  static constexpr T value = sizeof(T) == 4 ? static_cast<T>(-FLT_MAX) : static_cast<T>(-DBL_MAX);
};

// The scores of one tile: constant[j] plus q.x (kProduct) or minus |q - x|^2. q is [dim][lanes], x is [dim][kPoints].
template <class T, bool kProduct>
MEDGEN_HD void tile_scores(Simd<T> (&s)[kPoints][kQueries], const T* q, const T* x, const T* constant, std::int64_t dim) {
#pragma GCC unroll 8
  for (int j = 0; j < kPoints; ++j) {
    const Simd<T> c = splat<T>(constant[j]);
#pragma GCC unroll 8
    for (int v = 0; v < kQueries; ++v) s[j][v] = c;
  }
  for (std::int64_t k = 0; k < dim; ++k, q += kLaneCount<T>, x += kPoints) {
    Simd<T> y[kQueries];
#pragma GCC unroll 8
    for (int v = 0; v < kQueries; ++v) y[v] = load(q + v * kWidth<T>);
#pragma GCC unroll 8
    for (int j = 0; j < kPoints; ++j) {
      const Simd<T> p = splat<T>(x[j]);
#pragma GCC unroll 8
      for (int v = 0; v < kQueries; ++v) {
        if constexpr (kProduct) {
          s[j][v] += y[v] * p;
        } else {
          const Simd<T> d = y[v] - p;
          s[j][v] -= d * d;
        }
      }
    }
  }
}

// own[lane]: the point, counted from the tile's first, that this query is; its score leaves the sum.
template <class T>
MEDGEN_HD void leave_out(Simd<T> (&s)[kPoints][kQueries], const std::int64_t* own, std::int64_t first) {
  using Int = typename SimdOf<T>::Int;
  alignas(64) Int relative[kLaneCount<T>];
  for (int lane = 0; lane < kLaneCount<T>; ++lane) {
    const std::int64_t at = own[lane] - first;
    relative[lane] = at >= 0 && at < kPoints ? static_cast<Int>(at) : Int{-1};
  }
#pragma GCC unroll 8
  for (int v = 0; v < kQueries; ++v) {
    using I = typename SimdOf<T>::I;
    const I at = *reinterpret_cast<const I*>(relative + v * kWidth<T>);
#pragma GCC unroll 8
    for (int j = 0; j < kPoints; ++j) s[j][v] = (at == static_cast<Int>(j)) ? splat<T>(Floor<T>::value) : s[j][v];
  }
}

// A smallest integer not below x, as far as T can tell.
template <class T>
MEDGEN_HD Simd<T> integer_above(Simd<T> x) {
  Simd<T> up;
  for (int i = 0; i < kWidth<T>; ++i) up[i] = sizeof(T) == 4 ? __builtin_ceilf(static_cast<float>(x[i])) : __builtin_ceil(x[i]);
  return up;
}

// The sums of one block of lanes while points stream by.
template <class T>
struct Running {
  Simd<T> top[kQueries], sum[kQueries];  // sum: of the current run of points, in units of 2^top
  alignas(64) double total[kLaneCount<T>];

  MEDGEN_HD void start() {
    for (int v = 0; v < kQueries; ++v) top[v] = splat<T>(Floor<T>::value), sum[v] = Simd<T>{};
    for (double& t : total) t = 0.0;
  }

  MEDGEN_HD void fold() {
    for (int v = 0; v < kQueries; ++v) {
      alignas(64) T part[kWidth<T>];
      store(part, sum[v]);
#pragma omp simd
      for (int i = 0; i < kWidth<T>; ++i) total[v * kWidth<T> + i] += static_cast<double>(part[i]);
      sum[v] = Simd<T>{};
    }
  }

  // Raises the reference of the lanes whose best score is too far above it; the others' sums are not even folded, since that would round.
  __attribute__((noinline)) void raise(const Simd<T> (&best)[kQueries]) {
    for (int v = 0; v < kQueries; ++v) {
      const Simd<T> next = best[v] - top[v] > kHeadroom ? integer_above<T>(best[v]) : top[v];
      const Simd<T> factor = add_exp2<T>(Simd<T>{}, top[v] - next);
      for (int i = 0; i < kWidth<T>; ++i) {
        if (!(next[i] > top[v][i])) continue;
        double& t = total[v * kWidth<T> + i];
        t = (t + static_cast<double>(sum[v][i])) * static_cast<double>(factor[i]);
        sum[v][i] = T{0};
      }
      top[v] = next;
    }
  }

  // Adds a tile of scores.
  MEDGEN_HD void add(const Simd<T> (&s)[kPoints][kQueries]) {
    Simd<T> best[kQueries], over = splat<T>(Floor<T>::value);
#pragma GCC unroll 8
    for (int v = 0; v < kQueries; ++v) {
      best[v] = s[0][v];
#pragma GCC unroll 8
      for (int j = 1; j < kPoints; ++j) best[v] = larger(best[v], s[j][v]);
      over = larger(over, best[v] - top[v]);
    }
    if (__builtin_expect(any_above(over, kHeadroom), 0)) raise(best);
    else if (!any_above(over, Exp2<T>::kLowest)) return;  // every term is below the last bit of a sum of at least one
#pragma GCC unroll 8
    for (int j = 0; j < kPoints; ++j)
#pragma GCC unroll 8
      for (int v = 0; v < kQueries; ++v) sum[v] = add_exp2<T>(sum[v], s[j][v] - top[v]);
  }

  // In nats.
  MEDGEN_HD LogSum result(int lane) const {
    const double power = static_cast<double>(top[lane / kWidth<T>][lane % kWidth<T>]);
    return power > static_cast<double>(Floor<T>::value) ? LogSum{power * kLn2, total[lane]} : LogSum{};
  }

  static constexpr T kHeadroom = static_cast<T>(sizeof(T) == 4 ? 60 : 500);
};

inline constexpr int kRun = 64;  // tiles whose terms are added in T before they are folded into double

// Adds the points of tiles [begin, end), begin a multiple of kRun. own: per lane, or null.
template <class T, bool kProduct>
void scan_tiles(Running<T>& sums, const T* q, const T* points, const T* constant, std::int64_t begin, std::int64_t end, std::int64_t dim,
                const std::int64_t* own) {
  Running<T> running = sums;
  std::int64_t own_low = INT64_MAX, own_high = -1;
  for (int lane = 0; own != nullptr && lane < kLaneCount<T>; ++lane) {
    own_low = own[lane] < own_low ? own[lane] : own_low;
    own_high = own[lane] > own_high ? own[lane] : own_high;
  }
  for (std::int64_t run = begin; run < end; run += kRun) {
    const std::int64_t stop = run + kRun < end ? run + kRun : end;
    for (std::int64_t t = run; t < stop; ++t) {
      Simd<T> s[kPoints][kQueries];
      tile_scores<T, kProduct>(s, q, points + t * dim * kPoints, constant + t * kPoints, dim);
      if (__builtin_expect(own_low < (t + 1) * kPoints && own_high >= t * kPoints, 0)) leave_out<T>(s, own, t * kPoints);
      running.add(s);
    }
    running.fold();
  }
  sums = running;
}

MEDGEN_NAMESPACE_END
