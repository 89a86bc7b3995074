// Spline coupling kernels: work items [begin, end) of batch * chunks, as in cpu/coupling.h.
#pragma once

#include "core/affine.h"
#include "cpu/kernels.h"

namespace medgen {

// Parameter c of transformed element (p, site) lies at (p * (3 * bins - 1) + c) * inner + site.
template <class T>
struct SplineArgs {
  Layout layout;
  std::int64_t chunks, bins, inner;
  bool inverse;
  T tail;
  const T *x, *parameters;
  std::int64_t x_row, parameters_row, y_row;
  T* y;
  double* partial;  // [batch, chunks]
  // Backward only: y holds the gradient to x, and `gradients` is zero at the start where the parameters are full.
  const T *grad_y, *grad_log_det;
  std::int64_t grad_y_row, grad_log_det_row, gradients_row;
  T* gradients;
};

}  // namespace medgen

MEDGEN_KERNEL(spline_float, (const SplineArgs<float>& a, std::int64_t begin, std::int64_t end))
MEDGEN_KERNEL(spline_double, (const SplineArgs<double>& a, std::int64_t begin, std::int64_t end))
MEDGEN_KERNEL(spline_grad_float, (const SplineArgs<float>& a, std::int64_t begin, std::int64_t end))
MEDGEN_KERNEL(spline_grad_double, (const SplineArgs<double>& a, std::int64_t begin, std::int64_t end))
