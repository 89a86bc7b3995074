// One reverse step of a diffusion model: 256 normals are made in cache, and used at once.

#include "cpu/ddpm.h"

#include <algorithm>
#include <cstdint>

#include "core/ddpm.h"
#include "core/exp.h"
#include "cpu/normals.h"

MEDGEN_NAMESPACE_BEGIN
namespace {

template <bool kClip, bool kLearned, bool kNoisy, class T>
MEDGEN_HD void update(T* out, const T* x, const T* output, const T* second, const T* z, std::int64_t n, const Step<T>& c, T clip) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const T mean = step_mean<kClip>(c, x[i], output[i], clip);
    if constexpr (kLearned && kNoisy) {
      out[i] = mean + fast_exp(c.scale + c.slope * second[i]) * z[i];
    } else if constexpr (kNoisy) {
      out[i] = mean + c.scale * z[i];
    } else {
      out[i] = mean;
    }
  }
}

// Elements [first, first + n) of the job counted over all rows, which all belong to rows of step c; z is theirs.
template <class T>
void stretch(const StepJob<T>& job, std::int64_t row, std::int64_t first, std::int64_t n, const T* z, const Step<T>& c) {
  T* out = job.out + first;
  const T *x = job.x + first, *o = job.output + first, *second = nullptr;
  if (job.learned) {
    o += row * job.count;  // a sample has `count` means, then `count` variances
    second = o + job.count;
  }
  const bool noisy = z != nullptr && step_is_noisy(c.scale, job.learned);
  const int variant = (job.clipped ? 4 : 0) + (job.learned ? 2 : 0) + (noisy ? 1 : 0);
  switch (variant) {
    case 1: return update<false, false, true>(out, x, o, second, z, n, c, job.clip);
    case 3: return update<false, true, true>(out, x, o, second, z, n, c, job.clip);
    case 5: return update<true, false, true>(out, x, o, second, z, n, c, job.clip);
    case 7: return update<true, true, true>(out, x, o, second, z, n, c, job.clip);
    case 0:
    case 2: return update<false, false, false>(out, x, o, second, z, n, c, job.clip);
    default: return update<true, false, false>(out, x, o, second, z, n, c, job.clip);
  }
}

template <class T>
MEDGEN_HD const T* row_of(const StepJob<T>& job, std::int64_t row) {
  return job.table + job.step[row * job.stride] * kStepColumns;
}

template <class T>
MEDGEN_HD bool any_noise(const StepJob<T>& job, std::int64_t first_row, std::int64_t last_row) {
  if (job.stride == 0) last_row = first_row;
  for (std::int64_t row = first_row; row <= last_row; ++row)
    if (step_is_noisy(row_of(job, row)[6], job.learned)) return true;
  return false;
}

// Counters [q, q + n), row after row; z holds their normals, four each, or is null where no row draws any.
template <class T>
void rows_of(const StepJob<T>& job, std::int64_t q, std::int64_t n, std::int64_t per_row, const T* z) {
  while (n > 0) {
    const std::int64_t row = q / per_row, block = q - row * per_row, some = std::min(n, per_row - block);
    const std::int64_t length = std::min(4 * some, job.count - 4 * block);
    stretch(job, row, row * job.count + 4 * block, length, z, step_of(row_of(job, row)));
    q += some;
    n -= some;
    if (z != nullptr) z += 4 * some;
  }
}

// Counters [begin, end) where no row draws noise.
template <class T>
void plain(const StepJob<T>& job, std::int64_t begin, std::int64_t end, std::int64_t per_row) {
  if (job.stride != 0 || job.learned) return rows_of<T>(job, begin, end - begin, per_row, nullptr);
  const auto element = [&](std::int64_t q) { return q / per_row * job.count + std::min(q % per_row * 4, job.count); };
  stretch<T>(job, 0, element(begin), element(end) - element(begin), nullptr, step_of(row_of(job, 0)));
}

template <class T>
void run(const StepJob<T>& job, std::int64_t begin, std::int64_t end) {
  const std::int64_t per_row = (job.count + 3) / 4;
  if (!any_noise(job, begin / per_row, (end - 1) / per_row)) return plain(job, begin, end, per_row);
  // Then the rows follow each other without gaps, and share a step: no need to tell them apart.
  const bool flat = job.count % 4 == 0 && job.stride == 0 && !job.learned;
  const Step<T> shared = step_of(row_of(job, begin / per_row));
  Counters counters(job.index, per_row, begin, job.stream, job.step, job.stride);
  Words words;
  alignas(64) T z[4 * kBlock];
  for (std::int64_t q = begin; q < end; q += kBlock) {
    const int n = static_cast<int>(std::min<std::int64_t>(kBlock, end - q));
    counters.next(words, n);
    fill_words(words, job.seed);
    normals(z, words);
    if (flat) {
      stretch(job, 0, 4 * q, 4 * n, z, shared);
    } else {
      rows_of(job, q, n, per_row, z);
    }
  }
}

}  // namespace

void ddpm_step_float(const StepJob<float>& job, std::int64_t begin, std::int64_t end) { run(job, begin, end); }
void ddpm_step_double(const StepJob<double>& job, std::int64_t begin, std::int64_t end) { run(job, begin, end); }

MEDGEN_NAMESPACE_END
