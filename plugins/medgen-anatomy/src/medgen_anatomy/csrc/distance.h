// Exact Euclidean distances. Only pixels of the image count: what lies outside it is near nothing.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "bits.h"

namespace anatomy {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Columns from c to the nearest set pixel of a row, or `limit` where there is none nearer.
inline int nearest_in_row(const Word* row, int words, int c, int limit) {
  const int k = c >> 6, bit = c & 63;
  int best = limit;
  for (int j = k; j >= 0 && c - 64 * j - 63 < best; --j) {
    const Word word = j == k ? row[j] & low_bits(bit + 1) : row[j];
    if (word) {
      best = std::min(best, c - (64 * j + 63 - std::countl_zero(word)));
      break;
    }
  }
  for (int j = k; j < words && 64 * j - c < best; ++j) {
    const Word word = j == k ? row[j] & ~low_bits(bit) : row[j];
    if (word) {
      best = std::min(best, 64 * j + std::countr_zero(word) - c);
      break;
    }
  }
  return best;
}

// Squared distance from (r, c) to the nearest set pixel of `target`, if it is below `best`, else `best`.
inline double nearest(const Bits& target, int r, int c, double dy, double dx, double best) {
  int limit = target.width;
  for (int k = 0; k < target.height && k * dy * (k * dy) < best; ++k) {
    for (const int y : {r - k, r + k}) {
      if (y < 0 || y >= target.height) continue;
      const int d = nearest_in_row(target.row(y), target.words, c, limit);
      const double square = k * dy * (k * dy) + d * dx * (d * dx);
      if (d == limit || square >= best) continue;
      best = square;
      limit = static_cast<int>(std::min<double>(target.width, std::sqrt(best) / dx + 2));
    }
  }
  return best;
}

// Squared distance of every pixel to the nearest set one of `target`, row by row; infinite where there is none.
class DistanceTransform {
 public:
  const std::vector<double>& run(const Bits& target, double dy, double dx) {
    const int h = target.height, w = target.width;
    const std::size_t n = static_cast<std::size_t>(h) * w;
    squares_.resize(n);
    rows_.assign(w, -1);
    // down: rows to the nearest target above or here; then up
    for (int r = 0; r < h; ++r)
      for (int c = 0; c < w; ++c) {
        if (target.get(r, c)) rows_[c] = r;
        squares_[static_cast<std::size_t>(r) * w + c] = rows_[c] < 0 ? kInfinity : r - rows_[c];
      }
    rows_.assign(w, -1);
    for (int r = h - 1; r >= 0; --r)
      for (int c = 0; c < w; ++c) {
        if (target.get(r, c)) rows_[c] = r;
        double& value = squares_[static_cast<std::size_t>(r) * w + c];
        const double rows = rows_[c] < 0 ? value : std::min<double>(value, rows_[c] - r);
        value = rows * dy * (rows * dy);
      }
    for (int r = 0; r < h; ++r) across(squares_.data() + static_cast<std::size_t>(r) * w, w, dx);
    return squares_;
  }

 private:
  // Lower envelope of the parabolas f(q) + (c - q)^2 dx^2 (Felzenszwalb and Huttenlocher, Distance transforms of sampled functions, 2012).
  void across(double* f, int w, double dx) {
    height_.clear(), place_.clear(), from_.clear();
    const double unit = dx * dx;
    for (int q = 0; q < w; ++q) {
      if (!std::isfinite(f[q])) continue;
      double start = -kInfinity;
      while (!place_.empty()) {
        const double p = place_.back();
        start = (f[q] - height_.back()) / (2 * unit * (q - p)) + (q + p) / 2;
        if (start > from_.back()) break;
        height_.pop_back(), place_.pop_back(), from_.pop_back();
        start = -kInfinity;
      }
      height_.push_back(f[q]), place_.push_back(q), from_.push_back(start);
    }
    if (place_.empty()) return;
    std::size_t j = 0;
    for (int c = 0; c < w; ++c) {
      while (j + 1 < place_.size() && from_[j + 1] < c) ++j;
      const double columns = (c - place_[j]) * dx;
      f[c] = height_[j] + columns * columns;
    }
  }

  std::vector<double> squares_, height_, place_, from_;
  std::vector<int> rows_;
};

}  // namespace anatomy
