// Counter-based words, uniforms and normals.

#include <algorithm>
#include <cstdint>

#include "cpu/kernels.h"
#include "cpu/normals.h"

MEDGEN_NAMESPACE_BEGIN
namespace {

template <class T, class Function>
MEDGEN_HD void interleave(T* out, const Words& words, const Function& function) {
  for (int j = 0; j < kBlock; ++j)
    for (int k = 0; k < 4; ++k) out[4 * j + k] = function(words.w[k][j]);
}

// Counters [begin, end) of the rows of `count` values: each counter makes four values, the last of a row perhaps fewer.
template <class T, class Fill>
MEDGEN_HD void values(T* out, const std::int64_t* index, std::int64_t begin, std::int64_t end, std::int64_t count, std::uint64_t seed,
                      std::uint32_t stream, const Fill& fill) {
  const std::int64_t per_row = (count + 3) / 4;
  Counters counters(index, per_row, begin, stream);
  Words words;
  alignas(64) T buffer[4 * kBlock];
  const bool whole = count % 4 == 0;  // then counter q makes out[4 q .. 4 q + 3], whatever its row
  for (std::int64_t q = begin; q < end; q += kBlock) {
    const int n = static_cast<int>(std::min<std::int64_t>(kBlock, end - q));
    counters.next(words, n);
    fill_words(words, seed);
    if (whole && n == kBlock) {
      fill(out + 4 * q, words);
      continue;
    }
    fill(buffer, words);
    if (whole) {
      std::copy(buffer, buffer + 4 * n, out + 4 * q);
      continue;
    }
    for (int j = 0; j < n; ++j) {
      const std::int64_t row = (q + j) / per_row, e = 4 * ((q + j) % per_row);
      std::copy(buffer + 4 * j, buffer + 4 * j + std::min<std::int64_t>(4, count - e), out + row * count + e);
    }
  }
}

}  // namespace

void normal_float(float* out, const std::int64_t* index, std::int64_t begin, std::int64_t end, std::int64_t count, std::uint64_t seed,
                  std::uint32_t stream) {
  values(out, index, begin, end, count, seed, stream, [](float* to, const Words& words) { normals(to, words); });
}

void normal_double(double* out, const std::int64_t* index, std::int64_t begin, std::int64_t end, std::int64_t count, std::uint64_t seed,
                   std::uint32_t stream) {
  values(out, index, begin, end, count, seed, stream, [](double* to, const Words& words) { normals(to, words); });
}

void uniform_float(float* out, const std::int64_t* index, std::int64_t begin, std::int64_t end, std::int64_t count, std::uint64_t seed,
                   std::uint32_t stream) {
  values(out, index, begin, end, count, seed, stream, [](float* to, const Words& words) {
    interleave(to, words, [](std::uint32_t w) { return uniform_of_float(w); });
  });
}

void uniform_double(double* out, const std::int64_t* index, std::int64_t begin, std::int64_t end, std::int64_t count, std::uint64_t seed,
                    std::uint32_t stream) {
  values(out, index, begin, end, count, seed, stream, [](double* to, const Words& words) {
    interleave(to, words, [](std::uint32_t w) { return uniform_of_double(w); });
  });
}

void philox_words(std::int64_t* out, const std::int64_t* index, std::int64_t begin, std::int64_t end, std::int64_t count, std::uint64_t seed,
                  std::uint32_t stream) {
  values(out, index, begin, end, count, seed, stream, [](std::int64_t* to, const Words& words) {
    interleave(to, words, [](std::uint32_t w) { return static_cast<std::int64_t>(w); });
  });
}

MEDGEN_NAMESPACE_END
