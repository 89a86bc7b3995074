// medgen::affine_coupling, its backward, and medgen::additive_coupling on CUDA.

#include "cuda/coupling.cuh"

#include <optional>
#include <tuple>

#include "torch/coupling.h"

namespace medgen {
namespace {

using namespace coupling;

template <class T>
void forward(const Tensor& x, const Layout& l, const Tensor* scale, const Tensor& shift, std::int64_t bound, double s_max, bool inverse,
             const Tensor& y, const Tensor* log_det) {
  if (l.batch == 0) return;
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const cudaStream_t stream = current_stream(x);
  Args<T> a{};
  a.layout = l;
  cut(a);
  a.s_max = static_cast<T>(s_max);
  a.x = data<T>(x), a.y = mutable_data<T>(y);
  a.x_row = row_stride(x), a.y_row = row_stride(y), a.t_row = row_stride(shift);
  if (scale != nullptr) a.s = data<T>(*scale), a.s_row = row_stride(*scale), a.log_det = mutable_data<T>(*log_det);
  a.t = scale == &shift ? a.s + l.parameters : data<T>(shift);
  const bool packed = groups(l) && packs(a.x, a.x_row) && packs<T>(a.y, a.y_row) && packs(a.t, a.t_row) && packs(a.s, a.s_row);
  if (scale == nullptr) {
    inverse ? launch_forward<T, Bound::kNone, true, true>(a, packed, stream) : launch_forward<T, Bound::kNone, false, true>(a, packed, stream);
    return;
  }
  const std::int64_t parts = l.batch * a.chunks;
  Tensor partial = fresh(x, &parts, 1, ScalarType::Double);
  if (a.chunks > 1) a.partial = mutable_data<double>(partial);
  choose(bound, inverse, [&](auto chosen, auto backwards) { launch_forward<T, chosen.value, backwards.value, false>(a, packed, stream); });
  if (a.chunks > 1) {
    finish_kernel<T><<<blocks_for(l.batch), kThreads, 0, stream>>>(a.partial, a.log_det, l.batch, a.chunks);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
}

void affine_into(const Tensor& x, const Tensor& log_scale, const std::optional<Tensor>& shift, std::int64_t mask, std::int64_t split,
                 std::int64_t bound, double s_max, bool inverse, const Tensor& y, const Tensor& log_det) {
  check_floating(x);
  const Parameters p(x, log_scale, shift);
  const Layout l = layout_of(x, mask, split, p.channels, 1);
  const Tensor rows = as_rows(x);
  const Tensor& t = p.shift.has_value() ? *p.shift : p.scale;
  check_overlap(y, rows, "x", true);
  check_overlap(y, p.scale, "log_scale", false);
  check_overlap(y, t, "shift", false);
  if (x.scalar_type() == ScalarType::Double) {
    forward<double>(rows, l, &p.scale, t, bound, s_max, inverse, y, &log_det);
  } else {
    forward<float>(rows, l, &p.scale, t, bound, s_max, inverse, y, &log_det);
  }
}

std::tuple<Tensor, Tensor> affine_coupling(const Tensor& x, const Tensor& log_scale, const std::optional<Tensor>& shift, std::int64_t mask,
                                           std::int64_t split, std::int64_t bound, double s_max, bool inverse) {
  check_floating(x);
  Tensor y = fresh_like(x), log_det = fresh_vector(x, x.size(0));
  affine_into(x, log_scale, shift, mask, split, bound, s_max, inverse, y, log_det);
  return {y, log_det};
}

Tensor affine_coupling_out(const Tensor& x, const Tensor& log_scale, const std::optional<Tensor>& shift, std::int64_t mask, std::int64_t split,
                           std::int64_t bound, double s_max, bool inverse, Tensor out) {
  check_out(out, x);
  Tensor log_det = fresh_vector(x, x.size(0));
  affine_into(x, log_scale, shift, mask, split, bound, s_max, inverse, out, log_det);
  return log_det;
}

void additive_into(const Tensor& x, const Tensor& shift, std::int64_t mask, std::int64_t split, bool inverse, const Tensor& y) {
  check_floating(x);
  check_like(shift, x, "shift");
  const Layout l = layout_of(x, mask, split, shift.size(1), 1);
  const Tensor rows = as_rows(x), t = as_rows(shift);
  check_overlap(y, rows, "x", true);
  check_overlap(y, t, "shift", false);
  if (x.scalar_type() == ScalarType::Double) {
    forward<double>(rows, l, nullptr, t, 0, 1.0, inverse, y, nullptr);
  } else {
    forward<float>(rows, l, nullptr, t, 0, 1.0, inverse, y, nullptr);
  }
}

Tensor additive_coupling(const Tensor& x, const Tensor& shift, std::int64_t mask, std::int64_t split, bool inverse) {
  check_floating(x);
  Tensor y = fresh_like(x);
  additive_into(x, shift, mask, split, inverse, y);
  return y;
}

void additive_coupling_out(const Tensor& x, const Tensor& shift, std::int64_t mask, std::int64_t split, bool inverse, Tensor out) {
  check_out(out, x);
  additive_into(x, shift, mask, split, inverse, out);
}

template <class T>
void backward(const Layout& l, const Tensor& grad_y, const Tensor& grad_log_det, const Tensor& side, const Tensor& scale, std::int64_t bound,
              double s_max, bool inverse, const Tensor& x, const Tensor& gs, const Tensor& gt) {
  if (l.batch == 0) return;
  const torch::stable::accelerator::DeviceGuard guard(side.get_device_index());
  Args<T> a{};
  a.layout = l;
  cut(a);
  a.s_max = static_cast<T>(s_max);
  a.t = data<T>(grad_y), a.grad_log_det = data<T>(grad_log_det), a.x = data<T>(side), a.s = data<T>(scale);
  a.t_row = row_stride(grad_y), a.grad_log_det_row = row_stride(grad_log_det), a.x_row = row_stride(side), a.s_row = row_stride(scale);
  a.y = mutable_data<T>(x), a.gs = mutable_data<T>(gs), a.gt = &gs == &gt ? a.gs + l.parameters : mutable_data<T>(gt);
  a.y_row = row_stride(x), a.gs_row = row_stride(gs), a.gt_row = row_stride(gt);
  const bool packed = groups(l) && packs(a.x, a.x_row) && packs<T>(a.y, a.y_row) && packs(a.t, a.t_row) && packs(a.s, a.s_row) &&
                      packs<T>(a.gs, a.gs_row) && packs<T>(a.gt, a.gt_row);
  const cudaStream_t stream = current_stream(side);
  choose(bound, inverse, [&](auto chosen, auto backwards) { launch_backward<T, chosen.value, backwards.value>(a, packed, stream); });
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
    backward<double>(l, g, grad_log_det, rows, scale, bound, s_max, inverse, x, gs, gt);
  } else {
    backward<float>(l, g, grad_log_det, rows, scale, bound, s_max, inverse, x, gs, gt);
  }
  return {x, gs, separate};
}

}  // namespace
}  // namespace medgen

STABLE_TORCH_LIBRARY_IMPL(medgen, CUDA, m) {
  m.impl("affine_coupling", TORCH_BOX(&medgen::affine_coupling));
  m.impl("affine_coupling_out", TORCH_BOX(&medgen::affine_coupling_out));
  m.impl("affine_coupling_backward", TORCH_BOX(&medgen::affine_coupling_backward));
  m.impl("additive_coupling", TORCH_BOX(&medgen::additive_coupling));
  m.impl("additive_coupling_out", TORCH_BOX(&medgen::additive_coupling_out));
}
