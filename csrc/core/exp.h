// exp, exp2, log and tanh as branch-free polynomials that vectorise; on the device, CUDA's own.
//
// Largest errors found (every 97th float, 3e6 doubles): exp 1.01 ulp, float log 0.78 ulp, tanh 1.31 ulp, with and without FMA; the double
// log is libm's and does not vectorise. Overflow gives infinity, underflow goes through the denormals to zero, NaN stays NaN.
// Those of Exp2, relative (every 7th float, 4e6 doubles): 1.7e-7 and 1.6e-16 with FMA, 2.0e-7 and 2.0e-16 without.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/hd.h"

MEDGEN_NAMESPACE_BEGIN

template <class To, class From>
MEDGEN_HD To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

// exp(x) = 2^n exp(r), |r| <= ln(2) / 2. n is read from the bits of x log2(e) + 1.5 * 2^23, which rounds without a conversion.
MEDGEN_HD float fast_exp(float x) {
#if defined(__CUDA_ARCH__)
  return expf(x);
#else
  // written so that NaN passes both selects
  const float clamped = x > 89.0f ? 89.0f : (x < -104.0f ? -104.0f : x);
  const float shifted = clamped * 1.44269504088896341f + 12582912.0f, n = shifted - 12582912.0f;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2^n in two factors: n reaches 129 and -150
  const std::uint32_t whole = bits_as<std::uint32_t>(shifted) - 0x4B400000u;
  const std::uint32_t half = static_cast<std::uint32_t>(static_cast<std::int32_t>(whole) >> 1);
  return p * bits_as<float>((half + 127u) << 23) * bits_as<float>((whole - half + 127u) << 23);
#endif
}

MEDGEN_HD double fast_exp(double x) {
#if defined(__CUDA_ARCH__)
  return exp(x);
#else
  const double clamped = x > 710.0 ? 710.0 : (x < -746.0 ? -746.0 : x);
  const double shifted = clamped * 1.44269504088896340736 + 6755399441055744.0, n = shifted - 6755399441055744.0;
  const double r = (clamped - n * 6.93145751953125e-1) - n * 1.42860682030941723212e-6;
  double p = 1.0 / 6227020800.0;
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * (r * r) + r + 1.0;
  const std::uint64_t whole = bits_as<std::uint64_t>(shifted) - 0x4338000000000000u;
  const std::uint64_t half = static_cast<std::uint64_t>(static_cast<std::int64_t>(whole) >> 1);
  return p * bits_as<double>((half + 1023u) << 52) * bits_as<double>((whole - half + 1023u) << 52);
#endif
}

// ln(x) for normal x > 0; 0 gives -infinity, below 0 NaN.
MEDGEN_HD float fast_log(float x) {
#if defined(__CUDA_ARCH__)
  return logf(x);
#else
  const bool tiny = x < 1.17549435e-38f;
  const std::uint32_t bits = bits_as<std::uint32_t>(tiny ? x * 8388608.0f : x);
  // x = m 2^e with m in [sqrt(1/2), sqrt(2))
  const std::int32_t e = static_cast<std::int32_t>(bits - 0x3f3504f3u) >> 23;
  const float f = bits_as<float>(bits - (static_cast<std::uint32_t>(e) << 23)) - 1.0f;
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const float n = static_cast<float>(e) - (tiny ? 23.0f : 0.0f), z = f * f;
  const float value = n * 0.693359375f + (f + (z * f * p - n * 2.12194440e-4f - 0.5f * z));
  const float ordinary = x < INFINITY ? value : x;  // infinity and NaN
  return x > 0.0f ? ordinary : (x == 0.0f ? -INFINITY : NAN);
#endif
}

MEDGEN_HD double fast_log(double x) { return std::log(x); }

// Near zero a polynomial of x^2 (Cephes), elsewhere 1 - 2 / (exp(2 |x|) + 1).
MEDGEN_HD float fast_tanh(float x) {
#if defined(__CUDA_ARCH__)
  return tanhf(x);
#else
  const float a = std::fabs(x), z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float near = x + x * (z * p), far = 1.0f - 2.0f / (fast_exp(2.0f * a) + 1.0f);
  return std::copysign(a < 0.625f ? near : far, x);  // near too: -0 + -0 * -0 is +0
#endif
}

MEDGEN_HD double fast_tanh(double x) {
#if defined(__CUDA_ARCH__)
  return tanh(x);
#else
  const double a = std::fabs(x), z = x * x;
  const double p = (-9.64399179425052238628e-1 * z - 9.92877231001918586564e1) * z - 1.61468768441708447952e3;
  const double q = ((z + 1.12811678491632931402e2) * z + 2.23548839060100448583e3) * z + 4.84406305325125486048e3;
  const double near = x + x * (z * (p / q)), far = 1.0 - 2.0 / (fast_exp(2.0 * a) + 1.0);
  return std::copysign(a < 0.625 ? near : far, x);
#endif
}

// 2^f for |f| <= 1/2, over scalars or GCC vectors; the caller multiplies by the power of two. 2^0 is 1 exactly.
template <class T>
struct Exp2;

template <>
struct Exp2<float> {
  static constexpr int kExponent = 23;  // bits below the exponent
  // 1.5 * 2^23 + 127: adding it rounds to an integer, whose biased exponent then stands in the lowest bits
  static constexpr float kMagic = 12583039.0f, kLowest = -126.0f;
  template <class V>
  static MEDGEN_HD V fraction(V f) {
    V p = f * 1.3264727229540503e-3f + 9.671512672970709e-3f;
    p = p * f + 5.5507337434781694e-2f;
    p = p * f + 2.4022242084866602e-1f;
    p = p * f + 6.931469775988545e-1f;
    return p * f + 1.0f;
  }
};

template <>
struct Exp2<double> {
  static constexpr int kExponent = 52;
  static constexpr double kMagic = 6755399441056767.0, kLowest = -1022.0;  // 1.5 * 2^52 + 1023
  template <class V>
  static MEDGEN_HD V fraction(V f) {
    V p = f * 0x1.e7aa0f6005d3cp-32 + 0x1.e620fb765be15p-28;
    p = p * f + 0x1.b526788b3b73dp-24;
    p = p * f + 0x1.62bfc3c1c8a7cp-20;
    p = p * f + 0x1.ffcbfba7b89b6p-17;
    p = p * f + 0x1.43091310bf6b0p-13;
    p = p * f + 0x1.5d87fe78cf26dp-10;
    p = p * f + 0x1.3b2ab6fb9f413p-7;
    p = p * f + 0x1.c6b08d7049fd1p-5;
    p = p * f + 0x1.ebfbdff82c5adp-3;
    p = p * f + 0x1.62e42fefa39efp-1;
    return p * f + 1.0;
  }
};

MEDGEN_NAMESPACE_END
