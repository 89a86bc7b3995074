// Known answers of Random123 (examples/kat_vectors).
#include "core/philox.h"

#include "check.h"

using medgen::Philox, medgen::philox;

int main() {
  test::need_instruction_set();
  const Philox zero = philox(0, 0, 0, 0, 0);
  CHECK(zero.w0 == 0x6627e8d5 && zero.w1 == 0xe169c58d && zero.w2 == 0xbc57ac4c && zero.w3 == 0x9b00dbd8);
  const std::uint32_t f = 0xffffffff;
  const Philox ones = philox(f, f, f, f, ~std::uint64_t{0});
  CHECK(ones.w0 == 0x408f276d && ones.w1 == 0x41c83b0e && ones.w2 == 0xa20bc7c6 && ones.w3 == 0x6d5451fd);
  const Philox pi = philox(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0x299f31d0a4093822);
  CHECK(pi.w0 == 0xd16cfe09 && pi.w1 == 0x94fdcceb && pi.w2 == 0x5001e420 && pi.w3 == 0x24126ea1);
  return test::report();
}
