// The Python module: NumPy arrays in and out, the work without the GIL.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <tuple>

#include "measures.h"

namespace py = pybind11;

namespace {

using Maps = py::array_t<std::uint8_t, py::array::c_style>;
using Labels = std::vector<std::uint8_t>;

anatomy::Measure measure_of(const std::string& name) {
  for (std::size_t i = 0; i < anatomy::kMeasures.size(); ++i)
    if (name == anatomy::kMeasures[i]) return static_cast<anatomy::Measure>(i);
  throw std::invalid_argument("no measure is called " + name);
}

// Returns values [B, n], and the first map that holds a label not among `labels`, or -1.
std::pair<py::array_t<double>, std::int64_t> measure(const Maps& maps, const Labels& labels, int background,
                                                     const std::vector<Labels>& structures,
                                                     const std::vector<std::tuple<std::string, int, int>>& steps, double dy, double dx,
                                                     int threads) {
  anatomy::Task task{static_cast<int>(maps.shape(1)), static_cast<int>(maps.shape(2)), dy, dx, labels, static_cast<std::uint8_t>(background),
                     structures, {}};
  for (const auto& [name, a, b] : steps) task.steps.push_back({measure_of(name), a, b});
  py::array_t<double> values({maps.shape(0), static_cast<py::ssize_t>(steps.size())});
  const std::uint8_t* in = maps.data();
  double* out = values.mutable_data();
  std::int64_t bad = -1;
  {
    const py::gil_scoped_release release;
    bad = anatomy::measure_all(task, in, maps.shape(0), threads, out);
  }
  return {values, bad};
}

anatomy::Bits bits_of(const Maps& mask, std::uint8_t value) {
  std::vector<anatomy::Bits> bits(1);
  bits[0].reset(static_cast<int>(mask.shape(0)), static_cast<int>(mask.shape(1)));
  anatomy::extract(mask.data(), {value}, bits);
  return bits[0];
}

// Distance of every pixel to the nearest one that is 0.
py::array_t<double> distance_transform(const Maps& mask, double dy, double dx) {
  anatomy::DistanceTransform transform;
  const std::vector<double>& squares = transform.run(bits_of(mask, 0), dy, dx);
  py::array_t<double> out({mask.shape(0), mask.shape(1)});
  for (std::size_t i = 0; i < squares.size(); ++i) out.mutable_data()[i] = std::sqrt(squares[i]);
  return out;
}

py::array_t<bool> convex_hull(const Maps& mask) {
  const anatomy::Bits bits = bits_of(mask, 1);
  anatomy::Bits hull;
  anatomy::ConvexHull().run(bits, bits.box(), hull);
  py::array_t<bool> out({mask.shape(0), mask.shape(1)});
  for (int r = 0; r < hull.height; ++r)
    for (int c = 0; c < hull.width; ++c) out.mutable_at(r, c) = hull.get(r, c);
  return out;
}

}  // namespace

PYBIND11_MODULE(medgen_anatomy_maps, m) {
  m.doc() = "Measures of label maps; medgen_anatomy.criteria is the interface.";
  m.def("measure", &measure);
  m.def("distance_transform", &distance_transform);
  m.def("convex_hull", &convex_hull);
}
