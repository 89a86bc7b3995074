#include "measures.h"

#include <atomic>
#include <cmath>
#include <exception>
#include <mutex>
#include <thread>

namespace anatomy {
namespace {

// The search gives way to the transform of the whole image beyond so many looks into rows.
constexpr double kLooks = 4e6;

void unite(Bits& a, const Bits& b) {
  for (std::size_t i = 0; i < a.data.size(); ++i) a.data[i] |= b.data[i];
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
