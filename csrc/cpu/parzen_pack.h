// Whitening in double, and packing into tiles.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "cpu/parzen.h"
#include "cpu/parzen_scan.h"

MEDGEN_NAMESPACE_BEGIN

// Memory on a cache line's boundary, which vector loads need.
template <class T>
class Aligned {
 public:
  explicit Aligned(std::int64_t count) : data_(static_cast<T*>(std::aligned_alloc(64, (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64))) {
    if (data_ == nullptr) throw std::bad_alloc();
  }
  T* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
};

inline constexpr int kWhiten = 64;  // rows whitened together

// z = L^-1 (row - centre) of rows number(0 .. n - 1), n <= 64, as z[dim][64]; missing lanes are zero.
template <class Number>
inline void whiten(const ParzenRows& rows, const Number& number, int n, double* z) {
  const std::int64_t dim = rows.dim;
  for (int lane = 0; lane < kWhiten; ++lane) {
    const std::int64_t at = (lane < n ? number(lane) : 0) * dim;
    for (std::int64_t k = 0; k < dim; ++k) {
      const double raw = lane >= n ? rows.centre[k]
                         : rows.is_double ? static_cast<const double*>(rows.data)[at + k]
                                          : static_cast<double>(static_cast<const float*>(rows.data)[at + k]);
      z[k * kWhiten + lane] = raw - rows.centre[k];
    }
  }
  for (std::int64_t i = 0; i < dim; ++i) {
    double* zi = z + i * kWhiten;
    if (rows.dense)
      for (std::int64_t k = 0; k < i; ++k) {
        const double l = rows.factor[i * dim + k];
        const double* zk = z + k * kWhiten;
#pragma omp simd
        for (int lane = 0; lane < kWhiten; ++lane) zi[lane] -= l * zk[lane];
      }
    const double inverse = 1.0 / rows.factor[rows.dense ? i * dim + i : i];
#pragma omp simd
    for (int lane = 0; lane < kWhiten; ++lane) zi[lane] *= inverse;
  }
}

inline void squared_norms(const double* z, std::int64_t dim, double* norms) {
  for (int lane = 0; lane < kWhiten; ++lane) norms[lane] = 0.0;
  for (std::int64_t k = 0; k < dim; ++k)
#pragma omp simd
    for (int lane = 0; lane < kWhiten; ++lane) norms[lane] += z[k * kWhiten + lane] * z[k * kWhiten + lane];
}

// Lanes [from, from + kLaneCount<T>) of z as a block of queries in score units; squares: |q|^2 in powers of two, of the rounded coordinates.
template <class T>
inline void pack_queries(const double* z, int from, std::int64_t dim, bool product, T* q, double* squares) {
  constexpr int L = kLaneCount<T>;
  for (int lane = 0; lane < L; ++lane) squares[lane] = 0.0;
  for (std::int64_t k = 0; k < dim; ++k)
#pragma omp simd
    for (int lane = 0; lane < L; ++lane) {
      const T value = static_cast<T>(z[k * kWhiten + from + lane] * kUnit);
      squares[lane] += static_cast<double>(value) * static_cast<double>(value);
      q[k * L + lane] = product ? value + value : value;
    }
}

// Points [begin, end) of the tiles; what pads the last tile has no weight.
template <class T>
inline bool pack_points(const ParzenRows& rows, const double* log_weights, const ParzenPoints& to, std::int64_t begin, std::int64_t end) {
  T *x = static_cast<T*>(to.x), *product = static_cast<T*>(to.product), *direct = static_cast<T*>(to.direct);
  const std::int64_t dim = rows.dim;
  Aligned<double> whitened(dim * kWhiten);
  double* z = whitened.get();
  bool poisoned = false;
  for (std::int64_t i = begin; i < end; i += kWhiten) {
    const int n = static_cast<int>(end - i < kWhiten ? end - i : kWhiten);
    whiten(rows, [i](int lane) { return i + lane; }, n, z);
    for (int lane = 0; lane < n; ++lane) {
      const std::int64_t j = i + lane;
      T* column = x + j / kPoints * dim * kPoints + j % kPoints;
      double square = 0.0;
      for (std::int64_t k = 0; k < dim; ++k) {
        const T value = static_cast<T>(z[k * kWhiten + lane] * kUnit);
        square += static_cast<double>(value) * static_cast<double>(value);
        column[k * kPoints] = value;
      }
      const double start = log_weights == nullptr ? 0.0 : log_weights[j] * kLog2e;
      poisoned = poisoned || !(square < static_cast<double>(INFINITY)) || !(start < static_cast<double>(INFINITY));
      const double lowest = static_cast<double>(Floor<T>::value);
      direct[j] = static_cast<T>(start > lowest ? start : lowest);
      product[j] = static_cast<T>(start - square > lowest ? start - square : lowest);
    }
  }
  if (end == rows.count)
    for (std::int64_t j = end; j % kPoints != 0; ++j) {
      for (std::int64_t k = 0; k < dim; ++k) x[j / kPoints * dim * kPoints + k * kPoints + j % kPoints] = T{0};
      direct[j] = product[j] = Floor<T>::value;
    }
  return poisoned;
}

MEDGEN_NAMESPACE_END
