// Coupling kernels: work items [begin, end) of batch * chunks; item q is chunk q % chunks of sample q / chunks.
#pragma once

#include "core/affine.h"
#include "cpu/kernels.h"

namespace medgen {

// Every tensor is [batch, ...] with a stride between samples and contiguous inside. `y` may be `x`: then nothing is copied.
template <class T>
struct CouplingArgs {
  Layout layout;
  std::int64_t chunks;
  Bound bound;
  bool inverse, additive;
  bool stream;  // write past the caches, which pays on large outputs whose pages are mapped already
  T s_max;
  const T *x, *s, *t;  // s unused where additive; an empty tensor is null
  std::int64_t x_row, s_row, t_row, y_row;
  T* y;
  double* partial;  // [batch, chunks], or null where one chunk makes a sample
  T* log_det;       // [batch], null where additive
};

template <class T>
struct CouplingGradArgs {
  Layout layout;
  std::int64_t chunks;
  Bound bound;
  bool inverse;
  T s_max;
  const T *grad_y, *grad_log_det, *side, *s;
  std::int64_t grad_y_row, grad_log_det_row, side_row, s_row, x_row, gs_row, gt_row;
  T *x, *gs, *gt;
};

}  // namespace medgen

MEDGEN_KERNEL(coupling_float, (const CouplingArgs<float>& a, std::int64_t begin, std::int64_t end))
MEDGEN_KERNEL(coupling_double, (const CouplingArgs<double>& a, std::int64_t begin, std::int64_t end))
MEDGEN_KERNEL(coupling_grad_float, (const CouplingGradArgs<float>& a, std::int64_t begin, std::int64_t end))
MEDGEN_KERNEL(coupling_grad_double, (const CouplingGradArgs<double>& a, std::int64_t begin, std::int64_t end))
