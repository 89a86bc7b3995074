// Philox words, 64 counters at a time, whichever samples and blocks they belong to.
#pragma once

#include <cstdint>

#include "core/philox.h"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

MEDGEN_NAMESPACE_BEGIN

inline constexpr int kBlock = 64;

// Counters in, words out: w[k][j] is word k of counter (block[j], stream[j], low[j], high[j]).
struct Words {
  alignas(64) std::uint32_t block[kBlock], stream[kBlock], low[kBlock], high[kBlock];
  alignas(64) std::uint32_t w[4][kBlock];
};

#if defined(__AVX512F__)
using Lanes = __m512i;
inline constexpr int kLanes = 8;  // one counter per 64-bit lane: the 32 x 32 -> 64 bit product then needs no shuffles
MEDGEN_HD Lanes lanes_set(std::uint64_t v) { return _mm512_set1_epi64(static_cast<long long>(v)); }
MEDGEN_HD Lanes lanes_load(const std::uint32_t* in) { return _mm512_cvtepu32_epi64(_mm256_load_si256(reinterpret_cast<const __m256i*>(in))); }
MEDGEN_HD Lanes lanes_mul(Lanes a, Lanes b) { return _mm512_mul_epu32(a, b); }
MEDGEN_HD Lanes lanes_high(Lanes a) { return _mm512_srli_epi64(a, 32); }
// The same in the lower half by a shuffle, which takes another port than products and shifts.
MEDGEN_HD Lanes lanes_high_shuffled(Lanes a) { return _mm512_shuffle_epi32(a, static_cast<_MM_PERM_ENUM>(0xf5)); }
MEDGEN_HD Lanes lanes_xor(Lanes a, Lanes b, Lanes c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
MEDGEN_HD void lanes_store(std::uint32_t* out, Lanes a) { _mm256_store_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi64_epi32(a)); }
#define MEDGEN_LANES 1
#elif defined(__AVX2__)
using Lanes = __m256i;
inline constexpr int kLanes = 4;
MEDGEN_HD Lanes lanes_set(std::uint64_t v) { return _mm256_set1_epi64x(static_cast<long long>(v)); }
MEDGEN_HD Lanes lanes_load(const std::uint32_t* in) { return _mm256_cvtepu32_epi64(_mm_load_si128(reinterpret_cast<const __m128i*>(in))); }
MEDGEN_HD Lanes lanes_mul(Lanes a, Lanes b) { return _mm256_mul_epu32(a, b); }
MEDGEN_HD Lanes lanes_high(Lanes a) { return _mm256_srli_epi64(a, 32); }
MEDGEN_HD Lanes lanes_high_shuffled(Lanes a) { return _mm256_shuffle_epi32(a, 0xf5); }
MEDGEN_HD Lanes lanes_xor(Lanes a, Lanes b, Lanes c) { return _mm256_xor_si256(_mm256_xor_si256(a, b), c); }
MEDGEN_HD void lanes_store(std::uint32_t* out, Lanes a) {
  const __m256i packed = _mm256_permutevar8x32_epi32(a, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));
  _mm_store_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(packed));
}
#define MEDGEN_LANES 1
#endif

#if defined(MEDGEN_LANES)
// Two groups of lanes at once hide the latency of the multiplications.
MEDGEN_HD void fill_words(Words& words, std::uint64_t seed) {
  const Lanes m0 = lanes_set(0xD2511F53), m1 = lanes_set(0xCD9E8D57);
  constexpr int kGroups = 4;
  for (int start = 0; start < kBlock; start += kGroups * kLanes) {
    Lanes c0[kGroups], c1[kGroups], c2[kGroups], c3[kGroups];
    for (int g = 0; g < kGroups; ++g) {
      c0[g] = lanes_load(words.block + start + g * kLanes);
      c1[g] = lanes_load(words.stream + start + g * kLanes);
      c2[g] = lanes_load(words.low + start + g * kLanes);
      c3[g] = lanes_load(words.high + start + g * kLanes);
    }
    std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
      const Lanes key0 = lanes_set(k0), key1 = lanes_set(k1);
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) {
        // The upper halves of the lanes hold rubbish after a round; products read the lower halves only.
        const Lanes p0 = lanes_mul(c0[g], m0), p1 = lanes_mul(c2[g], m1);
        c0[g] = lanes_xor(lanes_high(p1), c1[g], key0);
        c2[g] = lanes_xor(lanes_high_shuffled(p0), c3[g], key1);
        c1[g] = p1;
        c3[g] = p0;
      }
      k0 += 0x9E3779B9;
      k1 += 0xBB67AE85;
    }
    for (int g = 0; g < kGroups; ++g) {
      lanes_store(words.w[0] + start + g * kLanes, c0[g]);
      lanes_store(words.w[1] + start + g * kLanes, c1[g]);
      lanes_store(words.w[2] + start + g * kLanes, c2[g]);
      lanes_store(words.w[3] + start + g * kLanes, c3[g]);
    }
  }
}
#else
MEDGEN_HD void fill_words(Words& words, std::uint64_t seed) {
  for (int j = 0; j < kBlock; ++j) {
    const Philox p = philox(words.block[j], words.stream[j], words.low[j], words.high[j], seed);
    words.w[0][j] = p.w0;
    words.w[1][j] = p.w1;
    words.w[2][j] = p.w2;
    words.w[3][j] = p.w3;
  }
}
#endif

// The counters of one row of `per_row` blocks after another, 64 at a time.
class Counters {
 public:
  // first: number of the first counter, counted over all rows. Row r draws from stream + step[r * stride], or from `stream` without steps.
  MEDGEN_HD Counters(const std::int64_t* index, std::int64_t per_row, std::int64_t first, std::uint32_t stream,
                     const std::int64_t* step = nullptr, std::int64_t stride = 0)
      : index_(index), step_(step), per_row_(per_row), stride_(stride), row_(first / per_row), block_(first % per_row), stream_(stream) {}

  // The next `n` <= 64 counters; the lanes beyond them repeat the last.
  MEDGEN_HD void next(Words& words, int n) {
    int j = 0;
    while (j < n) {
      const std::uint64_t sample = static_cast<std::uint64_t>(index_[row_]);
      const std::uint32_t low = static_cast<std::uint32_t>(sample), high = static_cast<std::uint32_t>(sample >> 32);
      const std::uint32_t first = static_cast<std::uint32_t>(block_);
      const std::uint32_t stream = stream_ + (step_ == nullptr ? 0u : static_cast<std::uint32_t>(step_[row_ * stride_]));
      const int stretch = static_cast<int>(per_row_ - block_ < n - j ? per_row_ - block_ : n - j);
      for (int k = 0; k < stretch; ++k) {
        words.block[j + k] = first + static_cast<std::uint32_t>(k);
        words.stream[j + k] = stream;
        words.low[j + k] = low;
        words.high[j + k] = high;
      }
      j += stretch;
      block_ += stretch;
      if (block_ == per_row_) {
        block_ = 0;
        ++row_;
      }
    }
    for (; j < kBlock; ++j) {
      words.block[j] = words.block[n - 1];
      words.stream[j] = words.stream[n - 1];
      words.low[j] = words.low[n - 1];
      words.high[j] = words.high[n - 1];
    }
  }

 private:
  const std::int64_t *index_, *step_;
  std::int64_t per_row_, stride_, row_, block_;
  std::uint32_t stream_;
};

MEDGEN_NAMESPACE_END
