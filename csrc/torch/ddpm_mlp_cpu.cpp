// medgen::ddpm_sample_mlp on the CPU.

#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <vector>

#include "core/ddpm.h"
#include "cpu/mlp_loop.h"
#include "torch/dispatch.h"
#include "torch/tensors.h"

namespace medgen {
namespace {

struct Release {
  void operator()(unsigned char* memory) const { ::operator delete(memory, std::align_val_t{kMlpAlign}); }
};
using Memory = std::unique_ptr<unsigned char, Release>;

Memory aligned(std::int64_t bytes) {
  return Memory(static_cast<unsigned char*>(::operator new(static_cast<std::size_t>(bytes), std::align_val_t{kMlpAlign})));
}

const float* floats(const Tensor& tensor, std::int64_t numel) {
  STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Float && tensor.is_contiguous() && tensor.numel() == numel,
                  "every tensor must be contiguous float32 of matching size");
  return static_cast<const float*>(tensor.const_data_ptr());
}

void set_layers(MlpJob& job, const std::vector<Tensor>& weights, const std::vector<Tensor>& biases) {
  STD_TORCH_CHECK(!weights.empty() && weights.size() <= kMlpLayers && biases.size() == weights.size(), "1 to 8 layers, a bias each");
  job.layers = static_cast<int>(weights.size());
  for (std::size_t l = 0; l < weights.size(); ++l) {
    STD_TORCH_CHECK(weights[l].dim() == 2 && weights[l].size(1) == job.widths[l], "weights must follow each other");
    job.widths[l + 1] = weights[l].size(0);
    job.weights[l] = floats(weights[l], job.widths[l] * job.widths[l + 1]);
    job.biases[l] = floats(biases[l], job.widths[l + 1]);
  }
  STD_TORCH_CHECK(job.widths[weights.size()] == job.widths[0], "the network must return what it takes");
}

Tensor ddpm_sample_mlp(const Tensor& x, const std::vector<Tensor>& weights, const std::vector<Tensor>& biases, const Tensor& embedding,
                       const Tensor& table, const Tensor& index, std::int64_t seed, std::int64_t stream, std::optional<double> clip,
                       bool bfloat16) {
  STD_TORCH_CHECK(x.dim() == 2, "x must be [B, D]");
  MlpJob job{};
  job.rows = x.size(0);
  job.widths[0] = x.size(1);
  set_layers(job, weights, biases);
  job.steps = table.size(0);
  job.table = floats(table, job.steps * kStepColumns);
  job.embedding = floats(embedding, job.steps * job.widths[1]);
  STD_TORCH_CHECK(index.scalar_type() == ScalarType::Long && index.is_contiguous() && index.numel() == job.rows, "index must be int64 [B]");
  job.index = static_cast<const std::int64_t*>(index.const_data_ptr());
  job.seed = static_cast<std::uint64_t>(seed);
  job.stream = static_cast<std::uint32_t>(stream);
  job.clipped = clip.has_value();
  job.clip = static_cast<float>(clip.value_or(0.0));
  job.bfloat16 = bfloat16;

  const float* from = floats(x, job.rows * job.widths[0]);
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
