// One feature of a masked autoregressive transform, solved, and its gradients; the activations between the layers.
#pragma once

#include <cstdint>

#include "core/affine.h"
#include "core/exp.h"
#include "core/hd.h"
#include "core/rq_spline.h"

namespace medgen {

// Numbered as in medgen/ops/reference/made.py.
enum class Activation : std::int64_t { kRelu = 0, kTanh = 1, kSilu = 2 };
enum class MadeForm : std::int64_t { kAffine = 0, kGated = 1 };

}  // namespace medgen

MEDGEN_NAMESPACE_BEGIN

template <Activation kActivation, class T>
MEDGEN_HD T activate(T v) {
  if constexpr (kActivation == Activation::kTanh) return fast_tanh(v);
  if constexpr (kActivation == Activation::kSilu) return v / (T(1) + fast_exp(-v));
  return v < T(0) ? T(0) : v;  // NaN stays
}

template <Activation kActivation, class T>
MEDGEN_HD T activate_slope(T v) {
  if constexpr (kActivation == Activation::kTanh) {
    const T y = fast_tanh(v);
    return T(1) - y * y;
  }
  if constexpr (kActivation == Activation::kSilu) {
    const T gate = sigmoid(v);
    return gate * (T(1) + v * (T(1) - gate));
  }
  return v > T(0) ? T(1) : T(0);
}

// b of x = z exp(b) + t, or of the gate exp(b) in z = exp(b) x + (1 - exp(b)) t.
template <MadeForm kForm, class T>
MEDGEN_HD T made_log_scale(T s, T s_max) {
  const T l = kForm == MadeForm::kGated ? -softplus(-s) : s;
  return bound<Bound::kTanh>(l, s_max, T(1) / s_max);
}

template <MadeForm kForm, class T>
MEDGEN_HD T made_solve(T z, T b, T t) {
  if constexpr (kForm == MadeForm::kGated) return (z - (T(1) - fast_exp(b)) * t) * fast_exp(-b);
  return z * fast_exp(b) + t;
}

// From the gradient g of x and h of ln |dx/dz|, at the solution x.
template <class T>
struct MadeGradients {
  T z, s, t;
};

template <MadeForm kForm, class T>
MEDGEN_HD MadeGradients<T> made_gradients(T g, T h, T x, T s, T t, T s_max) {
  const T b = made_log_scale<kForm>(s, s_max), u = b / s_max, slope = T(1) - u * u;
  if constexpr (kForm == MadeForm::kGated) {
    const T ratio = fast_exp(-b);
    return {g * ratio, -(g * (x - t) + h) * slope * sigmoid(-s), g * (T(1) - ratio)};
  }
  return {g * fast_exp(b), (g * (x - t) + h) * slope, g};
}

MEDGEN_NAMESPACE_END
