// One bin of a monotone rational-quadratic spline: value, inverse, log-derivative, and every partial derivative.
// Neural Spline Flows (Durkan, Bekasov, Murray, Papamakarios, 2019), https://arxiv.org/abs/1906.04032
#pragma once

#include "core/exp.h"
#include "core/hd.h"

MEDGEN_NAMESPACE_BEGIN

// The numbers of medgen/ops/reference/rq_spline.py: least width and height as a share of the interval, least slope.
inline constexpr double kLeastBin = 1e-3, kLeastSlope = 1e-3;

// log(1 + z) for z in [0, 1], relative precision.
template <class T>
MEDGEN_HD T log_one_plus(T z) {
  const T w = T(1) + z;
  return w == T(1) ? z : fast_log(w) * (z / (w - T(1)));
}

template <class T>
MEDGEN_HD T softplus(T u) {
  const T a = u < T(0) ? u : -u;
  return (u > T(0) ? u : (u == u ? T(0) : u)) + log_one_plus(fast_exp(a));
}

template <class T>
MEDGEN_HD T sigmoid(T u) {
  return T(1) / (T(1) + fast_exp(-u));
}

// Bin number k: its lower left corner, width and height, and the slopes at its two ends.
template <class T>
struct Bin {
  T x, w, y, h, d0, d1;
};

template <class T>
struct Rational {
  T theta, delta, s, q, den, p, m;  // p: share of the height; m: with delta^2 m / den^2 the derivative
};

template <class T>
MEDGEN_HD Rational<T> rational(const Bin<T>& b, T theta) {
  Rational<T> r;
  r.theta = theta;
  r.delta = b.h / b.w;
  r.s = theta * (T(1) - theta);
  r.q = b.d0 + b.d1 - T(2) * r.delta;
  r.den = r.delta + r.q * r.s;
  r.p = (r.delta * theta * theta + b.d0 * r.s) / r.den;
  r.m = b.d1 * theta * theta + T(2) * r.delta * r.s + b.d0 * (T(1) - theta) * (T(1) - theta);
  return r;
}

// theta of the x whose value is y. The discriminant cannot be negative but for rounding: it is clamped, never asserted.
template <class T>
MEDGEN_HD T bin_inverse(const Bin<T>& b, T y) {
  const T v = y - b.y, delta = b.h / b.w, q = b.d0 + b.d1 - T(2) * delta;
  const T a = v * q + b.h * (delta - b.d0), half = b.h * b.d0 - v * q, c = -delta * v;
  const T disc = half * half - T(4) * a * c;
  const T root = std::sqrt(disc < T(0) ? T(0) : disc);
  return T(2) * c / (-half - root);
}

template <class T>
MEDGEN_HD T bin_log_slope(const Rational<T>& r) {
  const T slope = r.delta / r.den;
  return fast_log(slope * slope * r.m);
}

// A f_z + B L_z for every parameter z of the bin and for x, where f is the value and L its log-derivative.
template <class T>
struct BinGradients {
  T input, x, w, y, h, d0, d1;
};

template <class T>
MEDGEN_HD T bin_log_slope_by_x(const Bin<T>& b, const Rational<T>& r) {
  const T turn = T(1) - T(2) * r.theta;
  return (T(2) * (b.d1 * r.theta + r.delta * turn - b.d0 * (T(1) - r.theta)) / r.m - T(2) * r.q * turn / r.den) / b.w;
}

template <class T>
MEDGEN_HD BinGradients<T> bin_gradients(const Bin<T>& b, const Rational<T>& r, T A, T B) {
  const T turn = T(1) - T(2) * r.theta, rest = T(1) - r.theta, a = A * b.h / r.den;
  const T theta = a * (T(2) * r.delta * r.theta + b.d0 * turn - r.p * r.q * turn) + B * b.w * bin_log_slope_by_x(b, r);
  const T delta = a * (r.theta * r.theta - r.p * (T(1) - T(2) * r.s)) +
                  B * (T(2) / r.delta + T(2) * r.s / r.m - T(2) * (T(1) - T(2) * r.s) / r.den);
  BinGradients<T> g;
  g.input = theta / b.w;
  g.x = -g.input;
  g.w = -(theta * r.theta + delta * r.delta) / b.w;
  g.y = A;
  g.h = A * r.p + delta / b.w;
  g.d0 = a * r.s * (T(1) - r.p) + B * (rest * rest / r.m - T(2) * r.s / r.den);
  g.d1 = -a * r.s * r.p + B * (r.theta * r.theta / r.m - T(2) * r.s / r.den);
  return g;
}

MEDGEN_NAMESPACE_END
