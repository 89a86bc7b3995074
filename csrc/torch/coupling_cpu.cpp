// medgen::affine_coupling, its backward, and medgen::additive_coupling on the CPU.

#include "cpu/coupling.h"

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "torch/coupling.h"
#include "torch/dispatch.h"

namespace medgen {
namespace {

constexpr std::int64_t kGrain = 32768;       // elements below which a second thread costs more than it brings
constexpr std::int64_t kChunk = 32768;       // elements of a chunk where there are few samples
constexpr std::int64_t kManySamples = 64;    // enough for any thread count that this pays for
constexpr std::int64_t kStreamed = 1 << 25;  // bytes of an output on mapped pages from which streaming stores pay

// How many chunks a sample is cut into: from the shape alone, so that sums do not depend on the number of threads.
std::int64_t chunks_of(const Layout& l) { return l.batch >= kManySamples ? 1 : std::max<std::int64_t>(1, (l.count + kChunk - 1) / kChunk); }

template <class Body>
void for_items(const Layout& l, std::int64_t chunks, const Body& body) {
  const std::int64_t items = l.batch * chunks, per_item = std::max<std::int64_t>(1, l.count / chunks);
  if (items * per_item <= kGrain) return body(0, items);
  torch::stable::parallel_for(0, items, std::max<std::int64_t>(1, kGrain / per_item), body);
}

template <class T, class Kernel>
void forward(const Tensor& x, const Layout& l, const Tensor* scale, const Tensor& shift, std::int64_t bound, double s_max, bool inverse,
             const Tensor& y, const Tensor* log_det, bool mapped, Kernel kernel) {
  CouplingArgs<T> a{};
  a.layout = l;
  a.chunks = chunks_of(l);
  a.bound = static_cast<Bound>(bound);
  a.inverse = inverse;
  a.additive = scale == nullptr;
  a.s_max = static_cast<T>(s_max);
  a.x = data<T>(x);
  a.y = mutable_data<T>(y);
  a.x_row = row_stride(x);
  a.y_row = row_stride(y);
  a.stream = mapped && a.x != a.y && l.batch * l.count * static_cast<std::int64_t>(sizeof(T)) >= kStreamed;
  if (scale != nullptr) {
    a.s = data<T>(*scale);
    a.s_row = row_stride(*scale);
    a.log_det = mutable_data<T>(*log_det);
  }
  a.t = scale == &shift ? a.s + l.parameters : data<T>(shift);  // the same tensor: packed
  a.t_row = row_stride(shift);
  std::vector<double> partial(a.chunks > 1 && scale != nullptr ? static_cast<std::size_t>(l.batch * a.chunks) : 0);
  a.partial = partial.empty() ? nullptr : partial.data();
  for_items(l, a.chunks, [&](std::int64_t begin, std::int64_t end) { kernel(a, begin, end); });
  for (std::int64_t b = 0; a.partial != nullptr && b < l.batch; ++b) {
    double total = 0.0;
    for (std::int64_t c = 0; c < a.chunks; ++c) total += partial[static_cast<std::size_t>(b * a.chunks + c)];
    a.log_det[b] = static_cast<T>(total);
  }
}

void affine_into(const Tensor& x, const Tensor& log_scale, const std::optional<Tensor>& shift, std::int64_t mask, std::int64_t split,
                 std::int64_t bound, double s_max, bool inverse, const Tensor& y, const Tensor& log_det, bool mapped) {
  check_floating(x);
  const Parameters p(x, log_scale, shift);
  const Layout l = layout_of(x, mask, split, p.channels, 1);
  const Tensor rows = as_rows(x);
  const Tensor& t = p.shift.has_value() ? *p.shift : p.scale;
  if (mapped) {
    check_overlap(y, rows, "x", true);
    check_overlap(y, p.scale, "log_scale", false);
    if (p.shift.has_value()) check_overlap(y, *p.shift, "shift", false);
  }
  if (x.scalar_type() == ScalarType::Double) {
    forward<double>(rows, l, &p.scale, t, bound, s_max, inverse, y, &log_det, mapped, MEDGEN_CALL(coupling_double));
  } else {
    forward<float>(rows, l, &p.scale, t, bound, s_max, inverse, y, &log_det, mapped, MEDGEN_CALL(coupling_float));
  }
}

std::tuple<Tensor, Tensor> affine_coupling(const Tensor& x, const Tensor& log_scale, const std::optional<Tensor>& shift, std::int64_t mask,
                                           std::int64_t split, std::int64_t bound, double s_max, bool inverse) {
  check_floating(x);
  Tensor y = fresh_like(x), log_det = fresh_vector(x, x.size(0));
  affine_into(x, log_scale, shift, mask, split, bound, s_max, inverse, y, log_det, false);
  return {y, log_det};
}

Tensor affine_coupling_out(const Tensor& x, const Tensor& log_scale, const std::optional<Tensor>& shift, std::int64_t mask, std::int64_t split,
                           std::int64_t bound, double s_max, bool inverse, Tensor out) {
  check_out(out, x);
  Tensor log_det = fresh_vector(x, x.size(0));
  affine_into(x, log_scale, shift, mask, split, bound, s_max, inverse, out, log_det, true);
  return log_det;
}

void additive_into(const Tensor& x, const Tensor& shift, std::int64_t mask, std::int64_t split, bool inverse, const Tensor& y, bool mapped) {
  check_floating(x);
  check_like(shift, x, "shift");
  const Layout l = layout_of(x, mask, split, shift.size(1), 1);
  const Tensor rows = as_rows(x), t = as_rows(shift);
  if (mapped) {
    check_overlap(y, rows, "x", true);
    check_overlap(y, t, "shift", false);
  }
  if (x.scalar_type() == ScalarType::Double) {
    forward<double>(rows, l, nullptr, t, 0, 1.0, inverse, y, nullptr, mapped, MEDGEN_CALL(coupling_double));
  } else {
    forward<float>(rows, l, nullptr, t, 0, 1.0, inverse, y, nullptr, mapped, MEDGEN_CALL(coupling_float));
  }
}

Tensor additive_coupling(const Tensor& x, const Tensor& shift, std::int64_t mask, std::int64_t split, bool inverse) {
  check_floating(x);
  Tensor y = fresh_like(x);
  additive_into(x, shift, mask, split, inverse, y, false);
  return y;
}

void additive_coupling_out(const Tensor& x, const Tensor& shift, std::int64_t mask, std::int64_t split, bool inverse, Tensor out) {
  check_out(out, x);
  additive_into(x, shift, mask, split, inverse, out, true);
}

template <class T, class Kernel>
void backward(const Layout& l, const Tensor& grad_y, const Tensor& grad_log_det, const Tensor& side, const Tensor& scale, std::int64_t bound,
              double s_max, bool inverse, const Tensor& x, const Tensor& gs, const Tensor& gt, Kernel kernel) {
  CouplingGradArgs<T> a{};
  a.layout = l;
  a.chunks = chunks_of(l);
  a.bound = static_cast<Bound>(bound);
  a.inverse = inverse;
  a.s_max = static_cast<T>(s_max);
  a.grad_y = data<T>(grad_y), a.grad_log_det = data<T>(grad_log_det), a.side = data<T>(side), a.s = data<T>(scale);
  a.grad_y_row = row_stride(grad_y), a.grad_log_det_row = row_stride(grad_log_det), a.side_row = row_stride(side), a.s_row = row_stride(scale);
  a.x = mutable_data<T>(x), a.gs = mutable_data<T>(gs), a.gt = &gs == &gt ? a.gs + l.parameters : mutable_data<T>(gt);
  a.x_row = row_stride(x), a.gs_row = row_stride(gs), a.gt_row = row_stride(gt);
  for_items(l, a.chunks, [&](std::int64_t begin, std::int64_t end) { kernel(a, begin, end); });
}

std::tuple<Tensor, Tensor, Tensor> affine_coupling_backward(const Tensor& grad_y, const Tensor& grad_log_det, const Tensor& side,
                                                            const Tensor& log_scale, bool packed, std::int64_t mask, std::int64_t split,
                                                            std::int64_t bound, double s_max, bool inverse) {
  check_floating(side);
  check_gradients(grad_y, grad_log_det, side);
  check_like(log_scale, side, "log_scale");
  const Layout l = layout_of(side, mask, split, log_scale.size(1) / (packed ? 2 : 1), 1);
  const Tensor g = as_rows(grad_y), rows = as_rows(side), scale = as_rows(log_scale);
  Tensor x = fresh_like(side), gs = fresh_like(log_scale), separate = packed ? fresh_vector(side, 0) : fresh_like(log_scale);
  const Tensor& gt = packed ? gs : separate;
  if (side.scalar_type() == ScalarType::Double) {
    backward<double>(l, g, grad_log_det, rows, scale, bound, s_max, inverse, x, gs, gt, MEDGEN_CALL(coupling_grad_double));
  } else {
    backward<float>(l, g, grad_log_det, rows, scale, bound, s_max, inverse, x, gs, gt, MEDGEN_CALL(coupling_grad_float));
  }
  return {x, gs, separate};
}

}  // namespace
}  // namespace medgen

STABLE_TORCH_LIBRARY_IMPL(medgen, CPU, m) {
  m.impl("affine_coupling", TORCH_BOX(&medgen::affine_coupling));
  m.impl("affine_coupling_out", TORCH_BOX(&medgen::affine_coupling_out));
  m.impl("affine_coupling_backward", TORCH_BOX(&medgen::affine_coupling_backward));
  m.impl("additive_coupling", TORCH_BOX(&medgen::additive_coupling));
  m.impl("additive_coupling_out", TORCH_BOX(&medgen::additive_coupling_out));
}
