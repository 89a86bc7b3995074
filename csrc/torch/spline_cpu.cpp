// medgen::rq_spline_coupling and its backward on the CPU.

#include "cpu/spline.h"

#include <algorithm>
#include <tuple>
#include <vector>

#include "torch/spline.h"
#include "torch/dispatch.h"

namespace medgen {
namespace {

constexpr std::int64_t kGrain = 2048;  // elements below which a second thread costs more than it brings
constexpr std::int64_t kChunk = 8192;  // elements of a chunk where there are few samples
constexpr std::int64_t kManySamples = 64;

template <class T>
SplineArgs<T> args_of(const Layout& l, const Tensor& x, const Tensor& parameters, std::int64_t bins, double tail, bool inverse, const Tensor& y) {
  SplineArgs<T> a{};
  a.layout = l;
  a.chunks = l.batch >= kManySamples ? 1 : std::max<std::int64_t>(1, (l.count + kChunk - 1) / kChunk);
  a.bins = bins;
  a.inner = x.size(1) == 0 ? 1 : std::max<std::int64_t>(1, l.count / x.size(1));
  a.inverse = inverse;
  a.tail = static_cast<T>(tail);
  a.x = static_cast<const T*>(x.const_data_ptr());
  a.parameters = static_cast<const T*>(parameters.const_data_ptr());
  a.y = static_cast<T*>(y.mutable_data_ptr());
  a.x_row = row_stride(x), a.parameters_row = row_stride(parameters), a.y_row = row_stride(y);
  return a;
}

template <class T, class Kernel>
void run(const SplineArgs<T>& a, Kernel kernel) {
  const std::int64_t items = a.layout.batch * a.chunks, per_item = std::max<std::int64_t>(1, a.layout.count / a.chunks);
  if (items * per_item <= kGrain) return kernel(a, 0, items);
  torch::stable::parallel_for(0, items, std::max<std::int64_t>(1, kGrain / per_item), [&](std::int64_t b, std::int64_t e) { kernel(a, b, e); });
}

template <class T, class Kernel>
void forward(SplineArgs<T> a, const Tensor& log_det, Kernel kernel) {
  std::vector<double> partial(static_cast<std::size_t>(a.layout.batch * a.chunks));
  a.partial = partial.data();
  run(a, kernel);
  T* to = static_cast<T*>(log_det.mutable_data_ptr());
  for (std::int64_t b = 0; b < a.layout.batch; ++b) {
    double total = 0.0;
    for (std::int64_t c = 0; c < a.chunks; ++c) total += partial[static_cast<std::size_t>(b * a.chunks + c)];
    to[b] = static_cast<T>(total);
  }
}

Tensor into(const Tensor& x, const Tensor& parameters, std::int64_t bins, double tail, std::int64_t mask, std::int64_t split, bool inverse,
            const Tensor& y) {
  const Layout l = spline_layout(x, parameters, bins, tail, mask, split);
  const Tensor rows = as_rows(x), p = as_rows(parameters);
  Tensor log_det = fresh_vector(x, x.size(0));
  if (x.scalar_type() == ScalarType::Double) {
    forward(args_of<double>(l, rows, p, bins, tail, inverse, y), log_det, MEDGEN_CALL(spline_double));
  } else {
    forward(args_of<float>(l, rows, p, bins, tail, inverse, y), log_det, MEDGEN_CALL(spline_float));
  }
  return log_det;
}

std::tuple<Tensor, Tensor> rq_spline_coupling(const Tensor& x, const Tensor& parameters, std::int64_t bins, double tail, std::int64_t mask,
                                              std::int64_t split, bool inverse) {
  check_floating(x);
  Tensor y = fresh_like(x);
  return {y, into(x, parameters, bins, tail, mask, split, inverse, y)};
}

Tensor rq_spline_coupling_out(const Tensor& x, const Tensor& parameters, std::int64_t bins, double tail, std::int64_t mask, std::int64_t split,
                              bool inverse, Tensor out) {
  check_spline_out(out, x, parameters);
  return into(x, parameters, bins, tail, mask, split, inverse, out);
}

template <class T, class Kernel>
void backward(SplineArgs<T> a, const Tensor& grad_y, const Tensor& grad_log_det, const Tensor& gradients, Kernel kernel) {
  a.grad_y = static_cast<const T*>(grad_y.const_data_ptr());
  a.grad_log_det = static_cast<const T*>(grad_log_det.const_data_ptr());
  a.gradients = static_cast<T*>(gradients.mutable_data_ptr());
  a.grad_y_row = row_stride(grad_y), a.grad_log_det_row = row_stride(grad_log_det), a.gradients_row = row_stride(gradients);
  run(a, kernel);
}

std::tuple<Tensor, Tensor> rq_spline_coupling_backward(const Tensor& grad_y, const Tensor& grad_log_det, const Tensor& x, const Tensor& parameters,
                                                       std::int64_t bins, double tail, std::int64_t mask, std::int64_t split, bool inverse) {
  const Layout l = spline_layout(x, parameters, bins, tail, mask, split);
  check_gradients(grad_y, grad_log_det, x);
  const Tensor g = as_rows(grad_y), rows = as_rows(x), p = as_rows(parameters);
  Tensor gx = fresh_like(x), gp = fresh_like(parameters);
  if (l.full) torch::stable::zero_(gp);
  if (x.scalar_type() == ScalarType::Double) {
    backward(args_of<double>(l, rows, p, bins, tail, inverse, gx), g, grad_log_det, gp, MEDGEN_CALL(spline_grad_double));
  } else {
    backward(args_of<float>(l, rows, p, bins, tail, inverse, gx), g, grad_log_det, gp, MEDGEN_CALL(spline_grad_float));
  }
  return {gx, gp};
}

}  // namespace
}  // namespace medgen

STABLE_TORCH_LIBRARY_IMPL(medgen, CPU, m) {
  m.impl("rq_spline_coupling", TORCH_BOX(&medgen::rq_spline_coupling));
  m.impl("rq_spline_coupling_out", TORCH_BOX(&medgen::rq_spline_coupling_out));
  m.impl("rq_spline_coupling_backward", TORCH_BOX(&medgen::rq_spline_coupling_backward));
}
