// exp, exp2, log and tanh against libm in double, over their whole range, and what they do at its ends.
#include "core/exp.h"

#include "check.h"

using namespace medgen;

namespace {

// Distance in units of the last place of `exact`, which for denormals is the smallest denormal.
template <class T>
double ulps(T value, double exact) {
  const T near = static_cast<T>(exact);
  if (value == near) return 0.0;
  const T next = std::nextafter(std::fabs(near), static_cast<T>(INFINITY));
  return std::fabs(static_cast<double>(value) - exact) / (static_cast<double>(next) - std::fabs(static_cast<double>(near)));
}

template <class T>
void ends() {
  const T infinity = static_cast<T>(INFINITY), nan = static_cast<T>(NAN);
  CHECK(fast_exp(T(0)) == T(1));
  CHECK(fast_exp(infinity) == infinity && fast_exp(T(1000)) == infinity);
  CHECK(fast_exp(-infinity) == T(0) && fast_exp(T(-1000)) == T(0));
  CHECK(std::isnan(fast_exp(nan)));
  CHECK(fast_log(T(1)) == T(0));
  CHECK(fast_log(T(0)) == -infinity && fast_log(infinity) == infinity);
  CHECK(std::isnan(fast_log(T(-1))) && std::isnan(fast_log(nan)));
  CHECK(fast_tanh(T(0)) == T(0) && !std::signbit(fast_tanh(T(0))));
  CHECK(fast_tanh(T(-0.0)) == T(0) && std::signbit(fast_tanh(T(-0.0))));
  CHECK(fast_tanh(infinity) == T(1) && fast_tanh(-infinity) == T(-1));
  CHECK(std::isnan(fast_tanh(nan)));
}

void range() {
  double exp_float = 0, exp_double = 0, log_float = 0, tanh_float = 0, tanh_double = 0;
  for (std::uint64_t n = 0; n < 300000; ++n) {
    const double u = test::uniform(n);
    const float x = static_cast<float>(-103.0 + 191.7 * u), z = static_cast<float>(18.0 * u - 9.0), small = static_cast<float>(1e-3 * (u - 0.5));
    exp_float = std::fmax(exp_float, ulps(fast_exp(x), std::exp(static_cast<double>(x))));
    tanh_float = std::fmax(tanh_float, ulps(fast_tanh(z), std::tanh(static_cast<double>(z))));
    tanh_float = std::fmax(tanh_float, ulps(fast_tanh(small), std::tanh(static_cast<double>(small))));
    const float positive = bits_as<float>(static_cast<std::uint32_t>(test::mix(n) % 0x7f800000u));  // every size, denormals too
    log_float = std::fmax(log_float, ulps(fast_log(positive), std::log(static_cast<double>(positive))));
    const double y = -744.0 + 1453.0 * u;
    exp_double = std::fmax(exp_double, ulps(fast_exp(y), std::exp(y)));
    tanh_double = std::fmax(tanh_double, ulps(fast_tanh(38.0 * u - 19.0), std::tanh(38.0 * u - 19.0)));
  }
  // one more than the errors that core/exp.h states: libm's own in double, and 0.5 of rounding
  CHECK(exp_float < 1.5 && log_float < 1.5 && tanh_float < 2.0);
  CHECK(exp_double < 2.5 && tanh_double < 3.0);
  std::printf("ulps: exp %.2f %.2f, log %.2f, tanh %.2f %.2f\n", exp_float, exp_double, log_float, tanh_float, tanh_double);
}

void exp2_fraction() {
  double wide = 0, narrow = 0;
  const auto see = [&](float g) { narrow = std::fmax(narrow, std::fabs(Exp2<float>::fraction(g) / std::exp2(static_cast<double>(g)) - 1.0)); };
  for (int n = 0; n <= 400000; ++n) {
    const double f = -0.5 + n / 400000.0;
    // in 64-bit mantissas: the error is of the size of a double's own rounding
    const long double ratio = Exp2<double>::fraction(f) / std::exp2(static_cast<long double>(f));
    wide = std::fmax(wide, static_cast<double>(std::fabs(ratio - 1)));
    see(static_cast<float>(f));
  }
  for (std::uint32_t bits = 0; bits <= 0x3f000000u; bits += 4999) see(bits_as<float>(bits)), see(-bits_as<float>(bits));
  CHECK(wide < 2.1e-16 && narrow < 2.0e-7);  // what core/exp.h states
  CHECK(Exp2<float>::fraction(0.0f) == 1.0f && Exp2<double>::fraction(0.0) == 1.0);
  std::printf("relative error of 2^f: %.3g, %.3g\n", wide, narrow);
}

}  // namespace

int main() {
  test::need_instruction_set();
  ends<float>();
  ends<double>();
  range();
  exp2_fraction();
  return test::report();
}
