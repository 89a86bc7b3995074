// Affine and additive coupling: one pass over x, s, t. The gradients: coupling_grad.cpp.

#include "cpu/coupling.h"

#include <algorithm>
#include <cstdint>

#include "cpu/coupling_sites.h"
#include "cpu/sums.h"

MEDGEN_NAMESPACE_BEGIN
namespace {

constexpr std::int64_t kBuffer = 1024;  // elements of the detour through L1 that streaming stores take

template <class F, class T = typename F::T>
MEDGEN_HD T transform(T x, const T* s, const T* t, std::int64_t i, T s_max, T inverse_s_max, double& sum) {
  if constexpr (F::kAdditive) {
    return F::kInverse ? x - t[i] : x + t[i];
  } else {
    const T b = bound<F::kBound>(s[i], s_max, inverse_s_max);
    sum += static_cast<double>(b);
    return affine<F::kInverse>(x, b, t[i]);
  }
}

// work(index, pointers of 32 elements...) over n: the last block, if shorter, in copies filled up with zeros, so that every block runs the
// same vector code. `kStride` elements of x and y belong to one of s and t.
template <int kStride, bool kAdditive, class T, class Work>
MEDGEN_HD void by_lanes(T* y, const T* x, const T* s, const T* t, std::int64_t n, const Work& work) {
  constexpr int kWide = kStride * kSumLanes;
  alignas(64) T tail[3 * kWide];
  for (std::int64_t i = 0; i < n; i += kSumLanes) {
    const T *from = x + kStride * i, *scale = kAdditive ? nullptr : s + i, *shift = t + i;
    T* to = y + kStride * i;
    const std::int64_t m = std::min<std::int64_t>(kSumLanes, n - i);
    if (m < kSumLanes) {
      std::fill(tail, tail + 3 * kWide, T(0));
      from = std::copy(from, from + kStride * m, tail) - kStride * m;
      if (!kAdditive) scale = std::copy(scale, scale + m, tail + kWide) - m;
      shift = std::copy(shift, shift + m, tail + 2 * kWide) - m;
      to = tail;
    }
    work(to, from, scale, shift);
    if (m < kSumLanes) std::copy(tail, tail + kStride * m, y + kStride * i);
  }
}

// n contiguous elements, all transformed.
template <class F, class T = typename F::T>
MEDGEN_ONCE void run(T* y, const T* x, const T* s, const T* t, std::int64_t n, T s_max, LaneSum& sum) {
  const T inverse_s_max = T(1) / s_max;
  by_lanes<1, F::kAdditive>(y, x, s, t, n, [&](T* to, const T* from, const T* scale, const T* shift) {
#pragma omp simd
    for (int j = 0; j < kSumLanes; ++j) to[j] = transform<F>(from[j], scale, shift, j, s_max, inverse_s_max, sum.lane[j]);
  });
}

// n contiguous elements, those with index % 2 == odd transformed, parameters for every element.
template <class F, class T = typename F::T>
MEDGEN_ONCE void run_every_other(T* y, const T* x, const T* s, const T* t, std::int64_t n, int odd, T s_max, LaneSum& sum) {
  const T inverse_s_max = T(1) / s_max;
  by_lanes<1, F::kAdditive>(y, x, s, t, n, [&](T* to, const T* from, const T* scale, const T* shift) {
#pragma omp simd
    for (int j = 0; j < kSumLanes; ++j) {
      double term = 0.0;
      const T value = transform<F>(from[j], scale, shift, j, s_max, inverse_s_max, term);
      const bool on = (j & 1) == odd;
      to[j] = on ? value : from[j];
      sum.lane[j] += on ? term : 0.0;
    }
  });
}

// n pairs; element `odd` of each is transformed with parameters i.
template <class F, class T = typename F::T>
MEDGEN_ONCE void run_pairs(T* y, const T* x, const T* s, const T* t, std::int64_t n, int odd, T s_max, LaneSum& sum) {
  const T inverse_s_max = T(1) / s_max;
  by_lanes<2, F::kAdditive>(y, x, s, t, n, [&](T* to, const T* from, const T* scale, const T* shift) {
#pragma omp simd
    for (int j = 0; j < kSumLanes; ++j) {
      const T first = from[2 * j], second = from[2 * j + 1];
      const T value = transform<F>(odd != 0 ? second : first, scale, shift, j, s_max, inverse_s_max, sum.lane[j]);
      to[2 * j] = odd != 0 ? first : value;
      to[2 * j + 1] = odd != 0 ? value : second;
    }
  });
}

// work(to, offset, n) over n elements, straight into y or through a buffer and streaming stores.
template <class T, class Work>
MEDGEN_HD void emit(bool stream, T* y, std::int64_t n, const Work& work) {
  alignas(64) T buffer[kBuffer];
  const std::int64_t step = stream ? kBuffer : n;
  for (std::int64_t i = 0; i < n; i += step) {
    const std::int64_t m = std::min(step, n - i);
    work(stream ? buffer : y + i, i, m);
    if (stream) stream_copy(y + i, buffer, m);
  }
}

template <class F, class T = typename F::T>
void chunk(const CouplingArgs<T>& a, std::int64_t b, std::int64_t c, LaneSum& sum) {
  const T *x = a.x + b * a.x_row, *s = F::kAdditive ? nullptr : a.s + b * a.s_row, *t = a.t + b * a.t_row;
  T* y = a.y + b * a.y_row;
  const auto at = [&](std::int64_t i) { return F::kAdditive ? nullptr : s + i; };
  if (a.layout.pattern != Pattern::kChecker) {
    blocks(a.layout, a.chunks, c, [&](bool on, std::int64_t o, std::int64_t p, std::int64_t n) {
      if (on) {
        emit(a.stream, y + o, n, [&](T* to, std::int64_t i, std::int64_t m) { run<F>(to, x + o + i, at(p + i), t + p + i, m, a.s_max, sum); });
      } else if (x != y) {
        if (a.stream) {
          stream_copy(y + o, x + o, n);
        } else {
          std::memcpy(y + o, x + o, static_cast<std::size_t>(n) * sizeof(T));
        }
      }
    });
    return;
  }
  lines(a.layout, a.chunks, c, [&](int odd, std::int64_t o, std::int64_t n) {
    if (a.layout.full) {
      emit(a.stream, y + o, n, [&](T* to, std::int64_t i, std::int64_t m) { run_every_other<F>(to, x + o + i, at(o + i), t + o + i, m, odd, a.s_max, sum); });
      return;
    }
    // One line is the whole sample here, and chunks begin at even offsets: the parameters of a chunk begin at o / 2.
    run_pairs<F>(y + o, x + o, at(o / 2), t + o / 2, n / 2, odd, a.s_max, sum);
    if (n % 2 != 0) {
      if (odd == 0) {
        run<F>(y + o + n - 1, x + o + n - 1, at((o + n) / 2), t + (o + n) / 2, 1, a.s_max, sum);
      } else {
        y[o + n - 1] = x[o + n - 1];
      }
    }
  });
}

template <class F, class T = typename F::T>
void forward(const CouplingArgs<T>& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t q = begin; q < end; ++q) {
    const std::int64_t b = a.chunks == 1 ? q : q / a.chunks;
    LaneSum sum;
    chunk<F>(a, b, q - b * a.chunks, sum);
    if constexpr (!F::kAdditive) {
      const double total = F::kInverse ? -sum.total() : sum.total();
      if (a.partial != nullptr) {
        a.partial[q] = total;
      } else {
        a.log_det[b] = static_cast<T>(total);
      }
    }
  }
  if (a.stream) stream_fence();
}

template <class T, Bound kBound>
void forward_of(const CouplingArgs<T>& a, std::int64_t begin, std::int64_t end) {
  a.inverse ? forward<Form<T, kBound, true, false>>(a, begin, end) : forward<Form<T, kBound, false, false>>(a, begin, end);
}

template <class T>
void forward_any(const CouplingArgs<T>& a, std::int64_t begin, std::int64_t end) {
  if (a.additive) {
    a.inverse ? forward<Form<T, Bound::kNone, true, true>>(a, begin, end) : forward<Form<T, Bound::kNone, false, true>>(a, begin, end);
  } else if (a.bound == Bound::kTanh) {
    forward_of<T, Bound::kTanh>(a, begin, end);
  } else if (a.bound == Bound::kSoft) {
    forward_of<T, Bound::kSoft>(a, begin, end);
  } else {
    forward_of<T, Bound::kNone>(a, begin, end);
  }
}

}  // namespace

void coupling_float(const CouplingArgs<float>& a, std::int64_t begin, std::int64_t end) { forward_any(a, begin, end); }
void coupling_double(const CouplingArgs<double>& a, std::int64_t begin, std::int64_t end) { forward_any(a, begin, end); }

MEDGEN_NAMESPACE_END
