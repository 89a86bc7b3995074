#include "measures.h"

#include <atomic>
#include <cmath>
#include <exception>
#include <mutex>
#include <numbers>
#include <thread>

namespace anatomy {
namespace {

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

// Searches give way to the transform of the whole image beyond so many looks into rows, or so many pixels compared.
constexpr double kLooks = 4e6, kWork = 2e8;

// Artefacts of morphology: fewer pixels than this share of the image, times 2^14.
bool is_small(std::int64_t area, const Bits& image) { return area * 16384 < static_cast<std::int64_t>(image.height) * image.width; }

void unite(Bits& a, const Bits& b) {
  for (std::size_t i = 0; i < a.data.size(); ++i) a.data[i] |= b.data[i];
}

// Calls use(r, c) for every set pixel in a box.
template <typename Use>
void each_pixel(const Bits& bits, const Box& box, Use use) {
  for (int r = box.top; r < box.bottom; ++r)
    for (int k = box.left >> 6; 64 * k < box.right; ++k)
      for (Word left = bits.row(r)[k]; left; left &= left - 1) use(r, 64 * k + std::countr_zero(left));
}

void complement(const Bits& in, Bits& out) {
  out.like(in);
  for (int r = 0; r < in.height; ++r)
    for (int k = 0; k < in.words; ++k) out.row(r)[k] = ~in.row(r)[k] & in.valid(k);
}

bool on_border(const Run& run, const Bits& bits) {
  return run.row == 0 || run.row == bits.height - 1 || run.start == 0 || run.end == bits.width;
}

}  // namespace

Analyser::Analyser(const Task& task) : task_(task), labels_(task.labels.size()), shapes_(task.structures.size()) {
  for (Bits& bits : labels_) bits.reset(task.height, task.width);
}

bool Analyser::run(const std::uint8_t* map, double* values) {
  if (!extract(map, task_.labels, labels_)) return false;
  for (std::size_t s = 0; s < shapes_.size(); ++s) {
    Shape& shape = shapes_[s];
    shape.background = false;
    shape.bits = nullptr;
    for (const std::uint8_t label : task_.structures[s]) {
      const std::size_t i = std::find(task_.labels.begin(), task_.labels.end(), label) - task_.labels.begin();
      shape.background |= label == task_.background;
      if (shape.bits) {
        shape.own = *shape.bits;
        unite(shape.own, labels_[i]);
        shape.bits = &shape.own;
      } else {
        shape.bits = &labels_[i];
      }
    }
    shape.area = shape.bits->count();
    shape.box = shape.bits->box();
    shape.has_parts = shape.has_outside4 = shape.has_outside8 = shape.has_filled = false;
  }
  for (std::size_t i = 0; i < task_.steps.size(); ++i) values[i] = value(task_.steps[i]);
  return true;
}

double Analyser::value(const Step& step) {
  Shape& a = shapes_[step.a];
  Shape* b = step.b < 0 ? nullptr : &shapes_[step.b];
  // holes beside a missing structure are holes all the same
  if (a.missing() || (b && b->missing() && step.measure != Measure::holes_besides)) return kMissing;
  switch (step.measure) {
    case Measure::holes: return holes(a, nullptr);
    case Measure::holes_besides: return holes(a, b);
    case Measure::disconnectivity: return disconnectivity(a);
    case Measure::gap: return gap(a, *b);
    case Measure::distance: return distance(a, *b);
    case Measure::frontier: return frontier(a, *b);
    case Measure::frontier_ratio: return frontier(a, *b) / (a.box.right - a.box.left);
    case Measure::erosion_ratio: return erosion_ratio(a);
    case Measure::width_ratio: return width_ratio(a, *b);
    case Measure::concavity: return concavity(a);
    case Measure::circularity: return circularity(a);
  }
  return kMissing;
}

void Analyser::need_parts(Shape& a) {
  if (!a.has_parts) a.parts.find(*a.bits, false, true, a.box.top, a.box.bottom);
  a.has_parts = true;
}

// The complement; without the rows that it fills, of which the nearest stand for all.
void Analyser::find_outside(const Bits& bits, const Box& box, bool eight, Components& out) const {
  const bool all = box.touches(bits.height, bits.width);
  out.find(bits, true, eight, all ? 0 : box.top - 1, all ? bits.height : box.bottom + 1);
}

void Analyser::need_outside4(Shape& a) {
  if (a.has_outside4) return;
  a.has_outside4 = true;
  find_outside(*a.bits, a.box, false, a.outside4);
  a.open.assign(a.outside4.runs.size(), 0);
  a.outside4.each([&](const Run& run, int root) { a.open[root] |= on_border(run, *a.bits); });
}

void Analyser::need_filled(Shape& a) {
  if (a.has_filled) return;
  a.has_filled = true;
  need_outside4(a);
  a.filled = *a.bits;
  a.outside4.each([&](const Run& run, int root) {
    if (!a.open[root]) a.filled.set(run.row, run.start, run.end);
  });
}

double Analyser::holes(Shape& a, const Shape* besides) {
  need_outside4(a);
  bool closed = false;
  a.outside4.each([&](const Run&, int root) { closed |= !a.open[root]; });
  if (!closed) return 0;  // a hole for 8 neighbours is made of holes for 4
  if (!a.has_outside8) find_outside(*a.bits, a.box, true, a.outside8);
  a.has_outside8 = true;
  std::vector<char> open(a.outside8.runs.size(), 0);
  a.outside8.each([&](const Run& run, int root) { open[root] |= on_border(run, *a.bits); });
  std::int64_t sum = 0;
  a.outside8.each([&](const Run& run, int root) {
    if (!open[root]) sum += run.end - run.start - (besides ? besides->bits->count(run.row, run.start, run.end) : 0);
  });
  return static_cast<double>(sum);
}

double Analyser::disconnectivity(Shape& a) {
  need_parts(a);
  return static_cast<double>(a.parts.total - a.parts.largest);
}

// The holes of a that hold nothing of the other; outside is what is connected to pixel (0, 0).
void Analyser::fill_own_holes(Shape& a, const Shape& other, Bits& into) {
  need_outside4(a);
  const Components& found = a.outside4;
  const bool corner = !a.bits->get(0, 0);
  if (found.count <= (corner ? 1 : 0)) return;
  std::vector<char> kept(found.runs.size(), 0);
  if (corner) kept[found.root[0]] = 1;
  found.each([&](const Run& run, int root) {
    if (!kept[root]) kept[root] = other.bits->count(run.row, run.start, run.end) > 0;
  });
  found.each([&](const Run& run, int root) {
    if (!kept[root]) into.set(run.row, run.start, run.end);
  });
}

double Analyser::gap(Shape& a, Shape& b) {
  first_ = *a.bits;
  unite(first_, *b.bits);
  fill_own_holes(a, b, first_);
  fill_own_holes(b, a, first_);
  find_outside(first_, a.box.with(b.box), false, components_);
  const std::int64_t outside = first_.get(0, 0) ? 0 : components_.area[components_.root[0]];
  const std::int64_t sum = components_.total - outside;
  return sum * 16384 > static_cast<std::int64_t>(task_.height) * task_.width ? static_cast<double>(sum) : 0;
}

double Analyser::distance(Shape& a, Shape& b) {
  dilate(*a.bits, first_);
  if (count_common(first_, *b.bits)) return 0;
  const Box box = first_.box();
  erode(first_, box, second_);  // the nearest pixel of a region lies on its edge
  for (std::size_t i = 0; i < first_.data.size(); ++i) first_.data[i] &= ~second_.data[i];
  double best = kInfinity;
  if (static_cast<double>(first_.count()) * task_.height <= kLooks) {
    each_pixel(first_, box, [&](int r, int c) { best = nearest(*b.bits, r, c, task_.dy, task_.dx, best); });
  } else {
    const std::vector<double>& squares = transform_.run(*b.bits, task_.dy, task_.dx);
    each_pixel(first_, box, [&](int r, int c) { best = std::min(best, squares[static_cast<std::size_t>(r) * task_.width + c]); });
  }
  return std::sqrt(best);
}

double Analyser::frontier(Shape& a, Shape& b) {
  dilate(*b.bits, first_);
  const std::int64_t sum = count_common(*a.bits, first_);
  return sum > 1 ? static_cast<double>(sum) : 0;
}

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

std::int64_t measure_all(const Task& task, const std::uint8_t* maps, std::int64_t count, int threads, double* values) {
  const std::int64_t size = static_cast<std::int64_t>(task.height) * task.width, steps = static_cast<std::int64_t>(task.steps.size());
  std::atomic<std::int64_t> next{0}, bad{-1};
  std::exception_ptr failure;
  std::mutex mutex;
  const auto work = [&] {
    try {
      Analyser analyser(task);
      for (std::int64_t i; (i = next++) < count;)
        if (!analyser.run(maps + i * size, values + i * steps)) bad = i, next = count;
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      failure = std::current_exception();
      next = count;
    }
  };
  std::vector<std::thread> others;
  try {
    for (std::int64_t i = 1; i < std::min<std::int64_t>(threads, count); ++i) others.emplace_back(work);
  } catch (const std::system_error&) {
    // as many as the system gives
  }
  work();
  for (std::thread& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
  return bad;
}

}  // namespace anatomy
