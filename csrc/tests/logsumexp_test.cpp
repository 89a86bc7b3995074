// Merging is associative up to rounding, has a neutral element, and neither overflows nor loses the far tail.
#include "core/logsumexp.h"

#include <algorithm>

#include "check.h"

using namespace medgen;

namespace {

LogSum of(double value) { return {value, 1.0}; }

void neutral() {
  LogSum empty;
  CHECK(empty.value() == -INFINITY);
  empty.merge(LogSum{});
  CHECK(empty.value() == -INFINITY);
  LogSum one = of(-3.0);
  one.merge(LogSum{});
  CHECK(one.value() == -3.0);
  empty.merge(of(-3.0));
  CHECK(empty.value() == -3.0);
}

void against_the_definition() {
  for (std::uint64_t trial = 0; trial < 200; ++trial) {
    const int count = 1 + static_cast<int>(test::mix(trial) % 60);
    const double scale = std::pow(10.0, 4.0 * test::uniform(trial + 7) - 1.0);
    double values[60], largest = -INFINITY, sum = 0.0;
    for (int n = 0; n < count; ++n) {
      values[n] = scale * (test::uniform(100 * trial + static_cast<std::uint64_t>(n)) - 0.5);
      largest = std::max(largest, values[n]);
    }
    for (int n = 0; n < count; ++n) sum += std::exp(values[n] - largest);
    const double exact = largest + std::log(sum);
    LogSum forward, backward, left, right;
    for (int n = 0; n < count; ++n) {
      forward.merge(of(values[n]));
      backward.merge(of(values[count - 1 - n]));
      (n < count / 3 ? left : right).merge(of(values[n]));
    }
    left.merge(right);
    const double tolerance = 1e-14 * (1.0 + std::fabs(exact)) * count;
    CHECK_NEAR(forward.value(), exact, tolerance);
    CHECK_NEAR(backward.value(), exact, tolerance);
    CHECK_NEAR(left.value(), exact, tolerance);
  }
}

void ends() {
  LogSum far = of(-1e300);
  far.merge(of(-1e300));
  CHECK(far.value() == -1e300);
  LogSum both = of(1e6);
  both.merge(of(-1e6));
  CHECK(both.value() == 1e6);
  LogSum poisoned = of(0.0);
  poisoned.merge(of(NAN));
  CHECK(std::isnan(poisoned.value()));
}

}  // namespace

int main() {
  test::need_instruction_set();
  neutral();
  against_the_definition();
  ends();
  return test::report();
}
