// The k nearest points: float scores pass over what cannot be among them, double distances decide.

#include <algorithm>
#include <cmath>

#include "cpu/parzen.h"
#include "cpu/parzen_pack.h"

MEDGEN_NAMESPACE_BEGIN
namespace {

// The k best of one query so far, nearest first; equal ones in the order of the points.
class Nearest {
 public:
  Nearest(std::int64_t k, double slack, double relative) : k_(k), slack_(slack), relative_(relative) {}

  void offer(double square, std::int64_t number) {
    const double key = square < INFINITY ? square : INFINITY;  // NaN is as far as can be
    std::size_t at = keys_.size();
    if (static_cast<std::int64_t>(at) == k_) {
      if (!(key < keys_.back())) return;
      keys_.pop_back(), numbers_.pop_back(), --at;
    }
    while (at > 0 && key < keys_[at - 1]) --at;
    keys_.insert(keys_.begin() + static_cast<std::ptrdiff_t>(at), key);
    numbers_.insert(numbers_.begin() + static_cast<std::ptrdiff_t>(at), number);
  }

  // What a float score must exceed to be worth a look: rounding of the coordinates moves a distance by at most `slack`, the rest is relative.
  float bar() const {
    if (static_cast<std::int64_t>(keys_.size()) < k_) return -INFINITY;
    const double distance = std::sqrt(keys_.back()) * relative_ + slack_;
    return static_cast<float>(-(kUnit * kUnit) * distance * distance * (1.0 + 1e-6)) - 1e-37f;
  }

  const std::vector<double>& keys() const { return keys_; }
  const std::vector<std::int64_t>& numbers() const { return numbers_; }

 private:
  std::int64_t k_;
  double slack_, relative_;
  std::vector<double> keys_;
  std::vector<std::int64_t> numbers_;
};

// Distance of lane `lane` of z [dim][kWhiten] to one whitened point.
double exact_square(const double* z, int lane, const double* point, std::int64_t dim) {
  double square = 0.0;
  for (std::int64_t k = 0; k < dim; ++k) {
    const double d = z[k * kWhiten + lane] - point[k];
    square += d * d;
  }
  return square;
}

constexpr int L = kLaneCount<float>;

// Lanes [from, from + used) of z against all points.
void search(const double* z, int from, int used, const float* q, const ParzenPoints& points, const double* exact, std::vector<Nearest>& best) {
  const std::int64_t dim = points.dim, tiles = (points.count + kPoints - 1) / kPoints;
  const float *x = static_cast<const float*>(points.x), *direct = static_cast<const float*>(points.direct);
  alignas(64) float bars[L], scores[L];
  for (int lane = 0; lane < L; ++lane) bars[lane] = lane < used ? -INFINITY : INFINITY;
  for (std::int64_t t = 0; t < tiles; ++t) {
    Simd<float> s[kPoints][kQueries], over = splat<float>(-FLT_MAX);
    tile_scores<float, false>(s, q, x + t * dim * kPoints, direct + t * kPoints, dim);
#pragma GCC unroll 8
    for (int v = 0; v < kQueries; ++v) {
      Simd<float> top = splat<float>(-FLT_MAX);
#pragma GCC unroll 8
      for (int j = 0; j < kPoints; ++j) top = larger(s[j][v], top);
      over = larger(over, top - load(bars + v * kWidth<float>));
    }
    if (!any_above(over, 0.0f)) continue;
    for (int j = 0; j < kPoints && t * kPoints + j < points.count; ++j) {
      for (int v = 0; v < kQueries; ++v) store(scores + v * kWidth<float>, larger(s[j][v], splat<float>(-FLT_MAX)));
      for (int lane = 0; lane < used; ++lane) {
        if (!(scores[lane] > bars[lane])) continue;
        const std::int64_t number = t * kPoints + j;
        Nearest& mine = best[static_cast<std::size_t>(lane)];
        mine.offer(exact_square(z, from + lane, exact + number * dim, dim), number);
        bars[lane] = mine.bar();
      }
    }
  }
}

}  // namespace

void parzen_nearest(const ParzenRows& queries, const ParzenPoints& points, const double* exact, double reach, std::int64_t k, std::int64_t begin,
                    std::int64_t end, double* distances, std::int64_t* numbers) {
  const std::int64_t dim = queries.dim;
  const Aligned<double> z(dim * kWhiten);
  const Aligned<float> q(dim * L);
  const double unit = 0x1p-24, relative = 1.0 + 2.0 * static_cast<double>(dim + 4) * unit;
  for (std::int64_t i = begin; i < end; i += kWhiten) {
    const int n = static_cast<int>(std::min<std::int64_t>(kWhiten, end - i));
    whiten(queries, [i](int lane) { return i + lane; }, n, z.get());
    double squares[kWhiten];
    squared_norms(z.get(), dim, squares);
    for (int from = 0; from < n; from += L) {
      const int used = std::min(L, n - from);
      double rounded[L];
      pack_queries<float>(z.get(), from, dim, false, q.get(), rounded);
      std::vector<Nearest> best;
      for (int lane = 0; lane < used; ++lane) best.emplace_back(k, 2.0 * unit * (reach + std::sqrt(squares[from + lane])), relative);
      search(z.get(), from, used, q.get(), points, exact, best);
      for (int lane = 0; lane < used; ++lane)
        for (std::int64_t r = 0; r < k; ++r) {
          const std::size_t at = static_cast<std::size_t>(r);
          const std::int64_t row = i + from + lane, number = best[static_cast<std::size_t>(lane)].numbers()[at];
          const double key = best[static_cast<std::size_t>(lane)].keys()[at];
          // an infinite key may stand for NaN
          distances[row * k + r] = std::sqrt(key < INFINITY ? key : exact_square(z.get(), from + lane, exact + number * dim, dim));
          numbers[row * k + r] = number;
        }
    }
  }
}

MEDGEN_NAMESPACE_END
