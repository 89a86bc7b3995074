// Uniforms are exact; normals in float stay within 1e-6 of those in double, at random words and at the worst ones.
#include "core/normal.h"

#include "check.h"

using namespace medgen;

namespace {

void uniforms(std::uint32_t word) {
  const double exact = (static_cast<double>(word / 512) + 0.5) / 8388608.0;
  CHECK(uniform_of_double(word) == exact);
  CHECK(static_cast<double>(uniform_of_float(word)) == exact);
  CHECK(exact > 0.0 && exact < 1.0);
}

void normals(std::uint32_t a, std::uint32_t b) {
  float x, y;
  double u, v;
  normal_pair(a, b, x, y);
  normal_pair(a, b, u, v);
  CHECK_NEAR(x, u, 1e-6);
  CHECK_NEAR(y, v, 1e-6);
  CHECK(std::fabs(u) <= 6.77 && std::fabs(v) <= 6.77);
  CHECK_NEAR(u * u + v * v, -2.0 * std::log((a + 0.5) / 4294967296.0), 1e-12);
}

}  // namespace

int main() {
  test::need_instruction_set();
  const std::uint32_t edges[] = {0,          1,          2,          511,        512,        0x1fffffff, 0x20000000, 0x20000001, 0x3fffffff, 0x40000000,
                                 0x5fffffff, 0x60000000, 0x7fffffff, 0x80000000, 0x80000001, 0x9fffffff, 0xa0000000, 0xb504f333, 0xb504f334, 0xc0000000,
                                 0xdfffffff, 0xe0000000, 0xfffffe00, 0xffffff7f, 0xffffff80, 0xfffffffe, 0xffffffff};
  for (std::uint32_t a : edges) {
    uniforms(a);
    for (std::uint32_t b : edges) normals(a, b);
  }
  for (std::uint64_t n = 0; n < 200000; ++n) {
    const std::uint64_t word = test::mix(n);
    uniforms(static_cast<std::uint32_t>(word));
    normals(static_cast<std::uint32_t>(word), static_cast<std::uint32_t>(word >> 32));
  }
  return test::report();
}
