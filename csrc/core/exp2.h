// 2^f for |f| <= 1/2, as a polynomial over scalars or GCC vectors; the caller multiplies by the power of two.
//
// Largest relative error: 7.5e-8 (float, degree 5), 1.2e-16 (double, degree 11; rounding decides, the polynomial's own error is 3e-18).
#pragma once

#include "core/hd.h"

MEDGEN_NAMESPACE_BEGIN

template <class T>
struct Exp2;

template <>
struct Exp2<float> {
  static constexpr int kExponent = 23;  // bits below the exponent
  // 1.5 * 2^23 + 127: adding it rounds to an integer, whose biased exponent then stands in the lowest bits
  static constexpr float kMagic = 12583039.0f, kLowest = -126.0f;
  template <class V>
  static MEDGEN_HD V fraction(V f) {
    V p = f * 1.3276472167819944e-3f + 9.675541331021392e-3f;
    p = p * f + 5.550713272875391e-2f;
    p = p * f + 2.402211972396918e-1f;
    p = p * f + 6.931469670652649e-1f;
    return p * f + 1.0000000716546416f;
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
