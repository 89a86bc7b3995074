// One spelling for code that compiles for host and device, and a namespace per instruction set.
#pragma once

#if defined(__CUDACC__)
#define MEDGEN_HD __host__ __device__ __forceinline__
#else
#define MEDGEN_HD inline __attribute__((always_inline))
#endif

// The CPU kernels are compiled once per instruction set. Without a namespace for each, the linker would keep one copy of every inline
// function, perhaps the AVX-512 one, for all of them.
#ifndef MEDGEN_ISA
#define MEDGEN_ISA base
#endif
#define MEDGEN_NAMESPACE_BEGIN \
  namespace medgen {           \
  inline namespace MEDGEN_ISA {
#define MEDGEN_NAMESPACE_END \
  }                          \
  }
