// The gradients of affine coupling: one pass over the output's gradient, one side and s.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cpu/coupling.h"
#include "cpu/coupling_sites.h"

MEDGEN_NAMESPACE_BEGIN
namespace {

// Pointers of one sample in a backward pass.
template <class T>
struct Grad {
  const T *g, *side, *s;
  T *x, *gs, *gt;
  T h, s_max, inverse_s_max;
};

template <class F, class T = typename F::T>
MEDGEN_ONCE void grad_run(const Grad<T>& a, std::int64_t o, std::int64_t p, std::int64_t n) {
  const T *g = a.g + o, *side = a.side + o, *s = a.s + p;
  T *x = a.x + o, *gs = a.gs + p, *gt = a.gt + p;
  const T h = a.h, s_max = a.s_max, inverse_s_max = a.inverse_s_max;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const AffineGradients<T> r = affine_gradients<F::kBound, F::kInverse>(g[i], h, side[i], s[i], s_max, inverse_s_max);
    x[i] = r.x;
    gs[i] = r.s;
    gt[i] = r.t;
  }
}

template <class F, class T = typename F::T>
MEDGEN_ONCE void grad_every_other(const Grad<T>& a, std::int64_t o, std::int64_t n, int odd) {
  const T *g = a.g + o, *side = a.side + o, *s = a.s + o;
  T *x = a.x + o, *gs = a.gs + o, *gt = a.gt + o;
  const T h = a.h, s_max = a.s_max, inverse_s_max = a.inverse_s_max;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const AffineGradients<T> r = affine_gradients<F::kBound, F::kInverse>(g[i], h, side[i], s[i], s_max, inverse_s_max);
    const bool on = (i & 1) == odd;
    x[i] = on ? r.x : g[i];
    gs[i] = on ? r.s : T(0);
    gt[i] = on ? r.t : T(0);
  }
}

// Alternate features with their own parameters: n elements from an even offset o.
template <class F, class T = typename F::T>
MEDGEN_ONCE void grad_pairs(const Grad<T>& a, std::int64_t o, std::int64_t n, int odd) {
  const T *g = a.g + o, *side = a.side + o, *s = a.s + o / 2;
  T *x = a.x + o, *gs = a.gs + o / 2, *gt = a.gt + o / 2;
  const T h = a.h, s_max = a.s_max, inverse_s_max = a.inverse_s_max;
  const std::int64_t pairs = n / 2;
#pragma omp simd
  for (std::int64_t i = 0; i < pairs; ++i) {
    const T g0 = g[2 * i], g1 = g[2 * i + 1], side0 = side[2 * i], side1 = side[2 * i + 1];
    const AffineGradients<T> r =
        affine_gradients<F::kBound, F::kInverse>(odd != 0 ? g1 : g0, h, odd != 0 ? side1 : side0, s[i], s_max, inverse_s_max);
    x[2 * i] = odd != 0 ? g0 : r.x;
    x[2 * i + 1] = odd != 0 ? r.x : g1;
    gs[i] = r.s;
    gt[i] = r.t;
  }
  if (n % 2 == 0) return;
  if (odd == 0) {
    grad_run<F>(a, o + n - 1, (o + n) / 2, 1);
  } else {
    x[n - 1] = g[n - 1];
  }
}

template <class F, class T = typename F::T>
void backward(const CouplingGradArgs<T>& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t q = begin; q < end; ++q) {
    const std::int64_t b = q / a.chunks, c = q - b * a.chunks;
    const Grad<T> grad{a.grad_y + b * a.grad_y_row, a.side + b * a.side_row, a.s + b * a.s_row, a.x + b * a.x_row, a.gs + b * a.gs_row,
                       a.gt + b * a.gt_row, a.grad_log_det[b * a.grad_log_det_row], a.s_max, T(1) / a.s_max};
    if (a.layout.pattern == Pattern::kChecker) {
      lines(a.layout, a.chunks, c, [&](int odd, std::int64_t o, std::int64_t n) {
        a.layout.full ? grad_every_other<F>(grad, o, n, odd) : grad_pairs<F>(grad, o, n, odd);
      });
      continue;
    }
    blocks(a.layout, a.chunks, c, [&](bool on, std::int64_t o, std::int64_t p, std::int64_t n) {
      if (on) return grad_run<F>(grad, o, p, n);
      std::memcpy(grad.x + o, grad.g + o, static_cast<std::size_t>(n) * sizeof(T));
      if (a.layout.full) {
        std::fill(grad.gs + p, grad.gs + p + n, T(0));
        std::fill(grad.gt + p, grad.gt + p + n, T(0));
      }
    });
  }
}

template <class T, Bound kBound>
void backward_of(const CouplingGradArgs<T>& a, std::int64_t begin, std::int64_t end) {
  a.inverse ? backward<Form<T, kBound, true, false>>(a, begin, end) : backward<Form<T, kBound, false, false>>(a, begin, end);
}

template <class T>
void backward_any(const CouplingGradArgs<T>& a, std::int64_t begin, std::int64_t end) {
  if (a.bound == Bound::kTanh) return backward_of<T, Bound::kTanh>(a, begin, end);
  if (a.bound == Bound::kSoft) return backward_of<T, Bound::kSoft>(a, begin, end);
  backward_of<T, Bound::kNone>(a, begin, end);
}

}  // namespace

void coupling_grad_float(const CouplingGradArgs<float>& a, std::int64_t begin, std::int64_t end) { backward_any(a, begin, end); }
void coupling_grad_double(const CouplingGradArgs<double>& a, std::int64_t begin, std::int64_t end) { backward_any(a, begin, end); }

MEDGEN_NAMESPACE_END
