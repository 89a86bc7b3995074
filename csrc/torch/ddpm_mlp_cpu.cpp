// medgen::ddpm_sample_mlp on the CPU.

#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <vector>

#include "cpu/mlp_loop.h"
#include "torch/ddpm.h"
#include "torch/dispatch.h"

namespace medgen {
namespace {

struct Release {
  void operator()(unsigned char* memory) const { ::operator delete(memory, std::align_val_t{kMlpAlign}); }
};
using Memory = std::unique_ptr<unsigned char, Release>;

Memory aligned(std::int64_t bytes) {
  return Memory(static_cast<unsigned char*>(::operator new(static_cast<std::size_t>(bytes), std::align_val_t{kMlpAlign})));
}

Tensor ddpm_sample_mlp(const Tensor& x, const std::vector<Tensor>& weights, const std::vector<Tensor>& biases, const Tensor& embedding,
                       const Tensor& table, const Tensor& index, std::int64_t seed, std::int64_t stream, std::optional<double> clip,
                       bool bfloat16) {
  MlpJob job{};
  set_chain(job, x, weights, biases, embedding, table, index, kMlpLayers);
  job.seed = static_cast<std::uint64_t>(seed);
  job.stream = static_cast<std::uint32_t>(stream);
  job.clipped = clip.has_value();
  job.clip = static_cast<float>(clip.value_or(0.0));
  job.bfloat16 = bfloat16;

  const float* from = floats(x, x.numel(), x);
  Tensor out = torch::stable::new_empty(x, x.sizes());
  if (out.numel() == 0) return out;
  job.x = static_cast<float*>(out.mutable_data_ptr());
  std::memcpy(job.x, from, static_cast<std::size_t>(out.numel()) * sizeof(float));

  std::int64_t packed = 0, scratch = 0;
  MEDGEN_CALL(mlp_bytes)(job, &packed, &scratch);
  const Memory weights_memory = aligned(packed);
  job.packed = weights_memory.get();
  MEDGEN_CALL(mlp_pack)(job);
  torch::stable::parallel_for(0, (job.rows + kMlpRows - 1) / kMlpRows, 1, [&](std::int64_t begin, std::int64_t end) {
    const Memory mine = aligned(scratch);
    MEDGEN_CALL(mlp_loop)(job, mine.get(), begin, end);
  });
  return out;
}

}  // namespace
}  // namespace medgen

STABLE_TORCH_LIBRARY_IMPL(medgen, CPU, m) { m.impl("ddpm_sample_mlp", TORCH_BOX(&medgen::ddpm_sample_mlp)); }
