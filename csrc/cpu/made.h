// Masked autoregressive networks, unit by unit in the order of their degrees: the inverse of the transform, and its gradients.
//
// A layer's units are sorted so that those due earlier come first. What a unit reads is then a prefix of the layer before.
#pragma once

#include "core/made.h"
#include "cpu/kernels.h"

namespace medgen {

inline constexpr std::int64_t kMadePanel = 6;  // units whose weights lie together

template <class T>
struct MadeLayer {
  std::int64_t units, inputs;
  const T* weight;             // panels of kMadePanel units: [panel][inputs][kMadePanel], padded with zeros
  const T* bias;               // [panels * kMadePanel]
  const std::int64_t* have;    // [units]: inputs that a unit reads, the first ones; never fewer than the unit before
  const std::int64_t* due;     // units [due[i], due[i + 1]) have their turn at step i
  const std::int64_t* column;  // [units]: of the caller's arrays
};

template <class T>
struct MadeArgs {
  std::int64_t rows, features, hidden;  // hidden: number of hidden layers
  const MadeLayer<T>* layers;           // hidden + 1: forwards the outputs last, [s, t] of a feature side by side; backwards x last
  Activation activation;
  MadeForm form;
  T s_max;
  // Of a row of the caller's arrays.
  const std::int64_t* feature;  // [features]: of step i
  const T* z;                   // [rows, features]
  const T* context;             // [rows, context_width], or null
  std::int64_t context_width;
  T *x, *log_det;  // [rows, features], [rows]
  // Backwards.
  const T *grad_x, *grad_log_det, *solution, *parameters;  // [rows, D], [rows], [rows, D], [rows, 2 D]
  const T* const* before;                                  // [hidden] of [rows, units]: what the units hold before their activation
  T* grad_z;                                               // [rows, D]
  T* const* deltas;                                        // [hidden + 1] of [rows, units]: forward's order of layers, the outputs last
};

inline constexpr std::int64_t kMadeRows = 64;  // of a work item

}  // namespace medgen

// Work items [begin, end) of kMadeRows rows.
MEDGEN_KERNEL(made_invert_float, (const MadeArgs<float>& a, std::int64_t begin, std::int64_t end))
MEDGEN_KERNEL(made_invert_double, (const MadeArgs<double>& a, std::int64_t begin, std::int64_t end))
MEDGEN_KERNEL(made_backward_float, (const MadeArgs<float>& a, std::int64_t begin, std::int64_t end))
MEDGEN_KERNEL(made_backward_double, (const MadeArgs<double>& a, std::int64_t begin, std::int64_t end))
