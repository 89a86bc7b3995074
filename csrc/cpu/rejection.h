// Draws from a Parzen density and rejection steps on the CPU.
#pragma once

#include "cpu/parzen.h"

namespace medgen {

// Points to draw from: centre j with weight w_j, then L noise. cumulative: running sums of the normalised weights, or null for equal ones.
struct ParzenSource {
  ParzenRows points;
  const double* cumulative;
};

// A packed Parzen density. constant: ln of the Gaussian's normaliser.
struct ParzenDensity {
  ParzenRows like;  // of the rows whose density is asked: centre, factor, type
  ParzenPoints narrow, wide;
  double constant;
};

// Proposals from a Gaussian (mean not null) or from `source`, whose density is then `wider`; accepted where
// log_k + ln u + log_q < log_p. Noise: normals of (seed, index, stream); words 0 and 1 of stream + 1 choose the centre and make u.
struct RejectionJob {
  const std::int64_t* index;
  std::uint64_t seed;
  std::uint32_t stream;
  double log_k;
  const double* mean;
  ParzenSource source;  // its factor is also the Gaussian's
  ParzenDensity target, wider;
  void* proposals;
  bool* accepted;
  double *log_p, *log_q;
};

}  // namespace medgen

// Rows [begin, end) of proposals [B, dim], float or double as the points are.
MEDGEN_KERNEL(parzen_draw, (const medgen::ParzenSource& source, const std::int64_t* index, std::uint64_t seed, std::uint32_t stream, void* proposals,
                            std::int64_t begin, std::int64_t end))
MEDGEN_KERNEL(rejection_step, (const medgen::RejectionJob& job, std::int64_t begin, std::int64_t end))
