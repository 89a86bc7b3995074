// Vectors of one instruction set, over GCC's vector extensions, and the few operations they lack.
#pragma once

#include <cstdint>

#include "core/exp.h"

#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE2__)
#include <immintrin.h>
#endif

MEDGEN_NAMESPACE_BEGIN

#if defined(__AVX512F__)
#define MEDGEN_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define MEDGEN_VECTOR_BYTES 32
#else
#define MEDGEN_VECTOR_BYTES 16
#endif

template <class T>
struct SimdOf;

template <>
struct SimdOf<float> {
  typedef float V __attribute__((vector_size(MEDGEN_VECTOR_BYTES)));
  typedef std::int32_t I __attribute__((vector_size(MEDGEN_VECTOR_BYTES)));
  using Int = std::int32_t;
};

template <>
struct SimdOf<double> {
  typedef double V __attribute__((vector_size(MEDGEN_VECTOR_BYTES)));
  typedef std::int64_t I __attribute__((vector_size(MEDGEN_VECTOR_BYTES)));
  using Int = std::int64_t;
};

template <class T>
using Simd = typename SimdOf<T>::V;
template <class T>
inline constexpr int kWidth = MEDGEN_VECTOR_BYTES / static_cast<int>(sizeof(T));

template <class T>
MEDGEN_HD Simd<T> splat(T value) {
  return value - Simd<T>{};
}

template <class T>
MEDGEN_HD Simd<T> load(const T* from) {
  return *reinterpret_cast<const Simd<T>*>(from);
}

template <class T>
MEDGEN_HD void store(T* to, Simd<T> value) {
  *reinterpret_cast<Simd<T>*>(to) = value;
}

// The larger one; b where one is NaN. (The masked form with all lanes on: GCC 12 warns about its own plain one.)
#if defined(__AVX512F__)
MEDGEN_HD Simd<float> larger(Simd<float> a, Simd<float> b) { return _mm512_maskz_max_ps(static_cast<__mmask16>(-1), a, b); }
MEDGEN_HD Simd<double> larger(Simd<double> a, Simd<double> b) { return _mm512_maskz_max_pd(static_cast<__mmask8>(-1), a, b); }
MEDGEN_HD bool any_above(Simd<float> a, float b) { return _mm512_cmp_ps_mask(a, _mm512_set1_ps(b), _CMP_GT_OQ) != 0; }
MEDGEN_HD bool any_above(Simd<double> a, double b) { return _mm512_cmp_pd_mask(a, _mm512_set1_pd(b), _CMP_GT_OQ) != 0; }
#elif defined(__AVX2__)
MEDGEN_HD Simd<float> larger(Simd<float> a, Simd<float> b) { return _mm256_max_ps(a, b); }
MEDGEN_HD Simd<double> larger(Simd<double> a, Simd<double> b) { return _mm256_max_pd(a, b); }
MEDGEN_HD bool any_above(Simd<float> a, float b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, _mm256_set1_ps(b), _CMP_GT_OQ)) != 0; }
MEDGEN_HD bool any_above(Simd<double> a, double b) { return _mm256_movemask_pd(_mm256_cmp_pd(a, _mm256_set1_pd(b), _CMP_GT_OQ)) != 0; }
#elif defined(__SSE2__)
MEDGEN_HD Simd<float> larger(Simd<float> a, Simd<float> b) { return _mm_max_ps(a, b); }
MEDGEN_HD Simd<double> larger(Simd<double> a, Simd<double> b) { return _mm_max_pd(a, b); }
MEDGEN_HD bool any_above(Simd<float> a, float b) { return _mm_movemask_ps(_mm_cmpgt_ps(a, _mm_set1_ps(b))) != 0; }
MEDGEN_HD bool any_above(Simd<double> a, double b) { return _mm_movemask_pd(_mm_cmpgt_pd(a, _mm_set1_pd(b))) != 0; }
#else
template <class V>
MEDGEN_HD V larger(V a, V b) {
  return a > b ? a : b;
}
template <class V, class T>
MEDGEN_HD bool any_above(V a, T b) {
  bool any = false;
  for (int i = 0; i < kWidth<T>; ++i) any |= a[i] > b;
  return any;
}
#endif

// sum + 2^x for x below the largest exponent; what is below the smallest counts as the smallest power.
template <class T>
MEDGEN_HD Simd<T> add_exp2(Simd<T> sum, Simd<T> x) {
  using I = typename SimdOf<T>::I;
  const Simd<T> t = larger(splat<T>(Exp2<T>::kLowest), x);
  const Simd<T> shifted = t + Exp2<T>::kMagic;
  const Simd<T> f = t - (shifted - Exp2<T>::kMagic);
  const Simd<T> power = (Simd<T>)((I)shifted << Exp2<T>::kExponent);
  return sum + Exp2<T>::fraction(f) * power;
}

MEDGEN_NAMESPACE_END
