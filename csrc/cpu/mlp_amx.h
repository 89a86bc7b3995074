// A dense layer in bfloat16 on the matrix unit (AMX), sums in float32, with SiLU.
//
// Only in the AVX-512 build; whether this machine has the unit, and lets us use it, is asked at run time.
#pragma once

#if defined(__AVX512F__) && defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define MEDGEN_AMX 1

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "core/ddpm.h"
#include "cpu/mlp_dense.h"

#pragma GCC push_options
#pragma GCC target("amx-tile,amx-bf16,avx512bf16")

MEDGEN_NAMESPACE_BEGIN

// The processor has AMX and AVX-512 bfloat16, and the kernel grants the tiles' registers to this process.
inline bool amx_ready() {
  static const bool ready = [] {
    unsigned a = 0, b = 0, c = 0, d = 0, a1 = 0, unused = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || __get_cpuid_count(7, 1, &a1, &b, &c, &unused) == 0) return false;
    const bool has_tiles = ((d >> 22) & 1) != 0 && ((d >> 24) & 1) != 0, has_bfloat16 = ((a1 >> 5) & 1) != 0;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;
    return has_tiles && has_bfloat16 && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return ready;
}

// GCC's tile instructions do not say which memory they read: without this, stores to it may be moved or dropped.
MEDGEN_HD void memory_is_read() { __asm__ volatile("" ::: "memory"); }

// Weights as the unit reads them: panels of 32 columns, in them tiles of 32 inputs x 16 columns, in them rows of 16 pairs of inputs.
struct AmxDense {
  using Value = std::uint16_t;

  static void pack(std::uint16_t* to, const float* weight, std::int64_t out, std::int64_t in, bool) {
    const std::int64_t columns = mlp_padded(out), depth = mlp_padded(in);
    for (std::int64_t n = 0; n < columns; ++n)
      for (std::int64_t k = 0; k < depth; ++k) {
        const float w = round_bfloat16(n < out && k < in ? weight[n * in + k] : 0.0f);
        std::uint32_t bits;
        std::memcpy(&bits, &w, 4);
        const std::int64_t tile = (n / 32 * (depth / 32) + k / 32) * 2 + n % 32 / 16;
        to[tile * 512 + k % 32 / 2 * 32 + n % 16 * 2 + k % 2] = static_cast<std::uint16_t>(bits >> 16);
      }
  }

  static void round(std::uint16_t* to, const float* from, std::int64_t n, bool) {
    for (std::int64_t i = 0; i < n; i += 32) put(to + i, _mm512_loadu_ps(from + i), _mm512_loadu_ps(from + i + 16));
  }

  // As FloatDense::layer; rows is a multiple of 32.
  template <bool kHidden, class Out>
  static void layer(Out* out, const std::uint16_t* in, const std::uint16_t* weight, const float* bias, std::int64_t rows,
                    std::int64_t columns, std::int64_t depth, bool) {
    alignas(64) float sums[2][32 * 32];
    // The vector unit finishes one block of sums while the matrix unit fills the next.
    Out* pending = nullptr;
    const float* pending_bias = nullptr;
    int turn = 0;
    for (std::int64_t n = 0; n < columns; n += 32)
      for (std::int64_t r = 0; r < rows; r += 32) {
        multiply(sums[turn], in + r * depth, weight + n * depth, depth);
        if (pending != nullptr) finish<kHidden>(pending, sums[1 - turn], pending_bias, columns);
        pending = out + r * columns + n;
        pending_bias = bias + n;
        turn = 1 - turn;
      }
    finish<kHidden>(pending, sums[1 - turn], pending_bias, columns);
  }

  // Tiles of 16 rows of 64 bytes, for as long as this lives.
  struct Session {
    Session() {
      alignas(64) std::uint8_t config[64] = {};
      config[0] = 1;
      for (int t = 0; t < 8; ++t) {
        const std::uint16_t bytes = 64;
        std::memcpy(config + 16 + 2 * t, &bytes, 2);
        config[48 + t] = 16;
      }
      memory_is_read();
      _tile_loadconfig(config);
    }
    ~Session() { _tile_release(); }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
  };

 private:
  static MEDGEN_HD void put(std::uint16_t* to, __m512 low, __m512 high) {
    const __m512bh packed = _mm512_cvtne2ps_pbh(high, low);
    std::memcpy(to, &packed, 64);
  }

  // sums [32, 32] = in [32, depth] W
  static MEDGEN_HD void multiply(float* sums, const std::uint16_t* in, const std::uint16_t* panel, std::int64_t depth) {
    const std::int64_t stride = depth * 2;
    memory_is_read();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (std::int64_t k = 0; k < depth; k += 32) {
      _tile_loadd(4, in + k, stride);
      _tile_loadd(5, in + 16 * depth + k, stride);
      _tile_loadd(6, panel + k * 32, 64);
      _tile_loadd(7, panel + k * 32 + 512, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, 128);
    _tile_stored(1, sums + 16, 128);
    _tile_stored(2, sums + 16 * 32, 128);
    _tile_stored(3, sums + 16 * 32 + 16, 128);
  }

  // x / (1 + 2^(-x log2 e)) to 1.3e-4, a fifteenth of what rounding to bfloat16 costs.
  static MEDGEN_HD __m512 silu_of(__m512 x) {
    constexpr __mmask16 all = static_cast<__mmask16>(-1);
    // Below 2^-24 the power adds nothing to 1; far below it would be denormal, which costs a hundred cycles. A NaN stays.
    const __m512 t = _mm512_maskz_max_ps(all, _mm512_set1_ps(-25.0f), _mm512_mul_ps(x, _mm512_set1_ps(-1.44269504088896341f)));
    const __m512 f = _mm512_maskz_reduce_ps(all, t, 0x01);  // t - floor(t)
    __m512 p = _mm512_set1_ps(7.80242765e-2f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.26067506e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9583342e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.99925224e-1f));
    const __m512 e = _mm512_maskz_scalef_ps(all, p, t);  // p 2^floor(t)
    return _mm512_mul_ps(x, _mm512_maskz_rcp14_ps(all, _mm512_add_ps(e, _mm512_set1_ps(1.0f))));
  }

  template <bool kHidden>
  static MEDGEN_HD void finish(std::uint16_t* out, const float* sums, const float* bias, std::int64_t columns) {
    const __m512 low_bias = _mm512_loadu_ps(bias), high_bias = _mm512_loadu_ps(bias + 16);
    for (int i = 0; i < 32; ++i) {
      const __m512 low = silu_of(_mm512_add_ps(_mm512_load_ps(sums + 32 * i), low_bias));
      const __m512 high = silu_of(_mm512_add_ps(_mm512_load_ps(sums + 32 * i + 16), high_bias));
      put(out + i * columns, low, high);
    }
  }

  template <bool kHidden>
  static MEDGEN_HD void finish(float* out, const float* sums, const float* bias, std::int64_t columns) {
    for (int i = 0; i < 32; ++i)
      for (int v = 0; v < 32; v += 16)
        _mm512_storeu_ps(out + i * columns + v, _mm512_add_ps(_mm512_load_ps(sums + 32 * i + v), _mm512_loadu_ps(bias + v)));
  }
};

MEDGEN_NAMESPACE_END

#pragma GCC pop_options
#endif
