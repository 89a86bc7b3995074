// ln(sum exp) as a monoid: (max, sum) stands for max + ln(sum). Tiles, chunks and ranks merge in any fixed order.
#pragma once

#include <cmath>

#include "core/hd.h"

MEDGEN_NAMESPACE_BEGIN

struct LogSum {
  double max = -INFINITY, sum = 0.0;

  // The larger maximum stays; the other sum is scaled to it. Empty parts, (-inf, 0), are neutral.
  MEDGEN_HD void merge(const LogSum& other) {
    if (other.max == -INFINITY) return;
    if (max >= other.max) {
      sum += other.sum * ::exp(other.max - max);
    } else {
      sum = other.sum + (max == -INFINITY ? 0.0 : sum * ::exp(max - other.max));
      max = other.max;
    }
  }

  MEDGEN_HD double value() const { return max == -INFINITY ? max : max + ::log(sum); }
};

MEDGEN_NAMESPACE_END
