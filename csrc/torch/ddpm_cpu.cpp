// medgen::ddpm_step on the CPU.

#include <cmath>
#include <optional>

#include "cpu/ddpm.h"
#include "torch/ddpm.h"
#include "torch/dispatch.h"

namespace medgen {
namespace {

constexpr std::int64_t kNoisyGrain = 2048;   // counters, of four elements each, below which a second thread costs more than it brings
constexpr std::int64_t kPlainGrain = 16384;  // the same without noise

void check_rows(const Tensor& step, std::int64_t steps) {
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
  check_step(out, x, output, table, step, index, learned);
  check_rows(step, table.size(0));
  if (x.scalar_type() == ScalarType::Double) {
    run<double>(out, x, output, table, step, index, seed, stream, clip, learned, MEDGEN_CALL(ddpm_step_double));
  } else {
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
