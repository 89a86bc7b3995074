// The best instruction set that was built and that this machine has.
#pragma once

#include "cpu/kernels.h"

namespace medgen {

inline int cpu_level() {
#if defined(__x86_64__) && defined(__GNUC__)
  static const int level = __builtin_cpu_supports("x86-64-v4") ? 4 : __builtin_cpu_supports("x86-64-v3") ? 3 : 0;
  return level;
#else
  return 0;
#endif
}

}  // namespace medgen

// A library built on first use has one set, that of its machine; one built ahead of time has all of them.
#if defined(MEDGEN_HAVE_V4) && defined(MEDGEN_HAVE_V3) && defined(MEDGEN_HAVE_BASE)
#define MEDGEN_CALL(name) (medgen::cpu_level() == 4 ? medgen::v4::name : medgen::cpu_level() == 3 ? medgen::v3::name : medgen::base::name)
#elif defined(MEDGEN_HAVE_V4)
#define MEDGEN_CALL(name) (medgen::v4::name)
#elif defined(MEDGEN_HAVE_V3)
#define MEDGEN_CALL(name) (medgen::v3::name)
#else
#define MEDGEN_CALL(name) (medgen::base::name)
#endif
