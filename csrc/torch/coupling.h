// What the coupling ops share on the CPU and CUDA: the layout of a call, checked, and its tensors as rows.
#pragma once

#include <array>
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

// Contiguous inside each sample, whatever the stride between samples.
inline bool rows_are_contiguous(const Tensor& tensor) {
  if (tensor.numel() == 0) return true;
  const auto sizes = tensor.sizes(), strides = tensor.strides();
  std::int64_t expected = 1;
  for (std::int64_t d = tensor.dim() - 1; d >= 1; --d) {
    const auto i = static_cast<std::size_t>(d);
    if (sizes[i] != 1 && strides[i] != expected) return false;
    expected *= sizes[i];
  }
  return true;
}

inline Tensor as_rows(const Tensor& tensor) {
  return rows_are_contiguous(tensor) ? tensor : torch::stable::contiguous(tensor);
}

inline std::int64_t row_stride(const Tensor& tensor) { return tensor.stride(0); }

// A new contiguous tensor; cheaper than torch::stable::new_empty, which looks its op up by name.
inline Tensor fresh(const Tensor& like, const std::int64_t* sizes, std::int64_t dim, ScalarType dtype) {
  std::array<std::int64_t, 64> strides{};
  std::int64_t stride = 1;
  for (std::int64_t d = dim - 1; d >= 0; --d) {
    strides[static_cast<std::size_t>(d)] = stride;
    stride *= std::max<std::int64_t>(sizes[d], 1);
  }
  std::int32_t type = 0, index = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &index));
  AtenTensorHandle made = nullptr;
  const std::int32_t number = dtype == ScalarType::Double ? aoti_torch_dtype_float64() : aoti_torch_dtype_float32();
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(dim, sizes, strides.data(), number, type, index, &made));
  return Tensor(made);
}

inline Tensor fresh_like(const Tensor& like) { return fresh(like, like.sizes().data(), like.dim(), like.scalar_type()); }
inline Tensor fresh_vector(const Tensor& like, std::int64_t n) { return fresh(like, &n, 1, like.scalar_type()); }

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

}  // namespace medgen
