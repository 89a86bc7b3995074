// The library as another program sees it: one call, the best instruction set of the machine, the same numbers from each, rows of any
// length, begun and ended anywhere as threads do, and nothing written beside them.
#include <initializer_list>
#include <vector>

#include "check.h"
#include "core/philox.h"
#include "cpu/kernels.h"

namespace {

using std::int64_t;

constexpr int64_t kIndex[] = {0, 12345678901, -1, 7, int64_t{1} << 62};
constexpr int64_t kRows = 5, kGuard = 16;
constexpr std::uint64_t kSeed = 0x123456789abcdef0;
constexpr std::uint32_t kStream = 0xfffffff3;

// In `parts` parts, with guards on both sides.
template <class T, class Kernel>
std::vector<T> run(Kernel kernel, int64_t count, int64_t parts) {
  std::vector<T> out(static_cast<std::size_t>(kRows * count + 2 * kGuard), T(-7));
  const int64_t counters = kRows * ((count + 3) / 4);
  for (int64_t p = 0; p < parts; ++p)
    kernel(out.data() + kGuard, kIndex, counters * p / parts, counters * (p + 1) / parts, count, kSeed, kStream);
  for (std::size_t n = 0; n < static_cast<std::size_t>(kGuard); ++n) CHECK(out[n] == T(-7) && out[out.size() - 1 - n] == T(-7));
  return {out.begin() + kGuard, out.end() - kGuard};
}

void words(int64_t count) {
  const auto all = run<int64_t>(MEDGEN_CALL(philox_words), count, 1);
  for (int64_t parts = 1; parts <= 4; ++parts) {
    CHECK(run<int64_t>(MEDGEN_CALL(philox_words), count, parts) == all);
    CHECK(run<int64_t>(medgen::base::philox_words, count, parts) == all);
  }
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t e = 0; e < count; ++e) {
      const auto sample = static_cast<std::uint64_t>(kIndex[row]);
      const auto p = medgen::philox(static_cast<std::uint32_t>(e / 4), kStream, static_cast<std::uint32_t>(sample),
                                    static_cast<std::uint32_t>(sample >> 32), kSeed);
      const std::uint32_t w[4] = {p.w0, p.w1, p.w2, p.w3};
      CHECK(all[static_cast<std::size_t>(row * count + e)] == w[e % 4]);
    }
}

void values(int64_t count) {
  CHECK(run<float>(MEDGEN_CALL(uniform_float), count, 3) == run<float>(medgen::base::uniform_float, count, 1));
  CHECK(run<double>(MEDGEN_CALL(uniform_double), count, 3) == run<double>(medgen::base::uniform_double, count, 1));
  const auto floats = run<float>(MEDGEN_CALL(normal_float), count, 1);
  const auto doubles = run<double>(MEDGEN_CALL(normal_double), count, 1);
  CHECK(run<float>(MEDGEN_CALL(normal_float), count, 4) == floats);  // whoever computes it
  for (std::size_t n = 0; n < floats.size(); ++n) CHECK_NEAR(floats[n], doubles[n], 1e-6);
}

}  // namespace

int main() {
  for (int64_t count : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{4}, int64_t{5}, int64_t{63}, int64_t{64}, int64_t{255}, int64_t{256}, int64_t{1001}}) {
    words(count);
    values(count);
  }
  return test::report();
}
