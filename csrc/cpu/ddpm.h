// One reverse step of a diffusion model for a batch, noise included.
#pragma once

#include "cpu/kernels.h"

namespace medgen {

template <class T>
struct StepJob {
  T* out;                    // [rows, count]; may be x
  const T* x;                // [rows, count]
  const T* output;           // [rows, count], or [rows, 2 count] where the variance is learned
  const T* table;            // [steps, kStepColumns]
  const std::int64_t* step;  // of each row, `stride` apart; 0 when all rows share one
  std::int64_t stride;
  const std::int64_t* index;  // sample numbers [rows]
  std::int64_t rows, count;
  std::uint64_t seed;
  std::uint32_t stream;  // row r draws from stream + its step
  bool clipped, learned;
  T clip;
};

}  // namespace medgen

// Counters [begin, end) of the job: a row has ceil(count / 4) of them, four elements each.
MEDGEN_KERNEL(ddpm_step_float, (const StepJob<float>& job, std::int64_t begin, std::int64_t end))
MEDGEN_KERNEL(ddpm_step_double, (const StepJob<double>& job, std::int64_t begin, std::int64_t end))
