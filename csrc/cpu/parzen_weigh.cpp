// Gradients of the Parzen density: the softmax weights are computed again, tile by tile, from the saved log-density.

#include <algorithm>

#include "cpu/parzen.h"
#include "cpu/parzen_pack.h"

MEDGEN_NAMESPACE_BEGIN
namespace {

// sum [dim][lanes] += sum_j w_j x_j over one tile; x is [dim][kPoints].
template <class T>
MEDGEN_HD void add_weighted(T* sum, const Simd<T> (&w)[kPoints][kQueries], const T* x, std::int64_t dim) {
  for (std::int64_t k = 0; k < dim; ++k, sum += kLaneCount<T>, x += kPoints) {
    Simd<T> a[kQueries];
#pragma GCC unroll 8
    for (int v = 0; v < kQueries; ++v) a[v] = load(sum + v * kWidth<T>);
#pragma GCC unroll 8
    for (int j = 0; j < kPoints; ++j) {
      const Simd<T> p = splat<T>(x[j]);
#pragma GCC unroll 8
      for (int v = 0; v < kQueries; ++v) a[v] += w[j][v] * p;
    }
#pragma GCC unroll 8
    for (int v = 0; v < kQueries; ++v) store(sum + v * kWidth<T>, a[v]);
  }
}

// Scores to weights, in place; false where all of them vanish.
template <class T>
MEDGEN_HD bool to_weights(Simd<T> (&s)[kPoints][kQueries], const T* start, const T* factor) {
  Simd<T> best = splat<T>(Floor<T>::value);
#pragma GCC unroll 8
  for (int j = 0; j < kPoints; ++j)
#pragma GCC unroll 8
    for (int v = 0; v < kQueries; ++v) {
      s[j][v] += load(start + v * kWidth<T>);
      best = larger(best, s[j][v]);
    }
  if (!any_above(best, Exp2<T>::kLowest)) return false;
#pragma GCC unroll 8
  for (int j = 0; j < kPoints; ++j)
#pragma GCC unroll 8
    for (int v = 0; v < kQueries; ++v) {
      // a weight is at most one up to rounding; the bound only keeps a wrong log-density from making infinities
      const Simd<T> bounded = s[j][v] > T{100} ? splat<T>(T{100}) : s[j][v];
      s[j][v] = s[j][v] > Exp2<T>::kLowest ? add_exp2<T>(Simd<T>{}, bounded) * factor[j] : Simd<T>{};
    }
  return true;
}

template <class T>
struct Weighted {
  static constexpr int L = kLaneCount<T>;
  explicit Weighted(std::int64_t dim) : dim(dim), part(dim * L), sum(dim * L) {}

  void start() {
    std::fill(part.get(), part.get() + dim * L, T{0});
    std::fill(sum.get(), sum.get() + dim * L, 0.0);
    std::fill(total_part, total_part + L, T{0});
    std::fill(total, total + L, 0.0);
  }

  void fold() {
    for (std::int64_t i = 0; i < dim * L; ++i) sum.get()[i] += static_cast<double>(part.get()[i]);
    for (int lane = 0; lane < L; ++lane) total[lane] += static_cast<double>(total_part[lane]);
    std::fill(part.get(), part.get() + dim * L, T{0});
    std::fill(total_part, total_part + L, T{0});
  }

  void add(const Simd<T> (&w)[kPoints][kQueries], const T* x) {
    add_weighted<T>(part.get(), w, x, dim);
    for (int v = 0; v < kQueries; ++v) {
      Simd<T> t = load(total_part + v * kWidth<T>);
      for (int j = 0; j < kPoints; ++j) t += w[j][v];
      store(total_part + v * kWidth<T>, t);
    }
  }

  std::int64_t dim;
  Aligned<T> part;
  Aligned<double> sum;
  alignas(64) T total_part[L];
  alignas(64) double total[L];
};

template <class T>
void weigh_lanes(const T* q, const T* start, const ParzenPoints& points, const double* factor, const std::int64_t* own, Weighted<T>& out) {
  const std::int64_t tiles = (points.count + kPoints - 1) / kPoints;
  const T *x = static_cast<const T*>(points.x), *direct = static_cast<const T*>(points.direct);
  out.start();
  for (std::int64_t t = 0; t < tiles; ++t) {
    Simd<T> s[kPoints][kQueries];
    T by[kPoints];
    for (int j = 0; j < kPoints; ++j) {
      const std::int64_t at = t * kPoints + j;
      by[j] = at >= points.count ? T{0} : factor == nullptr ? T{1} : static_cast<T>(factor[at]);
    }
    tile_scores<T, false>(s, q, x + t * points.dim * kPoints, direct + t * kPoints, points.dim);
    if (own != nullptr) leave_out<T>(s, own, t * kPoints);
    if (to_weights<T>(s, start, by)) out.add(s, x + t * points.dim * kPoints);
    if (t % kRun == kRun - 1) out.fold();
  }
  out.fold();
}

template <class T>
void weigh(const ParzenRows& rows, const double* start, const ParzenPoints& points, const double* factor, std::int64_t own_offset, std::int64_t begin,
           std::int64_t end, double* gradient, double* total) {
  constexpr int L = kLaneCount<T>;
  const std::int64_t dim = rows.dim;
  const Aligned<double> z(dim * kWhiten);
  const Aligned<T> q(dim * L);
  Weighted<T> sums(dim);
  for (std::int64_t i = begin; i < end; i += kWhiten) {
    const int n = static_cast<int>(std::min<std::int64_t>(kWhiten, end - i));
    whiten(rows, [i](int lane) { return i + lane; }, n, z.get());
    for (int from = 0; from < n; from += L) {
      double squares[L];
      std::int64_t own[L];
      alignas(64) T starts[L];
      pack_queries<T>(z.get(), from, dim, false, q.get(), squares);
      for (int lane = 0; lane < L; ++lane) {
        const bool used = from + lane < n;
        const double value = used ? start[i + from + lane] * kLog2e : 0.0, lowest = static_cast<double>(Floor<T>::value);
        starts[lane] = static_cast<T>(value > lowest ? value : lowest);
        own[lane] = used && own_offset != kNoOwn ? i + from + lane + own_offset : -1;
      }
      weigh_lanes<T>(q.get(), starts, points, factor, own_offset == kNoOwn ? nullptr : own, sums);
      for (int lane = 0; lane < L && from + lane < n; ++lane) {
        const std::int64_t row = i + from + lane;
        total[row] = sums.total[lane];
        for (std::int64_t k = 0; k < dim; ++k)
          gradient[row * dim + k] = (sums.sum.get()[k * L + lane] - sums.total[lane] * static_cast<double>(q.get()[k * L + lane])) / kUnit;
      }
    }
  }
}

}  // namespace

void parzen_weigh(const ParzenRows& rows, const double* start, const ParzenPoints& points, const double* factor, std::int64_t own_offset,
                  std::int64_t begin, std::int64_t end, double* gradient, double* total) {
  if (points.wide) {
    weigh<double>(rows, start, points, factor, own_offset, begin, end, gradient, total);
  } else {
    weigh<float>(rows, start, points, factor, own_offset, begin, end, gradient, total);
  }
}

MEDGEN_NAMESPACE_END
