// The measures of label maps; reference.py says in NumPy and SciPy what each of them is.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "components.h"
#include "distance.h"
#include "hull.h"

namespace anatomy {

inline constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

enum class Measure {
  holes,
  holes_besides,
  disconnectivity,
  gap,
  distance,
  frontier,
  frontier_ratio,
  erosion_ratio,
  width_ratio,
  concavity,
  circularity,
};

inline constexpr std::array<const char*, 11> kMeasures = {"holes",           "holes_besides", "disconnectivity", "gap",
                                                          "distance",        "frontier",      "frontier_ratio",  "erosion_ratio",
                                                          "width_ratio",     "concavity",     "circularity"};

// One value of a map: a measure of structure `a`, and of `b` where it compares two (else -1), as numbers of `Task::structures`.
struct Step {
  Measure measure;
  int a, b;
};

struct Task {
  int height, width;
  double dy, dx;                                      // mm per pixel
  std::vector<std::uint8_t> labels;                   // that a map may hold
  std::uint8_t background;
  std::vector<std::vector<std::uint8_t>> structures;  // the labels of each
  std::vector<Step> steps;
};

// What several measures of a structure need, found once.
struct Shape {
  const Bits* bits;  // `own`, or those of its only label
  Bits own;
  Box box;
  std::int64_t area;
  bool background;  // never counts as missing
  Components parts, outside4, outside8;
  bool has_parts, has_outside4, has_outside8, has_filled;
  std::vector<char> open;  // of each root of outside4: whether it reaches the border of the image
  Bits filled;

  bool missing() const { return area == 0 && !background; }
};

// Measures maps one after another; keeps its memory.
class Analyser {
 public:
  explicit Analyser(const Task& task);

  // One value per step, NaN where a structure is missing; false where the map holds another label.
  bool run(const std::uint8_t* map, double* values);

 private:
  double value(const Step& step);
  double holes(Shape& a, const Shape* besides);
  double disconnectivity(Shape& a);
  double gap(Shape& a, Shape& b);
  double distance(Shape& a, Shape& b);
  double frontier(Shape& a, Shape& b);
  double erosion_ratio(Shape& a);
  double width_ratio(const Shape& a, const Shape& b) const;
  double concavity(Shape& a);
  double circularity(Shape& a);

  double thickest(const Bits& of, const Bits& candidates, const Box& box, double dy, double dx);
  bool whole(Bits& bits, const Box& box);
  void find_outside(const Bits& bits, const Box& box, bool eight, Components& out) const;
  void need_parts(Shape& a);
  void need_outside4(Shape& a);
  void need_filled(Shape& a);
  void fill_own_holes(Shape& a, const Shape& other, Bits& into);

  const Task& task_;
  std::vector<Bits> labels_;
  std::vector<Shape> shapes_;
  Bits first_, second_, third_;
  std::vector<double> squares_, left_;
  Components components_;
  ConvexHull hull_;
  DistanceTransform transform_;
};

// Measures `count` maps on threads; returns the number of the first map that holds another label, or -1.
std::int64_t measure_all(const Task& task, const std::uint8_t* maps, std::int64_t count, int threads, double* values);

}  // namespace anatomy
