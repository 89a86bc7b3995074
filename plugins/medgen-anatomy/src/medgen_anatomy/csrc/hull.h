// Convex hull of pixels, each a diamond of its four edge midpoints, in exact integers.
#pragma once

#include <cstdint>
#include <vector>

#include "bits.h"

namespace anatomy {

class ConvexHull {
 public:
  // The pixels whose centres lie in the hull or on it, as in skimage.morphology.convex_hull_image.
  void run(const Bits& in, const Box& box, Bits& out) {
    out.like(in);
    if (box.empty()) return;
    left_.clear(), right_.clear();
    int pending_row = -2, pending_start = 0, pending_end = 0;
    // Twice the coordinates, so that midpoints are whole: between two rows lies the lower tip of one and the upper of the other.
    for (int r = box.top; r <= box.bottom; ++r) {
      int start = in.width, end = -1;
      if (r < box.bottom) ends(in, r, start, end);
      if (pending_row == r - 1 || end >= 0) {
        const bool both = pending_row == r - 1 && end >= 0, old = pending_row == r - 1;
        const int low = both ? std::min(start, pending_start) : old ? pending_start : start;
        const int high = both ? std::max(end, pending_end) : old ? pending_end : end;
        add(left_, {2 * r - 1, 2 * low}, 1), add(right_, {2 * r - 1, 2 * high}, -1);
      }
      if (end >= 0) {
        add(left_, {2 * r, 2 * start - 1}, 1), add(right_, {2 * r, 2 * end + 1}, -1);
        pending_row = r, pending_start = start, pending_end = end;
      }
    }
    std::size_t i = 0, j = 0;
    for (int r = box.top; r < box.bottom; ++r) {
      while (left_[i + 1].y < 2 * r) ++i;
      while (right_[j + 1].y < 2 * r) ++j;
      out.set(r, ceiling(left_[i], left_[i + 1], 2 * r), floor(right_[j], right_[j + 1], 2 * r) + 1);
    }
  }

 private:
  struct Point {
    std::int64_t y, x;
  };

  static void ends(const Bits& in, int r, int& start, int& end) {
    const Word* row = in.row(r);
    for (int k = 0; k < in.words; ++k)
      if (row[k]) {
        if (end < 0) start = 64 * k + std::countr_zero(row[k]);
        end = 64 * k + 63 - std::countl_zero(row[k]);
      }
  }

  // Keeps the chain convex; side 1: the one with the smallest x.
  static void add(std::vector<Point>& chain, Point p, int side) {
    while (chain.size() >= 2) {
      const Point &a = chain[chain.size() - 2], &b = chain.back();
      if (side * ((b.x - a.x) * (p.y - a.y) - (p.x - a.x) * (b.y - a.y)) < 0) break;
      chain.pop_back();
    }
    chain.push_back(p);
  }

  // Column of the edge a-b at height y, in pixels.
  static int floor(const Point& a, const Point& b, int y) {
    const std::int64_t up = a.x * (b.y - a.y) + (b.x - a.x) * (y - a.y), down = 2 * (b.y - a.y);
    return static_cast<int>(up >= 0 ? up / down : -((-up + down - 1) / down));
  }
  static int ceiling(const Point& a, const Point& b, int y) { return -floor({a.y, -a.x}, {b.y, -b.x}, y); }

  std::vector<Point> left_, right_;
};

}  // namespace anatomy
