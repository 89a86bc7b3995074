// Normals of 64 counters at a time.
#pragma once

#include "core/normal.h"
#include "cpu/words.h"

MEDGEN_NAMESPACE_BEGIN

// Box-Muller on 64 counters: 256 normals in the order of the elements.
MEDGEN_HD void normals(float* out, const Words& words) {
  alignas(64) float n[4][kBlock];
#pragma omp simd
  for (int j = 0; j < kBlock; ++j) {
    normal_pair(words.w[0][j], words.w[1][j], n[0][j], n[1][j]);
    normal_pair(words.w[2][j], words.w[3][j], n[2][j], n[3][j]);
  }
#pragma omp simd
  for (int j = 0; j < kBlock; ++j) {
    out[4 * j] = n[0][j];
    out[4 * j + 1] = n[1][j];
    out[4 * j + 2] = n[2][j];
    out[4 * j + 3] = n[3][j];
  }
}

MEDGEN_HD void normals(double* out, const Words& words) {
  for (int j = 0; j < kBlock; ++j) {
    normal_pair(words.w[0][j], words.w[1][j], out[4 * j], out[4 * j + 1]);
    normal_pair(words.w[2][j], words.w[3][j], out[4 * j + 2], out[4 * j + 3]);
  }
}

MEDGEN_NAMESPACE_END
