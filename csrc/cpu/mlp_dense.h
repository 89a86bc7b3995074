// A dense layer in float32 on packed weights, with SiLU.
//
// Every row is computed alone, in one fixed order of its inputs: what a sample becomes does not depend on its neighbours.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/ddpm.h"
#include "cpu/simd.h"

MEDGEN_NAMESPACE_BEGIN

// x / (1 + exp(-x)), relative error below 3e-7.
MEDGEN_HD Simd<float> silu(Simd<float> x) {
  const Simd<float> bounded = larger(splat<float>(-87.0f), x);
  const Simd<float> d = add_exp2<float>(splat<float>(1.0f), bounded * -1.44269504088896341f);
#if defined(__AVX512F__)
  Simd<float> r = _mm512_maskz_rcp14_ps(static_cast<__mmask16>(-1), d);
  r = r * (2.0f - d * r);  // 14 bits become 24
  return x * r;
#else
  return x / d;
#endif
}

// To the nearest bfloat16, ties to even. (Nothing here is infinite unless it already went wrong; NaN stays NaN in the upper half.)
MEDGEN_HD float round_bfloat16(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, 4);
  bits += 0x7fffu + ((bits >> 16) & 1u);
  bits &= 0xffff0000u;
  float y;
  std::memcpy(&y, &bits, 4);
  return x == x ? y : x;
}

// Weights [in, out] in panels of kMlpPanel columns; both padded with zeros.
struct FloatDense {
  using Value = float;
  static constexpr int kRows = MEDGEN_VECTOR_BYTES == 64 ? 8 : MEDGEN_VECTOR_BYTES == 32 ? 2 : 1;
  static constexpr int kVectors = kMlpPanel / kWidth<float>;

  static void pack(float* to, const float* weight, std::int64_t out, std::int64_t in, bool bfloat16) {
    const std::int64_t columns = mlp_padded(out), depth = mlp_padded(in);
    for (std::int64_t n = 0; n < columns; ++n)
      for (std::int64_t k = 0; k < depth; ++k) {
        const float w = n < out && k < in ? weight[n * in + k] : 0.0f;
        to[(n / kMlpPanel * depth + k) * kMlpPanel + n % kMlpPanel] = bfloat16 ? round_bfloat16(w) : w;
      }
  }

  static MEDGEN_HD void round(float* to, const float* from, std::int64_t n, bool bfloat16) {
    if (bfloat16) {
#pragma omp simd
      for (std::int64_t i = 0; i < n; ++i) to[i] = round_bfloat16(from[i]);
    } else {
      std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(float));
    }
  }

  // out [rows, columns] = in [rows, depth] W + bias, with SiLU on hidden layers; rows is a multiple of kRows.
  template <bool kHidden>
  static void layer(float* out, const float* in, const float* weight, const float* bias, std::int64_t rows, std::int64_t columns,
                    std::int64_t depth, bool bfloat16) {
    for (std::int64_t n = 0; n < columns; n += kMlpPanel) {
      const float* panel = weight + n * depth;
      for (std::int64_t r = 0; r < rows; r += kRows) tile<kHidden>(out + r * columns + n, in + r * depth, panel, bias + n, columns, depth, bfloat16);
    }
  }

 private:
  template <bool kHidden>
  static MEDGEN_HD void tile(float* out, const float* in, const float* panel, const float* bias, std::int64_t columns, std::int64_t depth,
                             bool bfloat16) {
    Simd<float> sum[kRows][kVectors];
    for (int i = 0; i < kRows; ++i)
      for (int v = 0; v < kVectors; ++v) sum[i][v] = load(bias + v * kWidth<float>);
    for (std::int64_t k = 0; k < depth; ++k) {
      Simd<float> w[kVectors];
      for (int v = 0; v < kVectors; ++v) w[v] = load(panel + k * kMlpPanel + v * kWidth<float>);
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
        const Simd<float> a = splat<float>(in[i * depth + k]);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) sum[i][v] += a * w[v];
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i)
      for (int v = 0; v < kVectors; ++v) store(out + i * columns + v * kWidth<float>, kHidden ? silu(sum[i][v]) : sum[i][v]);
    if (kHidden && bfloat16)
      for (int i = 0; i < kRows; ++i) round(out + i * columns, out + i * columns, kMlpPanel, true);
  }
};

MEDGEN_NAMESPACE_END
