// The whole reverse chain of a diffusion model whose network is a small MLP with SiLU, block of rows by block of rows: a block's values
// stay in the cache for all steps.
#pragma once

#include "cpu/kernels.h"

namespace medgen {

inline constexpr int kMlpLayers = 8;    // at most
inline constexpr int kMlpRows = 64;     // of a block
inline constexpr int kMlpPanel = 32;    // widths are padded to multiples of it
inline constexpr int kMlpAlign = 64;    // bytes, of packed and scratch memory

struct MlpJob {
  float* x;  // [rows, widths[0]]: x_T in, x_0 out
  std::int64_t rows;
  int layers;
  std::int64_t widths[kMlpLayers + 1];
  const float* weights[kMlpLayers];  // [widths[l + 1], widths[l]]
  const float* biases[kMlpLayers];   // [widths[l + 1]]
  const float* embedding;            // [steps, widths[1]], added to the first layer's biases
  const float* table;                // [steps, kStepColumns]
  std::int64_t steps;
  const std::int64_t* index;  // [rows]
  std::uint64_t seed;
  std::uint32_t stream;  // step k draws from stream + k
  bool clipped, bfloat16;
  float clip;
  unsigned char* packed;  // mlp_packed_bytes of it; written by mlp_pack
};

constexpr std::int64_t mlp_padded(std::int64_t width) { return (width + kMlpPanel - 1) / kMlpPanel * kMlpPanel; }

}  // namespace medgen

// Bytes that a job needs: for packed weights, and for scratch memory of each thread.
MEDGEN_KERNEL(mlp_bytes, (const MlpJob& job, std::int64_t* packed, std::int64_t* scratch))
// Lays the weights out for the loop, rounded to bfloat16 where that is asked for.
MEDGEN_KERNEL(mlp_pack, (const MlpJob& job))
// Blocks [begin, end) of kMlpRows rows through all steps.
MEDGEN_KERNEL(mlp_loop, (const MlpJob& job, unsigned char* scratch, std::int64_t begin, std::int64_t end))
