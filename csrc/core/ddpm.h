// One reverse step x_t -> x_s of a diffusion model, for one element.
//
// Every sampler of the family is linear in (x_t, network output) up to the clamp of x0, so a step is one row of eight numbers that the
// caller computes in float64 once: see medgen/ops/ddpm_step.py.
#pragma once

#include <cstdint>

#include "core/hd.h"

MEDGEN_NAMESPACE_BEGIN

inline constexpr int kStepColumns = 8;

template <class T>
struct Step {
  T x, output;              // without a clamp: mean = x * x_t + output * o
  T x0_x, x0_output;        // with one: x0 = clamp(x0_x * x_t + x0_output * o),
  T mean_x0, mean_x;        //           mean = mean_x0 * x0 + mean_x * x_t
  T scale, slope;           // sd = scale, or exp(scale + slope * second output) where the variance is learned
};

template <class T>
MEDGEN_HD Step<T> step_of(const T* row) {
  return {row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7]};
}

// A row draws noise unless its sd is 0: at the last step, and everywhere in DDIM with eta = 0.
template <class T>
MEDGEN_HD bool step_is_noisy(T scale, bool learned) {
  return learned ? scale > static_cast<T>(-1e30) : scale != T(0);
}

template <bool kClip, class T>
MEDGEN_HD T step_mean(const Step<T>& c, T x, T output, T clip) {
  if constexpr (kClip) {
    T x0 = c.x0_x * x + c.x0_output * output;
    x0 = x0 < -clip ? -clip : x0;  // a NaN compares false and stays
    x0 = x0 > clip ? clip : x0;
    return c.mean_x0 * x0 + c.mean_x * x;
  } else {
    return c.x * x + c.output * output;
  }
}

MEDGEN_NAMESPACE_END
