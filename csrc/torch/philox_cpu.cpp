// medgen::philox_* on the CPU.

#include "torch/dispatch.h"
#include "torch/tensors.h"

namespace medgen {
namespace {

constexpr std::int64_t kGrain = 4096;  // counters, of four values each, below which a second thread costs more than it brings

template <class T, class Kernel>
void fill(Tensor& out, const Tensor& index, std::int64_t count, std::int64_t seed, std::int64_t stream, Kernel kernel) {
  T* to = static_cast<T*>(out.mutable_data_ptr());
  const auto* samples = static_cast<const std::int64_t*>(index.const_data_ptr());
  const std::int64_t counters = index.numel() * ((count + 3) / 4);
  torch::stable::parallel_for(0, counters, kGrain, [&](std::int64_t begin, std::int64_t end) {
    kernel(to, samples, begin, end, count, static_cast<std::uint64_t>(seed), static_cast<std::uint32_t>(stream));
  });
}

Tensor flat(const Tensor& index, std::int64_t count, ScalarType dtype) {
  sample_numbers(index);
  return torch::stable::new_empty(index, {index.numel(), count}, dtype);
}

Tensor philox_normal(const Tensor& index, std::int64_t count, std::int64_t seed, std::int64_t stream, ScalarType dtype) {
  Tensor out = flat(index, count, dtype);
  if (dtype == ScalarType::Double) {
    fill<double>(out, index, count, seed, stream, MEDGEN_CALL(normal_double));
  } else {
    STD_TORCH_CHECK(dtype == ScalarType::Float, "dtype must be float32 or float64");
    fill<float>(out, index, count, seed, stream, MEDGEN_CALL(normal_float));
  }
  return out;
}

Tensor philox_uniform(const Tensor& index, std::int64_t count, std::int64_t seed, std::int64_t stream, ScalarType dtype) {
  Tensor out = flat(index, count, dtype);
  if (dtype == ScalarType::Double) {
    fill<double>(out, index, count, seed, stream, MEDGEN_CALL(uniform_double));
  } else {
    STD_TORCH_CHECK(dtype == ScalarType::Float, "dtype must be float32 or float64");
    fill<float>(out, index, count, seed, stream, MEDGEN_CALL(uniform_float));
  }
  return out;
}

Tensor philox_bits(const Tensor& index, std::int64_t count, std::int64_t seed, std::int64_t stream) {
  Tensor out = flat(index, count, ScalarType::Long);
  fill<std::int64_t>(out, index, count, seed, stream, MEDGEN_CALL(philox_words));
  return out;
}

}  // namespace
}  // namespace medgen

STABLE_TORCH_LIBRARY_IMPL(medgen, CPU, m) {
  m.impl("philox_normal", TORCH_BOX(&medgen::philox_normal));
  m.impl("philox_uniform", TORCH_BOX(&medgen::philox_uniform));
  m.impl("philox_bits", TORCH_BOX(&medgen::philox_bits));
}
