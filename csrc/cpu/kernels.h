// The CPU kernels, torch-free: plain pointers and ranges of rows, so that the caller decides about threads.
//
// Every kernel exists once per instruction set, in the namespace of that name; MEDGEN_CALL picks the best that was built and that the
// machine has.
#pragma once

#include <cstdint>

#include "core/hd.h"

// The set that is compiled is inline from its first mention, whatever else is included and when.
MEDGEN_NAMESPACE_BEGIN
MEDGEN_NAMESPACE_END

#define MEDGEN_KERNEL(name, arguments) \
  namespace medgen {                   \
  namespace base {                     \
  void name arguments;                 \
  }                                    \
  namespace v3 {                       \
  void name arguments;                 \
  }                                    \
  namespace v4 {                       \
  void name arguments;                 \
  }                                    \
  }

// Noise: the values of counters [begin, end) of out [rows, count], where a row has ceil(count / 4) counters and belongs to sample index[row].
MEDGEN_KERNEL(normal_float, (float* out, const std::int64_t* index, std::int64_t begin, std::int64_t end, std::int64_t count, std::uint64_t seed,
                             std::uint32_t stream))
MEDGEN_KERNEL(normal_double, (double* out, const std::int64_t* index, std::int64_t begin, std::int64_t end, std::int64_t count, std::uint64_t seed,
                             std::uint32_t stream))
MEDGEN_KERNEL(uniform_float, (float* out, const std::int64_t* index, std::int64_t begin, std::int64_t end, std::int64_t count, std::uint64_t seed,
                             std::uint32_t stream))
MEDGEN_KERNEL(uniform_double, (double* out, const std::int64_t* index, std::int64_t begin, std::int64_t end, std::int64_t count, std::uint64_t seed,
                             std::uint32_t stream))
MEDGEN_KERNEL(philox_words, (std::int64_t* out, const std::int64_t* index, std::int64_t begin, std::int64_t end, std::int64_t count, std::uint64_t seed,
                             std::uint32_t stream))
