// Sums and copies that do not depend on alignment, instruction set or thread count.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/hd.h"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

MEDGEN_NAMESPACE_BEGIN

inline constexpr int kSumLanes = 32;

// Term i of a run goes to lane i % 32, in float64; the lanes are added as a tree.
struct LaneSum {
  alignas(64) double lane[kSumLanes] = {};

  MEDGEN_HD double total() const {
    alignas(64) double v[8];
#pragma omp simd
    for (int j = 0; j < 8; ++j) v[j] = (lane[j] + lane[j + 8]) + (lane[j + 16] + lane[j + 24]);
    return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
  }
};

// Copy with stores that leave the caches alone. A fence must follow before another thread reads.
template <class T>
MEDGEN_HD void stream_copy(T* to, const T* from, std::int64_t n) {
#if defined(__AVX512F__) || defined(__AVX2__)
#if defined(__AVX512F__)
  constexpr std::int64_t kBytes = 64;
#else
  constexpr std::int64_t kBytes = 32;
#endif
  constexpr std::int64_t kStep = kBytes / static_cast<std::int64_t>(sizeof(T));
  const std::int64_t off = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(to) % kBytes) / static_cast<std::int64_t>(sizeof(T));
  std::int64_t i = off == 0 ? 0 : (kStep - off < n ? kStep - off : n);
  std::memcpy(to, from, static_cast<std::size_t>(i) * sizeof(T));
  for (; i + kStep <= n; i += kStep) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), _mm512_loadu_si512(from + i));
#else
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)));
#endif
  }
  std::memcpy(to + i, from + i, static_cast<std::size_t>(n - i) * sizeof(T));
#else
  std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
#endif
}

MEDGEN_HD void stream_fence() {
#if defined(__AVX512F__) || defined(__AVX2__)
  _mm_sfence();
#endif
}

MEDGEN_NAMESPACE_END
