// The measures of form: thickness, width, dents, roundness. Those of pieces and contacts are in measures.cpp.
#include <cmath>
#include <numbers>

#include "measures.h"

namespace anatomy {
namespace {

// The search gives way to the transform of the whole image beyond so many pixels compared.
constexpr double kWork = 2e8;

}  // namespace

// Removes what is small and connected by 4 neighbours; then tells whether exactly one component for 8 is left.
bool Analyser::whole(Bits& bits, const Box& box) {
  components_.find(bits, false, false, box.top, box.bottom);
  const Components& found = components_;
  bool small = false;
  for (std::size_t i = 0; i < found.runs.size(); ++i) small |= found.root[i] == static_cast<int>(i) && is_small(found.area[i], bits);
  if (small) {
    std::fill(bits.data.begin(), bits.data.end(), 0);
    found.each([&](const Run& run, int root) {
      if (!is_small(found.area[root], bits)) bits.set(run.row, run.start, run.end);
    });
  } else if (found.count <= 1) {
    return found.count == 1;
  }
  components_.find(bits, false, true, box.top, box.bottom);
  return components_.count == 1;
}

double Analyser::erosion_ratio(Shape& a) {
  if (a.area == static_cast<std::int64_t>(task_.height) * task_.width) return kInfinity;  // nothing to erode from
  need_parts(a);
  const Bits& bits = *a.bits;
  first_ = bits;
  bool one = a.parts.count == 1;
  if (!one) {  // islands that are artefacts have a criterion of their own
    std::fill(first_.data.begin(), first_.data.end(), 0);
    int count = 0;
    for (std::size_t i = 0; i < a.parts.runs.size(); ++i)
      count += a.parts.root[i] == static_cast<int>(i) && !is_small(a.parts.area[i], bits);
    one = count == 1;
    a.parts.each([&](const Run& run, int root) {
      if (!is_small(a.parts.area[root], bits)) first_.set(run.row, run.start, run.end);
    });
  }
  int erosions = 0;
  for (; one; ++erosions) {
    erode(first_, a.box, second_);
    std::swap(first_, second_);
    one = whole(first_, a.box);
  }
  // A pixel that survives n erosions is more than n rows or columns from the outside, and at most sqrt(2) times that far.
  int levels = 0;
  for (first_ = bits; first_.any(); ++levels) erode(first_, a.box, second_), std::swap(first_, second_);
  const int sure = static_cast<int>(std::ceil(levels / std::numbers::sqrt2)) - 1;
  first_ = bits;
  for (int n = 0; n < sure; ++n) erode(first_, a.box, second_), std::swap(first_, second_);
  return erosions / thickest(bits, first_, a.box, 1, 1);
}

// Largest distance from a candidate to the outside of `of`, whose pixels lie in `box`. For each run of candidates, the least of
// (columns to the outside in row r + i)^2 + i^2 over i, as far as the largest in the run can still fall, and is above what was found before.
double Analyser::thickest(const Bits& of, const Bits& candidates, const Box& box, double dy, double dx) {
  const Box where = candidates.box();
  const std::size_t stride = static_cast<std::size_t>(where.right - where.left);
  squares_.assign(stride * (box.bottom - box.top), 0);
  left_.resize(stride);
  components_.collect(of, false, box.top, box.bottom);
  for (const Run& run : components_.runs) {
    double* row = squares_.data() + stride * (run.row - box.top);
    const int start = std::max(run.start, where.left), end = std::min(run.end, where.right);
    const double before = run.start > 0 ? 1 - run.start : kInfinity, behind = run.end < of.width ? run.end : kInfinity;
    for (int c = start; c < end; ++c) {
      const double columns = std::min(c + before, behind - c) * dx;
      row[c - where.left] = columns * columns;
    }
  }
  double most = 0, work = 0;
  const auto look = [&](const Run& run) {
    const std::size_t first = run.start - where.left;
    const int n = run.end - run.start;
    double* left = left_.data();
    std::copy_n(squares_.data() + stride * (run.row - box.top) + first, n, left);
    double top = *std::max_element(left, left + n);
    for (int i = 1; i < of.height && top > most && i * dy * (i * dy) < top; ++i) {
      const double rows = i * dy * (i * dy);
      for (const int y : {run.row - i, run.row + i}) {
        if (y < 0 || y >= of.height) continue;
        if (y < box.top || y >= box.bottom) {
          for (int c = 0; c < n; ++c) left[c] = std::min(left[c], rows);
        } else {
          const double* other = squares_.data() + stride * (y - box.top) + first;
          for (int c = 0; c < n; ++c) left[c] = std::min(left[c], other[c] + rows);
        }
      }
      top = 0;
#pragma omp simd reduction(max : top)
      for (int c = 0; c < n; ++c) top = left[c] > top ? left[c] : top;
      work += 2 * n;
    }
    most = std::max(most, top);
  };
  // from the middle row out: the largest is rarely at an end, and the sooner it is found the less is left to do
  components_.collect(candidates, false, where.top, where.bottom);
  const int rows = where.bottom - where.top;
  for (int k = 0; k < rows && work <= kWork; ++k) {
    const int row = rows / 2 + (k % 2 ? -(k + 1) / 2 : k / 2);
    for (int i = components_.first[row]; i < components_.first[row + 1]; ++i) look(components_.runs[i]);
  }
  if (work <= kWork) return std::sqrt(most);
  complement(of, third_);
  const std::vector<double>& squares = transform_.run(third_, dy, dx);
  most = 0;
  each_pixel(candidates, where, [&](int r, int c) { most = std::max(most, squares[static_cast<std::size_t>(r) * of.width + c]); });
  return std::sqrt(most);
}

double Analyser::width_ratio(const Shape& a, const Shape& b) const {
  std::int64_t rows = 0;
  const auto sum = [&](int r) { return a.bits->count(r, 0, task_.width) + b.bits->count(r, 0, task_.width); };
  for (int r = 0; r < task_.height; ++r) rows += r * sum(r);
  const int middle = static_cast<int>(rows / (a.area + b.area));
  const std::int64_t of_a = a.bits->count(middle, 0, task_.width), of_b = b.bits->count(middle, 0, task_.width);
  return of_a && of_b ? static_cast<double>(of_a) / static_cast<double>(of_b) : kMissing;
}

double Analyser::concavity(Shape& a) {
  need_filled(a);
  hull_.run(a.filled, a.box, first_);
  for (std::size_t i = 0; i < first_.data.size(); ++i) a.filled.data[i] ^= first_.data[i];  // the hull without the shape
  erode(a.filled, a.box, second_);
  for (std::size_t i = 0; i < first_.data.size(); ++i) a.filled.data[i] ^= first_.data[i];
  return second_.any() ? thickest(first_, second_, a.box, task_.dy, task_.dx) : 0;
}

double Analyser::circularity(Shape& a) {
  need_filled(a);
  const Bits& in = a.filled;
  first_.like(in);
  const auto at = [&](const Bits& bits, int r, int k) { return r >= 0 && r < bits.height ? bits.row(r)[k] : 0; };
  const auto left = [&](const Bits& bits, int r, int k) { return r >= 0 && r < bits.height ? from_left(bits.row(r), k) : 0; };
  const auto right = [&](const Bits& bits, int r, int k) { return r >= 0 && r < bits.height ? from_right(bits, bits.row(r), k) : 0; };
  std::int64_t area = 0, straight = 0, diagonal = 0, mixed = 0;
  for (int r = a.box.top; r < a.box.bottom; ++r)
    for (int k = 0; k < in.words; ++k) {
      area += std::popcount(in.row(r)[k]);
      first_.row(r)[k] = in.row(r)[k] & ~(at(in, r - 1, k) & at(in, r + 1, k) & left(in, r, k) & right(in, r, k));
    }
  // The estimator of Benkrid and Crookes, as in skimage.measure.perimeter: what a border pixel adds depends on how many of its
  // neighbours are border pixels too. Counts are added bit by bit: sum = one + 2 two + 4 four.
  struct Count {
    Word one, two, four;
  };
  const auto add = [](Word p, Word q, Word s, Word t) {
    return Count{p ^ q ^ s ^ t, (p & q) ^ (s & t) ^ ((p ^ q) & (s ^ t)), p & q & s & t};
  };
  const Bits& border = first_;
  for (int r = a.box.top; r < a.box.bottom; ++r)
    for (int k = 0; k < in.words; ++k) {
      const Word here = border.row(r)[k];
      if (!here) continue;
      const Count sides = add(at(border, r - 1, k), at(border, r + 1, k), left(border, r, k), right(border, r, k));
      const Count corners = add(left(border, r - 1, k), right(border, r - 1, k), left(border, r + 1, k), right(border, r + 1, k));
      const Word none = ~(sides.one | sides.two | sides.four), one = sides.one & ~sides.two;
      const Word one_corner = corners.one & ~corners.two, two_corners = corners.two & ~corners.one, three = corners.two & corners.one;
      straight += std::popcount(here & sides.two & ~(corners.four | three));
      diagonal += std::popcount(here & ((none & two_corners) | (one & three)));
      mixed += std::popcount(here & one & (one_corner | two_corners));
    }
  const double root = std::numbers::sqrt2;
  const double perimeter = static_cast<double>(straight) + root * static_cast<double>(diagonal) + (1 + root) / 2 * static_cast<double>(mixed);
  return perimeter > 0 ? 4 * std::numbers::pi * static_cast<double>(area) / (perimeter * perimeter) : kMissing;
}

}  // namespace anatomy
