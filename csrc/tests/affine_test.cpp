// The inverse undoes the coupling; slopes and gradients are those of finite differences.
#include "core/affine.h"

#include "check.h"

using namespace medgen;

namespace {

template <Bound kBound>
void one(double x, double s, double t, double s_max) {
  const double inverse = 1.0 / s_max, b = bound<kBound>(s, s_max, inverse);
  if (kBound == Bound::kNone) CHECK(b == s);
  else CHECK(std::fabs(b) <= s_max && (b >= 0) == (s >= 0));
  const double y = affine<false>(x, b, t);
  CHECK_NEAR(y, x * std::exp(b) + t, 1e-14 * (std::fabs(y) + std::fabs(t)));
  CHECK_NEAR(affine<true>(y, b, t), x, 1e-14 * (std::fabs(x) + std::fabs(t) * std::exp(-b)));

  const double h = 1e-5, g = 0.7, d = -1.3;
  const double slope = (bound<kBound>(s + h, s_max, inverse) - bound<kBound>(s - h, s_max, inverse)) / (2 * h);
  CHECK_NEAR(bound_slope<kBound>(s, b, inverse), slope, 1e-8);
  // of g y + d log_det, with log_det = b forward and -b inverse
  const auto forward = affine_gradients<kBound, false>(g, d, x, s, s_max, inverse);
  CHECK_NEAR(forward.x, g * std::exp(b), 1e-12 * std::exp(b));
  CHECK_NEAR(forward.s, (g * x * std::exp(b) + d) * slope, 1e-7 * (1 + std::fabs(x) * std::exp(b)));
  CHECK(forward.t == g);
  const double back = affine<true>(x, b, t);
  const auto undo = affine_gradients<kBound, true>(g, d, back, s, s_max, inverse);
  CHECK_NEAR(undo.x, g * std::exp(-b), 1e-12 * std::exp(-b));
  CHECK_NEAR(undo.s, -(g * back + d) * slope, 1e-7 * (1 + std::fabs(back)));
  CHECK_NEAR(undo.t, -g * std::exp(-b), 1e-12 * std::exp(-b));
}

}  // namespace

int main() {
  test::need_instruction_set();
  for (std::uint64_t n = 0; n < 5000; ++n) {
    const double x = 20 * test::uniform(n) - 10, s = 8 * test::uniform(n + 10000) - 4, t = 6 * test::uniform(n + 20000) - 3;
    const double s_max = 0.2 + 5 * test::uniform(n + 30000);
    one<Bound::kNone>(x, s, t, s_max);
    one<Bound::kTanh>(x, s, t, s_max);
    if (std::fabs(s) > 1e-4) one<Bound::kSoft>(x, s, t, s_max);  // its second derivative jumps at 0
  }
  return test::report();
}
