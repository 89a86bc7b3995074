// medgen::ddpm_step on the CPU.

#include <cmath>
#include <optional>

#include "core/ddpm.h"
#include "cpu/ddpm.h"
#include "torch/dispatch.h"
#include "torch/tensors.h"

namespace medgen {
namespace {

constexpr std::int64_t kNoisyGrain = 2048;   // counters, of four elements each, below which a second thread costs more than it brings
constexpr std::int64_t kPlainGrain = 16384;  // the same without noise

bool is_long(const Tensor& tensor) { return tensor.scalar_type() == ScalarType::Long && tensor.dim() == 1 && tensor.is_contiguous(); }

void check_steps(const Tensor& step, std::int64_t rows, std::int64_t steps) {
  STD_TORCH_CHECK(is_long(step) && (step.numel() == rows || step.numel() == 1), "step must be contiguous int64 [B] or [1]");
  const auto* s = static_cast<const std::int64_t*>(step.const_data_ptr());
  for (std::int64_t i = 0; i < step.numel(); ++i) STD_TORCH_CHECK(s[i] >= 0 && s[i] < steps, "step must be a row of the table; got ", s[i]);
}

template <class T, class Kernel>
void run(const Tensor& out, const Tensor& x, const Tensor& output, const Tensor& table, const Tensor& step, const Tensor& index,
         std::int64_t seed, std::int64_t stream, std::optional<double> clip, bool learned, Kernel kernel) {
  const std::int64_t rows = x.size(0), count = rows == 0 ? 0 : x.numel() / rows;
  if (rows * count == 0) return;
  const StepJob<T> job{
      static_cast<T*>(const_cast<void*>(out.const_data_ptr())),
      static_cast<const T*>(x.const_data_ptr()),
      static_cast<const T*>(output.const_data_ptr()),
      static_cast<const T*>(table.const_data_ptr()),
      static_cast<const std::int64_t*>(step.const_data_ptr()),
      step.numel() == 1 ? 0 : 1,
      static_cast<const std::int64_t*>(index.const_data_ptr()),
      rows,
      count,
      static_cast<std::uint64_t>(seed),
      static_cast<std::uint32_t>(stream),
      clip.has_value(),
      learned,
      static_cast<T>(clip.value_or(0.0)),
  };
  const bool noisy = step.numel() != 1 || step_is_noisy(job.table[job.step[0] * kStepColumns + 6], learned);
  torch::stable::parallel_for(0, rows * ((count + 3) / 4), noisy ? kNoisyGrain : kPlainGrain,
                              [&](std::int64_t begin, std::int64_t end) { kernel(job, begin, end); });
}

void ddpm_step_out(const Tensor& out, const Tensor& x, const Tensor& output, const Tensor& table, const Tensor& step, const Tensor& index,
                   std::int64_t seed, std::int64_t stream, std::optional<double> clip, bool learned) {
  const ScalarType dtype = x.scalar_type();
  STD_TORCH_CHECK(x.dim() >= 1 && x.is_contiguous() && out.is_contiguous() && output.is_contiguous() && table.is_contiguous(),
                  "x, output, table and out must be contiguous");
  STD_TORCH_CHECK(out.scalar_type() == dtype && output.scalar_type() == dtype && table.scalar_type() == dtype, "dtypes must agree");
  STD_TORCH_CHECK(out.numel() == x.numel() && output.numel() == x.numel() * (learned ? 2 : 1), "sizes must agree");
  STD_TORCH_CHECK(table.dim() == 2 && table.size(1) == kStepColumns, "table must be [S, 8]");
  STD_TORCH_CHECK(is_long(index) && index.numel() == x.size(0), "index must be contiguous int64 [B]");
  check_steps(step, x.size(0), table.size(0));
  if (dtype == ScalarType::Double) {
    run<double>(out, x, output, table, step, index, seed, stream, clip, learned, MEDGEN_CALL(ddpm_step_double));
  } else {
    STD_TORCH_CHECK(dtype == ScalarType::Float, "x must be float32 or float64");
    run<float>(out, x, output, table, step, index, seed, stream, clip, learned, MEDGEN_CALL(ddpm_step_float));
  }
}

Tensor ddpm_step(const Tensor& x, const Tensor& output, const Tensor& table, const Tensor& step, const Tensor& index, std::int64_t seed,
                 std::int64_t stream, std::optional<double> clip, bool learned) {
  Tensor out = torch::stable::new_empty(x, x.sizes());
  ddpm_step_out(out, x, output, table, step, index, seed, stream, clip, learned);
  return out;
}

}  // namespace
}  // namespace medgen

STABLE_TORCH_LIBRARY_IMPL(medgen, CPU, m) {
  m.impl("ddpm_step", TORCH_BOX(&medgen::ddpm_step));
  m.impl("ddpm_step_out", TORCH_BOX(&medgen::ddpm_step_out));
}
