// Exact draws from a Parzen density, and rejection steps fused per block: draw, log Q, log P, compare.

#include "cpu/rejection.h"

#include <algorithm>
#include <cmath>

#include "core/draw.h"
#include "core/logsumexp.h"
#include "core/parzen.h"
#include "cpu/parzen_pack.h"
#include "cpu/words.h"

MEDGEN_NAMESPACE_BEGIN
namespace {

constexpr std::int64_t kRows = 1024;  // proposals of one block

void normals_of(float* out, const std::int64_t* index, std::int64_t n, std::int64_t dim, std::uint64_t seed, std::uint32_t stream) {
  normal_float(out, index, 0, n * ((dim + 3) / 4), dim, seed, stream);
}

void normals_of(double* out, const std::int64_t* index, std::int64_t n, std::int64_t dim, std::uint64_t seed, std::uint32_t stream) {
  normal_double(out, index, 0, n * ((dim + 3) / 4), dim, seed, stream);
}

// The first two words of each sample's stream: [n] each.
void words_of(std::uint32_t* first, std::uint32_t* second, const std::int64_t* index, std::int64_t n, std::uint64_t seed, std::uint32_t stream) {
  Counters counters(index, 1, 0, stream);
  Words words;
  for (std::int64_t i = 0; i < n; i += kBlock) {
    const int count = static_cast<int>(std::min<std::int64_t>(kBlock, n - i));
    counters.next(words, count);
    fill_words(words, seed);
    for (int j = 0; j < count; ++j) first[i + j] = words.w[0][j], second[i + j] = words.w[1][j];
  }
}

// out = base + L noise, one row; accumulated in double and rounded once.
template <class T, class Base>
void shifted(const ParzenRows& like, const Base* base, const T* noise, T* out) {
  const std::int64_t dim = like.dim;
  if (!like.dense) {
#pragma omp simd
    for (std::int64_t k = 0; k < dim; ++k)
      out[k] = static_cast<T>(static_cast<double>(base[k]) + like.factor[k] * static_cast<double>(noise[k]));
    return;
  }
  for (std::int64_t i = 0; i < dim; ++i) {
    const double* row = like.factor + i * dim;
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t k = 0; k <= i; ++k) sum += row[k] * static_cast<double>(noise[k]);
    out[i] = static_cast<T>(static_cast<double>(base[i]) + sum);
  }
}

template <class T>
void draw_rows(const ParzenSource& source, const std::uint32_t* choice, const T* noise, std::int64_t n, T* out) {
  const std::int64_t dim = source.points.dim;
  const T* points = static_cast<const T*>(source.points.data);
  for (std::int64_t i = 0; i < n; ++i) {
    const T* base = points + chosen_point(source.cumulative, source.points.count, choice[i]) * dim;
    shifted(source.points, base, noise + i * dim, out + i * dim);
  }
}

template <class T>
void draw(const ParzenSource& source, const std::int64_t* index, std::uint64_t seed, std::uint32_t stream, T* proposals, std::int64_t begin,
          std::int64_t end) {
  const std::int64_t dim = source.points.dim;
  const Aligned<T> noise(kRows * dim);
  const Aligned<std::uint32_t> first(kRows), second(kRows);
  for (std::int64_t i = begin; i < end; i += kRows) {
    const std::int64_t n = std::min(kRows, end - i);
    normals_of(noise.get(), index + i, n, dim, seed, stream);
    words_of(first.get(), second.get(), index + i, n, seed, stream + 1);
    draw_rows(source, first.get(), noise.get(), n, proposals + i * dim);
  }
}

// Log-densities of n rows, of which those that float cannot resolve are done again in double.
void densities(const ParzenDensity& density, const void* rows, std::int64_t n, std::uint8_t* forms, double* pairs, double* out) {
  ParzenRows queries = density.like;
  queries.data = rows;
  queries.count = n;
  const std::int64_t points = density.wide.count;
  parzen_forms(queries, forms, 0, n);
  parzen_sums(queries, forms, density.narrow, density.wide, 0, n, 0, points, kNoOwn, pairs);
  for (std::int64_t i = 0; i < n; ++i) {
    const bool far = too_far(static_cast<Form>(forms[i]), LogSum{pairs[2 * i], pairs[2 * i + 1]}.value(), queries.dim, points);
    forms[i] = static_cast<std::uint8_t>(far ? Form::kWide : Form::kDone);
  }
  parzen_sums(queries, forms, density.narrow, density.wide, 0, n, 0, points, kNoOwn, pairs);
  for (std::int64_t i = 0; i < n; ++i) out[i] = LogSum{pairs[2 * i], pairs[2 * i + 1]}.value() + density.constant;
}

template <class T>
void step(const RejectionJob& job, std::int64_t begin, std::int64_t end) {
  const std::int64_t dim = job.source.points.dim;
  const Aligned<T> noise(kRows * dim);
  const Aligned<std::uint32_t> choice(kRows), level(kRows);
  const Aligned<std::uint8_t> forms(kRows);
  const Aligned<double> pairs(2 * kRows);
  for (std::int64_t i = begin; i < end; i += kRows) {
    const std::int64_t n = std::min(kRows, end - i);
    T* rows = static_cast<T*>(job.proposals) + i * dim;
    normals_of(noise.get(), job.index + i, n, dim, job.seed, job.stream);
    words_of(choice.get(), level.get(), job.index + i, n, job.seed, job.stream + 1);
    if (job.mean != nullptr) {
      for (std::int64_t j = 0; j < n; ++j) {
        const T* z = noise.get() + j * dim;
        double square = 0.0;
#pragma omp simd reduction(+ : square)
        for (std::int64_t k = 0; k < dim; ++k) square += static_cast<double>(z[k]) * static_cast<double>(z[k]);
        shifted(job.source.points, job.mean, z, rows + j * dim);
        job.log_q[i + j] = job.wider.constant - 0.5 * square;
      }
    } else {
      draw_rows(job.source, choice.get(), noise.get(), n, rows);
      densities(job.wider, rows, n, forms.get(), pairs.get(), job.log_q + i);
    }
    densities(job.target, rows, n, forms.get(), pairs.get(), job.log_p + i);
    for (std::int64_t j = i; j < i + n; ++j) job.accepted[j] = job.log_k + std::log(unit_of(level.get()[j - i])) + job.log_q[j] < job.log_p[j];
  }
}

}  // namespace

void parzen_draw(const ParzenSource& source, const std::int64_t* index, std::uint64_t seed, std::uint32_t stream, void* proposals,
                 std::int64_t begin, std::int64_t end) {
  if (source.points.is_double) {
    draw(source, index, seed, stream, static_cast<double*>(proposals), begin, end);
  } else {
    draw(source, index, seed, stream, static_cast<float*>(proposals), begin, end);
  }
}

void rejection_step(const RejectionJob& job, std::int64_t begin, std::int64_t end) {
  if (job.source.points.is_double) {
    step<double>(job, begin, end);
  } else {
    step<float>(job, begin, end);
  }
}

MEDGEN_NAMESPACE_END
