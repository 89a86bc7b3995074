// What the diffusion ops check on the CPU and CUDA.
#pragma once

#include <vector>

#include "core/ddpm.h"
#include "torch/tensors.h"

namespace medgen {

// Whether the steps are rows of the table is for the caller: on a device nobody may wait for the answer.
inline void check_step(const Tensor& out, const Tensor& x, const Tensor& output, const Tensor& table, const Tensor& step, const Tensor& index,
                       bool learned) {
  const ScalarType dtype = x.scalar_type();
  STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::Double, "x must be float32 or float64");
  STD_TORCH_CHECK(x.dim() >= 1 && x.is_contiguous() && out.is_contiguous() && output.is_contiguous() && table.is_contiguous(),
                  "x, output, table and out must be contiguous");
  STD_TORCH_CHECK(out.scalar_type() == dtype && output.scalar_type() == dtype && table.scalar_type() == dtype, "dtypes must agree");
  STD_TORCH_CHECK(out.numel() == x.numel() && output.numel() == x.numel() * (learned ? 2 : 1), "sizes must agree");
  STD_TORCH_CHECK(table.dim() == 2 && table.size(1) == kStepColumns, "table must be [S, 8]");
  sample_numbers(index, x.size(0));
  STD_TORCH_CHECK(step.scalar_type() == ScalarType::Long && step.dim() == 1 && step.is_contiguous() &&
                      (step.numel() == x.size(0) || step.numel() == 1),
                  "step must be contiguous int64 [B] or [1]");
}

inline const float* floats(const Tensor& tensor, std::int64_t numel, const Tensor& x) {
  STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Float && tensor.is_contiguous() && tensor.numel() == numel &&
                      tensor.is_cuda() == x.is_cuda(),
                  "every tensor must be contiguous float32 of matching size on the device of x");
  return data<float>(tensor);
}

// A network and its chain: fills rows, layers, widths, weights, biases, steps, table, embedding and index of a job of either device.
template <class Job>
void set_chain(Job& job, const Tensor& x, const std::vector<Tensor>& weights, const std::vector<Tensor>& biases, const Tensor& embedding,
               const Tensor& table, const Tensor& index, std::size_t most_layers) {
  STD_TORCH_CHECK(x.dim() == 2, "x must be [B, D]");
  STD_TORCH_CHECK(!weights.empty() && weights.size() <= most_layers && biases.size() == weights.size(), "1 to ", most_layers, " layers, a bias each");
  using Width = std::remove_reference_t<decltype(job.widths[0])>;
  job.rows = x.size(0);
  job.widths[0] = static_cast<Width>(x.size(1));
  job.layers = static_cast<int>(weights.size());
  for (std::size_t l = 0; l < weights.size(); ++l) {
    STD_TORCH_CHECK(weights[l].dim() == 2 && weights[l].size(1) == job.widths[l], "weights must follow each other");
    const std::int64_t in = weights[l].size(1), out = weights[l].size(0);
    job.widths[l + 1] = static_cast<Width>(out);
    job.weights[l] = floats(weights[l], in * out, x);
    job.biases[l] = floats(biases[l], out, x);
  }
  STD_TORCH_CHECK(job.widths[weights.size()] == job.widths[0], "the network must return what it takes");
  STD_TORCH_CHECK(table.dim() == 2 && table.size(1) == kStepColumns, "table must be [S, 8]");
  const std::int64_t steps = table.size(0);
  job.steps = static_cast<decltype(job.steps)>(steps);
  job.table = floats(table, steps * kStepColumns, x);
  job.embedding = floats(embedding, steps * static_cast<std::int64_t>(job.widths[1]), x);
  job.index = sample_numbers(index, x.size(0));
}

}  // namespace medgen
