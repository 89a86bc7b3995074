// What the coupling ops share on the CPU and CUDA: the layout of a call, checked, and its tensors as rows.
#pragma once

#include <cstdint>
#include <optional>

#include "core/affine.h"
#include "torch/tensors.h"

namespace medgen {

// The numbers of medgen/ops/reference/affine_coupling.py.
enum class Mask : std::int64_t { kFirst = 0, kSecond = 1, kEven = 2, kOdd = 3, kChecker0 = 4, kChecker1 = 5 };

// per_element: parameters of an element along dim 1 of `parameters`.
inline Layout layout_of(const Tensor& x, std::int64_t mask, std::int64_t split, std::int64_t parameter_channels, std::int64_t per_element) {
  STD_TORCH_CHECK(x.dim() >= 2, "x must be [B, D] or [B, C, *S]");
  STD_TORCH_CHECK(mask >= 0 && mask <= 5, "mask must be 0 to 5; got ", mask);
  const std::int64_t batch = x.size(0), channels = x.size(1), dim = x.dim();
  std::int64_t inner = 1;
  for (std::int64_t d = 2; d < dim; ++d) inner *= x.size(d);
  Layout l{};
  l.batch = batch;
  l.count = channels * inner;
  l.parity = mask % 2;
  std::int64_t transformed = 0;
  if (mask <= 1) {
    STD_TORCH_CHECK(split >= 0 && split <= channels, "split must be in [0, C]; got ", split);
    l.pattern = Pattern::kHalf;
    l.blocks = 2;
    l.length[0] = split * inner;
    l.length[1] = (channels - split) * inner;
    transformed = mask == 0 ? split : channels - split;
  } else if (mask <= 3) {
    l.pattern = inner == 1 ? Pattern::kChecker : Pattern::kAlternate;
    l.blocks = channels;
    l.length[0] = l.length[1] = inner;
    l.width = channels;
    l.height = l.depth = 1;
    transformed = (channels + 1 - l.parity) / 2;
  } else {
    STD_TORCH_CHECK(dim >= 3 && dim <= 5, "a checkerboard needs one to three spatial axes");
    l.pattern = Pattern::kChecker;
    l.width = x.size(dim - 1);
    l.height = dim > 3 ? x.size(dim - 2) : 1;
    l.depth = dim > 4 ? x.size(dim - 3) : 1;
    transformed = channels;
  }
  l.full = parameter_channels == channels * per_element;
  STD_TORCH_CHECK(l.full || parameter_channels == transformed * per_element, "parameters must have ", channels * per_element, " or ",
                  transformed * per_element, " channels; got ", parameter_channels);
  l.parameters = (l.full ? channels : transformed) * inner;
  return l;
}

// One tensor's share of another's checks.
inline void check_like(const Tensor& tensor, const Tensor& x, const char* name) {
  STD_TORCH_CHECK(tensor.scalar_type() == x.scalar_type(), name, " must have the dtype of x");
  STD_TORCH_CHECK(tensor.dim() == x.dim() && tensor.size(0) == x.size(0), name, " must be [B, ...] like x");
  for (std::int64_t d = 2; d < x.dim(); ++d) STD_TORCH_CHECK(tensor.size(d) == x.size(d), name, " must have the spatial shape of x");
}

inline void check_floating(const Tensor& x) {
  STD_TORCH_CHECK(x.scalar_type() == ScalarType::Float || x.scalar_type() == ScalarType::Double,
                  "the native op takes float32 and float64; cast half and bfloat16 to float32");
}

// `out` may be `tensor` itself where `same` is allowed, but not overlap it otherwise.
inline void check_overlap(const Tensor& out, const Tensor& tensor, const char* name, bool same_allowed) {
  if (out.numel() == 0 || tensor.numel() == 0) return;
  const std::int64_t size = out.scalar_type() == ScalarType::Double ? 8 : 4;
  const auto span = [&](const Tensor& t) { return ((t.size(0) - 1) * t.stride(0) + t.numel() / t.size(0)) * size; };
  const auto *a = static_cast<const char*>(out.const_data_ptr()), *b = static_cast<const char*>(tensor.const_data_ptr());
  const bool same = same_allowed && a == b && (out.size(0) == 1 || out.stride(0) == tensor.stride(0));
  STD_TORCH_CHECK(same || a + span(out) <= b || b + span(tensor) <= a, "out must not overlap ", name);
}

// A given output: the shape of x, contiguous in each sample.
inline void check_out(const Tensor& out, const Tensor& x) {
  check_like(out, x, "out");
  STD_TORCH_CHECK(out.size(1) == x.size(1) && rows_are_contiguous(out), "out must have the shape of x, contiguous in each sample");
}

// The gradients that reach a coupling of x.
inline void check_gradients(const Tensor& grad_y, const Tensor& grad_log_det, const Tensor& x) {
  check_like(grad_y, x, "grad_y");
  STD_TORCH_CHECK(grad_log_det.dim() == 1 && grad_log_det.size(0) == x.size(0) && grad_log_det.scalar_type() == x.scalar_type(),
                  "grad_log_det must be [B] of the dtype of x");
}

// Log-scale and shift as rows: two tensors, or the two halves of one.
struct Parameters {
  Tensor scale;
  std::optional<Tensor> shift;
  std::int64_t channels;
  Parameters(const Tensor& x, const Tensor& log_scale, const std::optional<Tensor>& shift_) : scale(log_scale), shift(shift_), channels(0) {
    check_like(scale, x, "log_scale");
    scale = as_rows(scale);
    if (shift.has_value()) {
      check_like(*shift, x, "shift");
      STD_TORCH_CHECK(shift->size(1) == scale.size(1), "shift must have the shape of log_scale");
      shift = as_rows(*shift);
    }
    STD_TORCH_CHECK(shift.has_value() || scale.size(1) % 2 == 0, "packed parameters must have an even number of channels");
    channels = shift.has_value() ? scale.size(1) : scale.size(1) / 2;
  }
};

}  // namespace medgen
