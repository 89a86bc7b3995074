// Which arithmetic a query gets: by its own norm, from the quickest form to the most precise, and never back.
#include "core/parzen.h"

#include <initializer_list>

#include "check.h"

using namespace medgen;

namespace {

int rank(Form form) { return form == Form::kDot || form == Form::kWideDot ? 0 : form == Form::kDirect ? 1 : form == Form::kWide ? 2 : 3; }

void forms(std::int64_t dim) {
  for (bool wide : {false, true}) {
    int last = 0;
    for (double norm2 = 1e-6; norm2 < 1e12; norm2 *= 1.1) {
      const Form form = form_of(norm2, dim, wide);
      CHECK(rank(form) >= last);
      CHECK((form == Form::kDot || form == Form::kDirect) ? !wide : true);
      CHECK(dim > 4 || (form != Form::kDot && form != Form::kWideDot));
      last = rank(form);
    }
    CHECK(last == 2);
    CHECK(form_of(INFINITY, dim, wide) == Form::kInfinite);
    CHECK(form_of(NAN, dim, wide) == Form::kNan);
  }
}

void far(std::int64_t dim) {
  for (Form form : {Form::kDot, Form::kDirect}) {
    bool last = false;
    for (double log_sum = 100.0; log_sum > -1e9; log_sum -= 1.0 + std::fabs(log_sum) / 8) {
      const bool now = too_far(form, log_sum, dim, 1000);
      CHECK(now || !last);
      last = now;
    }
    CHECK(!too_far(form, 0.0, dim, 1) && !too_far(form, -INFINITY, dim, 10));  // nothing is lower than no point at all
  }
  CHECK(too_far(Form::kDot, -1e6, dim, 10));
  for (Form form : {Form::kWide, Form::kWideDot, Form::kInfinite, Form::kNan, Form::kDone}) CHECK(!too_far(form, -1e9, dim, 10));
}

}  // namespace

int main() {
  test::need_instruction_set();
  for (std::int64_t dim : {1, 2, 4, 5, 16, 41, 64, 1000}) forms(dim), far(dim);
  CHECK_NEAR(kUnit * kUnit * 2, kLog2e, 1e-15);
  CHECK_NEAR(kLn2 * kLog2e, 1.0, 1e-15);
  return test::report();
}
