// One bin: its ends, its inverse, and its gradients against differences; softplus and the logistic function at their ends.
#include "core/rq_spline.h"

#include "check.h"

using namespace medgen;

namespace {

struct At {
  double value, log_slope;
};

At at(const Bin<double>& b, double x) {
  const Rational<double> r = rational(b, (x - b.x) / b.w);
  return {b.y + b.h * r.p, bin_log_slope(r)};
}

void bin(std::uint64_t n) {
  const auto u = [&](std::uint64_t k) { return test::uniform(16 * n + k); };
  const Bin<double> b{6 * u(0) - 3, 0.05 + 2 * u(1), 6 * u(2) - 3, 0.05 + 2 * u(3), 0.05 + 3 * u(4), 0.05 + 3 * u(5)};
  CHECK_NEAR(at(b, b.x).value, b.y, 1e-14);
  CHECK_NEAR(at(b, b.x + b.w).value, b.y + b.h, 1e-13);
  CHECK_NEAR(at(b, b.x).log_slope, std::log(b.d0), 1e-12);
  CHECK_NEAR(at(b, b.x + b.w).log_slope, std::log(b.d1), 1e-11);

  const double x = b.x + b.w * (0.05 + 0.9 * u(6)), A = 0.7, B = -1.3, h = 1e-6 * b.w;
  const At here = at(b, x);
  CHECK_NEAR(bin_inverse(b, here.value) * b.w + b.x, x, 1e-11);
  CHECK_NEAR((at(b, x + h).value - at(b, x - h).value) / (2 * h), std::exp(here.log_slope), 1e-6 * std::exp(here.log_slope));

  const BinGradients<double> g = bin_gradients(b, rational(b, (x - b.x) / b.w), A, B);
  const auto numeric = [&](double Bin<double>::*field, double step) {
    Bin<double> up = b, down = b;
    up.*field += step, down.*field -= step;
    const At high = at(up, x), low = at(down, x);
    return (A * (high.value - low.value) + B * (high.log_slope - low.log_slope)) / (2 * step);
  };
  const auto near = [&](double found, double expected) { CHECK_NEAR(found, expected, 2e-5 * (1 + std::fabs(expected))); };
  near(g.x, numeric(&Bin<double>::x, h));
  near(g.w, numeric(&Bin<double>::w, h));
  near(g.y, numeric(&Bin<double>::y, h));
  near(g.h, numeric(&Bin<double>::h, 1e-6 * b.h));
  near(g.d0, numeric(&Bin<double>::d0, 1e-6 * b.d0));
  near(g.d1, numeric(&Bin<double>::d1, 1e-6 * b.d1));
  near(g.input, -g.x);
}

template <class T>
void ends() {
  const T infinity = static_cast<T>(INFINITY);
  CHECK(softplus(-infinity) == T(0) && softplus(infinity) == infinity && std::isnan(softplus(static_cast<T>(NAN))));
  CHECK(sigmoid(-infinity) == T(0) && sigmoid(infinity) == T(1) && sigmoid(T(0)) == T(0.5));
  CHECK_NEAR(softplus(T(0)), std::log(2.0), 1e-7);
  CHECK_NEAR(softplus(T(-30)) / std::exp(-30.0), 1.0, 1e-6);  // nothing is lost to 1 + exp(-30)
}

}  // namespace

int main() {
  test::need_instruction_set();
  for (std::uint64_t n = 0; n < 3000; ++n) bin(n);
  ends<float>();
  ends<double>();
  return test::report();
}
