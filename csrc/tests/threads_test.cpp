// Kernels called by several threads on ranges that touch, as torch's pool does: the same result as by one. For ThreadSanitizer too, which
// does not understand torch's own OpenMP pool (tools/sanitize.sh thread).
#include <thread>
#include <vector>

#include "check.h"
#include "core/ddpm.h"
#include "cpu/ddpm.h"
#include "cpu/kernels.h"

namespace {

using std::int64_t;

constexpr int64_t kRows = 5, kCount = 1003, kCounters = kRows * ((kCount + 3) / 4);
constexpr int64_t kIndex[kRows] = {4, 0, 9, -3, int64_t{1} << 40};

template <class Body>
void share(int threads, const Body& body) {
  std::vector<std::thread> pool;
  for (int n = 0; n < threads; ++n) pool.emplace_back([=, &body] { body(kCounters * n / threads, kCounters * (n + 1) / threads); });
  for (auto& thread : pool) thread.join();
}

template <class T, class Kernel>
void noise(Kernel kernel) {
  std::vector<T> first;
  for (int threads : {1, 2, 3, 7}) {
    std::vector<T> out(kRows * kCount, T(-7));
    share(threads, [&](int64_t begin, int64_t end) { kernel(out.data(), kIndex, begin, end, kCount, 42, 3); });
    if (threads == 1) first = out;
    CHECK(out == first);
  }
}

template <class T, class Kernel>
void step(Kernel kernel) {
  std::vector<T> x(kRows * kCount), output(kRows * kCount), first;
  for (std::size_t n = 0; n < x.size(); ++n) x[n] = static_cast<T>(test::uniform(n)), output[n] = static_cast<T>(test::uniform(n + 99999));
  const T table[medgen::kStepColumns] = {T(1.1), T(-0.2), T(1.5), T(-0.7), T(0.4), T(0.5), T(0.3), T(0)};
  const int64_t at = 0;
  for (int threads : {1, 2, 3, 7}) {
    std::vector<T> out(x.size(), T(-7));
    medgen::StepJob<T> job{};
    job.out = out.data(), job.x = x.data(), job.output = output.data(), job.table = table;
    job.step = &at, job.stride = 0, job.index = kIndex, job.rows = kRows, job.count = kCount;
    job.seed = 42, job.stream = 3, job.clipped = true, job.learned = false, job.clip = T(1);
    share(threads, [&](int64_t begin, int64_t end) { kernel(job, begin, end); });
    if (threads == 1) first = out;
    CHECK(out == first);
  }
}

}  // namespace

int main() {
  noise<float>(MEDGEN_CALL(normal_float));
  noise<double>(MEDGEN_CALL(normal_double));
  noise<float>(MEDGEN_CALL(uniform_float));
  noise<int64_t>(MEDGEN_CALL(philox_words));
  step<float>(MEDGEN_CALL(ddpm_step_float));
  step<double>(MEDGEN_CALL(ddpm_step_double));
  return test::report();
}
