// From 32-bit words to uniforms and normals, as medgen.ops.reference.philox defines them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/hd.h"

MEDGEN_NAMESPACE_BEGIN

// (word div 2^9 + 1/2) / 2^23, exact in both types and strictly inside (0, 1).
MEDGEN_HD float uniform_of_float(std::uint32_t word) { return (static_cast<float>(word >> 9) + 0.5f) * 0x1p-23f; }
MEDGEN_HD double uniform_of_double(std::uint32_t word) { return (static_cast<double>(word >> 9) + 0.5) * 0x1p-23; }

// sqrt(-2 ln((a + 1/2) / 2^32)) to about 2 ulp. Near u = 1 the distance 1 - u is taken from the integer: rounding u first would lose it.
MEDGEN_HD float radius_float(std::uint32_t a) {
  const float u = static_cast<float>(a) * 0x1p-32f + 0x1p-33f;
  std::uint32_t bits;
  std::memcpy(&bits, &u, 4);
  // u = m 2^e with m in [sqrt(1/2), sqrt(2))
  const std::int32_t shifted = static_cast<std::int32_t>(bits) - 0x3f3504f3;
  const std::int32_t e = shifted >> 23;
  const std::uint32_t mantissa = bits - (static_cast<std::uint32_t>(e) << 23);
  float m;
  std::memcpy(&m, &mantissa, 4);
  // signed conversion: vectorises where the unsigned one does not; the distance is below 2^31 whenever it is used
  const float near = -(static_cast<float>(static_cast<std::int32_t>(~a & 0x7fffffffu)) + 0.5f) * 0x1p-32f;
  const float f = e == 0 ? near : m - 1.0f;
  // ln(1 + f) = f - f^2 / 2 + f^3 p(f)
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const float log_m = f + (f * f * f * p - 0.5f * f * f);
  const float ln = static_cast<float>(e) * 6.93147182464599609375e-1f + log_m;
  return std::sqrt(-2.0f * ln);
}

// cos and sin of 2 pi b / 2^32. The quarter turn is taken from the integer, so the argument of the polynomials is exact to rounding.
MEDGEN_HD void turn_float(std::uint32_t b, float& cosine, float& sine) {
  const std::uint32_t quarter = (b + 0x20000000u) >> 30;
  const float t = static_cast<float>(static_cast<std::int32_t>(b - (quarter << 30))) * 1.46291807926715968e-9f;  // 2 pi / 2^32
  const float t2 = t * t;
  const float s = t + t * t2 * ((-1.9515295891e-4f * t2 + 8.3321608736e-3f) * t2 - 1.6666654611e-1f);
  const float c = 1.0f - 0.5f * t2 + t2 * t2 * ((2.443315711809948e-5f * t2 - 1.388731625493765e-3f) * t2 + 4.166664568298827e-2f);
  const bool swap = (quarter & 1u) != 0;
  const float x = swap ? s : c, y = swap ? c : s;
  cosine = ((quarter + 1u) & 2u) != 0 ? -x : x;
  sine = (quarter & 2u) != 0 ? -y : y;
}

// Box-Muller on a pair of words.
MEDGEN_HD void normal_pair(std::uint32_t a, std::uint32_t b, float& x, float& y) {
  float c, s;
  const float r = radius_float(a);
  turn_float(b, c, s);
  x = r * c;
  y = r * s;
}

MEDGEN_HD void normal_pair(std::uint32_t a, std::uint32_t b, double& x, double& y) {
  const double r = std::sqrt(-2.0 * std::log((static_cast<double>(a) + 0.5) * 0x1p-32));
  const double angle = static_cast<double>(b) * 1.4629180792671596e-09;
  x = r * std::cos(angle);
  y = r * std::sin(angle);
}

MEDGEN_NAMESPACE_END
