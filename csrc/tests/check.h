// A test is a program: CHECK counts, report() prints and makes the exit code. 77 means skipped, as ctest is told.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "torch/dispatch.h"

namespace test {

inline int checks = 0, failures = 0;

#define CHECK(condition)                                                            \
  do {                                                                              \
    ++test::checks;                                                                 \
    if (!(condition)) {                                                             \
      ++test::failures;                                                             \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
    }                                                                               \
  } while (false)

#define CHECK_NEAR(a, b, tolerance)                                                                                              \
  do {                                                                                                                           \
    ++test::checks;                                                                                                              \
    const double x_ = static_cast<double>(a), y_ = static_cast<double>(b);                                                       \
    if (!(std::fabs(x_ - y_) <= (tolerance))) {                                                                                  \
      ++test::failures;                                                                                                          \
      std::fprintf(stderr, "%s:%d: %s = %.17g, %s = %.17g, apart %.3g\n", __FILE__, __LINE__, #a, x_, #b, y_, std::fabs(x_ - y_)); \
    }                                                                                                                            \
  } while (false)

// The program is compiled once per instruction set, and runs where the machine has it.
#if defined(__AVX512F__)
inline constexpr int kNeeds = 4;
#elif defined(__AVX2__)
inline constexpr int kNeeds = 3;
#else
inline constexpr int kNeeds = 0;
#endif

inline void need_instruction_set() {
  if (medgen::cpu_level() < kNeeds) {
    std::printf("skipped: this machine lacks x86-64-v%d\n", kNeeds);
    std::exit(77);
  }
}

inline int report() {
  std::printf("%d checks, %d failures\n", checks, failures);
  return failures == 0 && checks > 0 ? 0 : 1;
}

// A cheap generator of 64 bits, for points to test at.
inline unsigned long long mix(unsigned long long n) {
  n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9ull;
  n = (n ^ (n >> 27)) * 0x94d049bb133111ebull;
  return n ^ (n >> 31);
}

// In (0, 1).
inline double uniform(unsigned long long n) { return (static_cast<double>(mix(n + 0x9e3779b97f4a7c15ull * (n + 1)) >> 11) + 0.5) * 0x1p-53; }

}  // namespace test
