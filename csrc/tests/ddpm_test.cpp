// The mean of a reverse step, with and without the clamp of x0, and what NaN and the last step do.
#include "core/ddpm.h"

#include "check.h"

using namespace medgen;

int main() {
  test::need_instruction_set();
  const double row[kStepColumns] = {1.1, -0.2, 1.5, -0.7, 0.4, 0.5, 0.3, 0.1};
  const Step<double> c = step_of(row);
  for (std::uint64_t n = 0; n < 2000; ++n) {
    const double x = 6 * test::uniform(n) - 3, o = 6 * test::uniform(n + 5000) - 3;
    CHECK_NEAR((step_mean<false>(c, x, o, 1.0)), 1.1 * x - 0.2 * o, 1e-14);
    const double x0 = 1.5 * x - 0.7 * o, clamped = std::fmax(-1.0, std::fmin(1.0, x0));
    CHECK_NEAR((step_mean<true>(c, x, o, 1.0)), 0.4 * clamped + 0.5 * x, 1e-14);
  }
  CHECK(std::isnan(step_mean<true>(c, double{NAN}, 0.0, 1.0)));
  CHECK(std::isnan(step_mean<true>(c, 0.0, double{NAN}, 1.0)));
  CHECK(std::isnan(step_mean<false>(c, 0.0, double{NAN}, 1.0)));
  CHECK(step_is_noisy(0.3, false) && !step_is_noisy(0.0, false));
  CHECK(step_is_noisy(-4.0, true) && step_is_noisy(0.0, true) && !step_is_noisy(-double{INFINITY}, true));
  return test::report();
}
