// Rational-quadratic spline coupling, 64 elements at a time: parameters as [3 K - 1][64], the bin found by selects.

#include "cpu/spline.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/rq_spline.h"
#include "cpu/sums.h"

MEDGEN_NAMESPACE_BEGIN
namespace {

constexpr int kLanes64 = 64;

// Elements of one block: where they lie, their parameters, and what was found.
template <class T>
struct Lanes {
  alignas(64) std::int64_t at[kLanes64], base[kLanes64];  // offsets of the element and of its first parameter
  alignas(64) T x[kLanes64], y[kLanes64], log_slope[kLanes64];
  alignas(64) T bx[kLanes64], bw[kLanes64], by[kLanes64], bh[kLanes64], d0[kLanes64], d1[kLanes64];
  alignas(64) T bin[kLanes64];  // its number, as T so that all selects have one width
  alignas(64) T g[kLanes64], A[kLanes64], B[kLanes64];
  alignas(64) T wsum[kLanes64], hsum[kLanes64];
  std::vector<T> raw;  // [3 K - 1][64]: raw parameters, then shares of the interval and slopes
  int n = 0;
};

// Raw values [K][64] become shares of the interval, each at least kLeastBin.
template <class T>
__attribute__((noinline)) void shares(T* raw, std::int64_t bins) {
  alignas(64) T top[kLanes64], sum[kLanes64];
  std::copy(raw, raw + kLanes64, top);
  for (std::int64_t k = 1; k < bins; ++k) {
    const T* r = raw + k * kLanes64;
#pragma omp simd
    for (int j = 0; j < kLanes64; ++j) top[j] = r[j] > top[j] ? r[j] : top[j];
  }
  std::fill(sum, sum + kLanes64, T(0));
  for (std::int64_t k = 0; k < bins; ++k) {
    T* r = raw + k * kLanes64;
#pragma omp simd
    for (int j = 0; j < kLanes64; ++j) {
      r[j] = fast_exp(r[j] - top[j]);
      sum[j] += r[j];
    }
  }
  const T rest = static_cast<T>(1.0 - kLeastBin * static_cast<double>(bins));
#pragma omp simd
  for (int j = 0; j < kLanes64; ++j) sum[j] = rest / sum[j];
  for (std::int64_t k = 0; k < bins; ++k) {
    T* r = raw + k * kLanes64;
#pragma omp simd
    for (int j = 0; j < kLanes64; ++j) r[j] = static_cast<T>(kLeastBin) + sum[j] * r[j];
  }
}

// Raw parameters into shares and slopes, and the bin of each element.
template <class T>
__attribute__((noinline)) void find_bins(Lanes<T>& l, std::int64_t bins, T tail, bool inverse) {
  T *w = l.raw.data(), *h = w + bins * kLanes64, *d = h + bins * kLanes64;
  shares(w, bins);
  shares(h, bins);
  for (std::int64_t k = 0; k + 1 < bins; ++k) {
    T* r = d + k * kLanes64;
#pragma omp simd
    for (int j = 0; j < kLanes64; ++j) r[j] = static_cast<T>(kLeastSlope) + softplus(r[j]);
  }
  alignas(64) T left[kLanes64], bottom[kLanes64], one[kLanes64];
  std::fill(left, left + kLanes64, -tail);
  std::fill(bottom, bottom + kLanes64, -tail);
  std::fill(one, one + kLanes64, T(1));
  for (std::int64_t k = 0; k < bins; ++k) {
    const T *wk = w + k * kLanes64, *hk = h + k * kLanes64, *from = k == 0 ? one : d + (k - 1) * kLanes64, *to = k + 1 == bins ? one : d + k * kLanes64;
    const bool first = k == 0;
    const T number = static_cast<T>(k);
#pragma omp simd
    for (int j = 0; j < kLanes64; ++j) {
      const T width = T(2) * tail * wk[j], height = T(2) * tail * hk[j];
      const bool here = first || l.x[j] >= (inverse ? bottom[j] : left[j]);
      l.bx[j] = here ? left[j] : l.bx[j];
      l.by[j] = here ? bottom[j] : l.by[j];
      l.bw[j] = here ? width : l.bw[j];
      l.bh[j] = here ? height : l.bh[j];
      l.d0[j] = here ? from[j] : l.d0[j];
      l.d1[j] = here ? to[j] : l.d1[j];
      l.bin[j] = here ? number : l.bin[j];
      left[j] += width;
      bottom[j] += height;
    }
  }
}

template <class T>
__attribute__((noinline)) void evaluate(Lanes<T>& l, T tail, bool inverse) {
#pragma omp simd
  for (int j = 0; j < kLanes64; ++j) {
    const Bin<T> b{l.bx[j], l.bw[j], l.by[j], l.bh[j], l.d0[j], l.d1[j]};
    const T theta = inverse ? bin_inverse(b, l.x[j]) : (l.x[j] - b.x) / b.w;
    const Rational<T> r = rational(b, theta);
    const bool inside = (l.x[j] >= -tail) & (l.x[j] <= tail);
    const T value = inverse ? theta * b.w + b.x : b.y + b.h * r.p, slope = bin_log_slope(r);
    l.y[j] = inside ? value : l.x[j];
    l.log_slope[j] = inside ? (inverse ? -slope : slope) : T(0);
  }
}

// From shares and slopes: the gradients of the raw parameters, in their place.
template <class T>
__attribute__((noinline)) void gradients(Lanes<T>& l, std::int64_t bins, T tail, T h, bool inverse) {
  T *w = l.raw.data(), *hs = w + bins * kLanes64, *d = hs + bins * kLanes64;
  alignas(64) T gx[kLanes64], gw[kLanes64], gy[kLanes64], gh[kLanes64], g0[kLanes64], g1[kLanes64];
#pragma omp simd
  for (int j = 0; j < kLanes64; ++j) {
    const Bin<T> b{l.bx[j], l.bw[j], l.by[j], l.bh[j], l.d0[j], l.d1[j]};
    const bool inside = (l.x[j] >= -tail) & (l.x[j] <= tail);
    // outside any harmless point will do
    const T safe = inside ? l.x[j] : (inverse ? b.y : b.x);
    const T theta = inverse ? bin_inverse(b, safe) : (safe - b.x) / b.w;
    const Rational<T> r = rational(b, theta);
    const T q = r.delta / r.den, slope = q * q * r.m;
    // The inverse by the implicit function theorem: dx/dz = -f_z / f'.
    const T total = inverse ? (l.g[j] - h * bin_log_slope_by_x(b, r)) / slope : l.g[j];
    const BinGradients<T> g = bin_gradients(b, r, inverse ? -total : total, inverse ? -h : h);
    const T on = inside ? T(1) : T(0), scale = inside ? T(2) * tail * static_cast<T>(1.0 - kLeastBin * static_cast<double>(bins)) : T(0);
    l.y[j] = inside ? (inverse ? total : g.input) : l.g[j];
    gx[j] = scale * g.x, gw[j] = scale * g.w, gy[j] = scale * g.y, gh[j] = scale * g.h;
    g0[j] = on * g.d0, g1[j] = on * g.d1;
  }
  const T rest = T(1) / static_cast<T>(1.0 - kLeastBin * static_cast<double>(bins)), least = static_cast<T>(kLeastBin);
  alignas(64) T mean_w[kLanes64] = {}, mean_h[kLanes64] = {};
  for (std::int64_t k = 0; k < bins; ++k) {
    const T *wk = w + k * kLanes64, *hk = hs + k * kLanes64, number = static_cast<T>(k);
#pragma omp simd
    for (int j = 0; j < kLanes64; ++j) {
      const T before = number < l.bin[j] ? T(1) : T(0), here = number == l.bin[j] ? T(1) : T(0);
      mean_w[j] += (wk[j] - least) * rest * (before * gx[j] + here * gw[j]);
      mean_h[j] += (hk[j] - least) * rest * (before * gy[j] + here * gh[j]);
    }
  }
  for (std::int64_t k = 0; k < bins; ++k) {
    T *wk = w + k * kLanes64, *hk = hs + k * kLanes64, number = static_cast<T>(k);
#pragma omp simd
    for (int j = 0; j < kLanes64; ++j) {
      const T before = number < l.bin[j] ? T(1) : T(0), here = number == l.bin[j] ? T(1) : T(0);
      wk[j] = (wk[j] - least) * rest * (before * gx[j] + here * gw[j] - mean_w[j]);
      hk[j] = (hk[j] - least) * rest * (before * gy[j] + here * gh[j] - mean_h[j]);
    }
  }
  for (std::int64_t k = 0; k + 1 < bins; ++k) {
    T *dk = d + k * kLanes64, number = static_cast<T>(k);
#pragma omp simd
    for (int j = 0; j < kLanes64; ++j) {
      // The slope is least + softplus(u), so softplus'(u) = 1 - exp(-softplus(u)).
      const T steep = T(1) - fast_exp(static_cast<T>(kLeastSlope) - dk[j]);
      dk[j] = steep * ((number == l.bin[j] ? g1[j] : T(0)) + (number + T(1) == l.bin[j] ? g0[j] : T(0)));
    }
  }
}

// flush() over the transformed elements of chunk c in groups of at most 64; pass(offset, n, step) over the others.
template <class T, class Pass, class Flush>
MEDGEN_HD void walk(const SplineArgs<T>& a, std::int64_t c, Lanes<T>& l, const Pass& pass, const Flush& flush) {
  const Layout& o = a.layout;
  const std::int64_t width = 3 * a.bins - 1;
  l.n = 0;
  const auto add = [&](std::int64_t at, std::int64_t p) {
    l.at[l.n] = at;
    l.base[l.n] = p / a.inner * width * a.inner + p % a.inner;
    if (++l.n == kLanes64) {
      flush();
      l.n = 0;
    }
  };
  if (o.pattern == Pattern::kChecker) {
    const std::int64_t size = (o.count + a.chunks - 1) / a.chunks, begin = std::min(o.count, c * size), end = std::min(o.count, begin + size);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t line = i / o.width, h = line % o.height, d = line / o.height % o.depth;
      if (((i - line * o.width + h + d + o.parity) & 1) == 0) {
        add(i, o.full ? i : i / 2);
      } else {
        pass(i, 1);
      }
    }
  } else {
    std::int64_t start = 0, packed = 0;
    for (std::int64_t k = 0; k < o.blocks; ++k) {
      const std::int64_t n = o.length[k & 1], size = (n + a.chunks - 1) / a.chunks, begin = std::min(n, c * size), end = std::min(n, begin + size);
      if ((k & 1) == o.parity) {
        for (std::int64_t i = begin; i < end; ++i) add(start + i, (o.full ? start : packed) + i);
        packed += n;
      } else {
        pass(start + begin, end - begin);
      }
      start += n;
    }
  }
  if (l.n > 0) flush();
}

template <class T>
void load(const SplineArgs<T>& a, const T* x, const T* parameters, Lanes<T>& l) {
  const std::int64_t width = 3 * a.bins - 1;
  for (int j = l.n; j < kLanes64; ++j) l.at[j] = l.at[0], l.base[j] = l.base[0];
  for (int j = 0; j < kLanes64; ++j) l.x[j] = x[l.at[j]];
  const bool run = a.inner > 1 && l.base[kLanes64 - 1] - l.base[0] == kLanes64 - 1;  // neighbours of one channel
  for (std::int64_t c = 0; c < width; ++c) {
    T* to = l.raw.data() + c * kLanes64;
    const T* from = parameters + c * a.inner;
    if (run) {
      std::copy(from + l.base[0], from + l.base[0] + kLanes64, to);
    } else {
      for (int j = 0; j < kLanes64; ++j) to[j] = from[l.base[j]];
    }
  }
}

template <class T>
void forward(const SplineArgs<T>& a, std::int64_t begin, std::int64_t end) {
  Lanes<T> l;
  l.raw.resize(static_cast<std::size_t>((3 * a.bins - 1) * kLanes64));
  for (std::int64_t q = begin; q < end; ++q) {
    const std::int64_t b = q / a.chunks;
    const T *x = a.x + b * a.x_row, *parameters = a.parameters + b * a.parameters_row;
    T* y = a.y + b * a.y_row;
    LaneSum sum;
    walk(
        a, q - b * a.chunks, l,
        [&](std::int64_t at, std::int64_t n) {
          if (x != y) std::copy(x + at, x + at + n, y + at);
        },
        [&] {
          load(a, x, parameters, l);
          find_bins(l, a.bins, a.tail, a.inverse);
          evaluate(l, a.tail, a.inverse);
          for (int j = 0; j < l.n; ++j) {
            y[l.at[j]] = l.y[j];
            sum.lane[j % kSumLanes] += static_cast<double>(l.log_slope[j]);
          }
        });
    a.partial[q] = sum.total();
  }
}

template <class T>
void backward(const SplineArgs<T>& a, std::int64_t begin, std::int64_t end) {
  Lanes<T> l;
  const std::int64_t width = 3 * a.bins - 1;
  l.raw.resize(static_cast<std::size_t>(width * kLanes64));
  for (std::int64_t q = begin; q < end; ++q) {
    const std::int64_t b = q / a.chunks;
    const T *x = a.x + b * a.x_row, *parameters = a.parameters + b * a.parameters_row, *g = a.grad_y + b * a.grad_y_row;
    T *gx = a.y + b * a.y_row, *gp = a.gradients + b * a.gradients_row;
    walk(
        a, q - b * a.chunks, l, [&](std::int64_t at, std::int64_t n) { std::copy(g + at, g + at + n, gx + at); },
        [&] {
          load(a, x, parameters, l);
          for (int j = 0; j < kLanes64; ++j) l.g[j] = g[l.at[j]];
          find_bins(l, a.bins, a.tail, a.inverse);
          gradients(l, a.bins, a.tail, a.grad_log_det[b * a.grad_log_det_row], a.inverse);
          for (int j = 0; j < l.n; ++j) gx[l.at[j]] = l.y[j];
          for (std::int64_t c = 0; c < width; ++c)
            for (int j = 0; j < l.n; ++j) gp[l.base[j] + c * a.inner] = l.raw[static_cast<std::size_t>(c * kLanes64 + j)];
        });
  }
}

}  // namespace

void spline_float(const SplineArgs<float>& a, std::int64_t begin, std::int64_t end) { forward(a, begin, end); }
void spline_double(const SplineArgs<double>& a, std::int64_t begin, std::int64_t end) { forward(a, begin, end); }
void spline_grad_float(const SplineArgs<float>& a, std::int64_t begin, std::int64_t end) { backward(a, begin, end); }
void spline_grad_double(const SplineArgs<double>& a, std::int64_t begin, std::int64_t end) { backward(a, begin, end); }

MEDGEN_NAMESPACE_END
