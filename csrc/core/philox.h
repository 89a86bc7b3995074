// Philox4x32-10: four 32-bit words per counter.
// Parallel random numbers: as easy as 1, 2, 3 (Salmon, Moraes, Dror, Shaw, 2011), https://doi.org/10.1145/2063384.2063405
#pragma once

#include <cstdint>

#include "core/hd.h"

MEDGEN_NAMESPACE_BEGIN

struct Philox {
  std::uint32_t w0, w1, w2, w3;
};

// Counter (block, stream, sample low, sample high), key = seed: word e of a sample is word e % 4 of block e / 4.
MEDGEN_HD Philox philox(std::uint32_t block, std::uint32_t stream, std::uint32_t sample_low, std::uint32_t sample_high,
                        std::uint64_t seed) {
  constexpr std::uint32_t kM0 = 0xD2511F53, kM1 = 0xCD9E8D57;
  constexpr std::uint32_t kW0 = 0x9E3779B9, kW1 = 0xBB67AE85;
  std::uint32_t c0 = block, c1 = stream, c2 = sample_low, c3 = sample_high;
  std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
#if defined(__CUDACC__)
#pragma unroll
#endif
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{c0} * std::uint64_t{kM0}, p1 = std::uint64_t{c2} * std::uint64_t{kM1};
    c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(p1);
    c3 = static_cast<std::uint32_t>(p0);
    k0 += kW0;
    k1 += kW1;
  }
  return {c0, c1, c2, c3};
}

MEDGEN_NAMESPACE_END
