// csrc/core as a Python module over NumPy arrays, so that hypothesis can test the very lines that the kernels run. Not shipped in wheels.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "core/affine.h"
#include "core/ddpm.h"
#include "core/exp.h"
#include "core/logsumexp.h"
#include "core/normal.h"
#include "core/parzen.h"
#include "core/philox.h"
#include "core/rq_spline.h"

namespace py = pybind11;
using namespace medgen;

void add_split(py::module_& module);  // split.cpp

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

// Lets NumPy broadcast; the name is that of the function in csrc/core.
#define UNARY(name)                                                                            \
  module.def(#name, py::vectorize([](float x) { return name(x); }), py::arg("x").noconvert()); \
  module.def(#name, py::vectorize([](double x) { return name(x); }), py::arg("x"))

Array<std::uint32_t> words_of(Array<std::uint32_t> counter, std::uint64_t seed) {
  if (counter.ndim() != 2 || counter.shape(1) != 4) throw py::value_error("counter must be [N, 4]: block, stream, sample low, sample high");
  Array<std::uint32_t> out({counter.shape(0), py::ssize_t{4}});
  const auto c = counter.unchecked<2>();
  auto w = out.mutable_unchecked<2>();
  for (py::ssize_t n = 0; n < c.shape(0); ++n) {
    const Philox p = philox(c(n, 0), c(n, 1), c(n, 2), c(n, 3), seed);
    w(n, 0) = p.w0, w(n, 1) = p.w1, w(n, 2) = p.w2, w(n, 3) = p.w3;
  }
  return out;
}

template <class T>
Array<T> normals_of(Array<std::uint32_t> pairs) {
  if (pairs.ndim() != 2 || pairs.shape(1) != 2) throw py::value_error("words must be [N, 2]");
  Array<T> out({pairs.shape(0), py::ssize_t{2}});
  const auto w = pairs.unchecked<2>();
  auto to = out.template mutable_unchecked<2>();
  for (py::ssize_t n = 0; n < w.shape(0); ++n) normal_pair(w(n, 0), w(n, 1), to(n, 0), to(n, 1));
  return out;
}

// The pair (max, sum) of some values in the order given.
std::pair<double, double> log_sum(Array<double> values) {
  LogSum total;
  const auto v = values.unchecked<1>();
  for (py::ssize_t n = 0; n < v.shape(0); ++n) total.merge({v(n), 1.0});
  return {total.max, total.sum};
}

std::tuple<double, double, double> merge(std::pair<double, double> a, std::pair<double, double> b) {
  LogSum left{a.first, a.second};
  left.merge({b.first, b.second});
  return {left.max, left.sum, left.value()};
}

template <Bound kBound>
void add_coupling(py::module_& module, const char* name) {
  // (y, log-det) of one element, and the gradients of g y + h log-det to x, s and t
  module.def(name, [](double x, double s, double t, double s_max, bool inverse) {
    const double b = bound<kBound>(s, s_max, 1.0 / s_max), y = inverse ? affine<true>(x, b, t) : affine<false>(x, b, t);
    return std::pair(y, inverse ? -b : b);
  });
  module.def((std::string(name) + "_gradients").c_str(), [](double g, double h, double side, double s, double s_max, bool inverse) {
    const auto d = inverse ? affine_gradients<kBound, true>(g, h, side, s, s_max, 1.0 / s_max)
                           : affine_gradients<kBound, false>(g, h, side, s, s_max, 1.0 / s_max);
    return std::tuple(d.x, d.s, d.t);
  });
}

// A bin as x, w, y, h, d0, d1.
using Six = std::array<double, 6>;

Bin<double> bin_of(const Six& v) { return {v[0], v[1], v[2], v[3], v[4], v[5]}; }

// (value, log-derivative) at theta of the bin's width.
std::pair<double, double> bin_value(const Six& six, double theta) {
  const Bin<double> b = bin_of(six);
  const Rational<double> r = rational(b, theta);
  return {b.y + b.h * r.p, bin_log_slope(r)};
}

// Of A value + B log-derivative: by the input, then by x, w, y, h, d0, d1.
std::array<double, 7> bin_gradients_of(const Six& six, double theta, double A, double B) {
  const Bin<double> b = bin_of(six);
  const BinGradients<double> g = bin_gradients(b, rational(b, theta), A, B);
  return {g.input, g.x, g.w, g.y, g.h, g.d0, g.d1};
}

template <class T>
T mean_of_step(const std::array<T, kStepColumns>& row, T x, T output, std::optional<T> clip) {
  const Step<T> c = step_of(row.data());
  return clip.has_value() ? step_mean<true>(c, x, output, *clip) : step_mean<false>(c, x, output, T(0));
}

}  // namespace

PYBIND11_MODULE(medgen_host, module) {
  module.def("philox", &words_of, py::arg("counter"), py::arg("seed"));
  module.def("uniform_float", py::vectorize(&uniform_of_float));
  module.def("uniform_double", py::vectorize(&uniform_of_double));
  module.def("normal_float", &normals_of<float>);
  module.def("normal_double", &normals_of<double>);
  UNARY(fast_exp);
  UNARY(fast_log);
  UNARY(fast_tanh);
  UNARY(softplus);
  UNARY(sigmoid);
  module.def("exp2_float", py::vectorize([](float f) { return Exp2<float>::fraction(f); }));
  module.def("exp2_double", py::vectorize([](double f) { return Exp2<double>::fraction(f); }));
  module.def("bin_value", &bin_value);
  module.def("bin_inverse", [](const Six& six, double y) { return bin_inverse(bin_of(six), y); });
  module.def("bin_gradients", &bin_gradients_of);
  module.def("step_mean_float", &mean_of_step<float>);
  module.def("step_mean_double", &mean_of_step<double>);
  module.def("step_is_noisy", &step_is_noisy<double>);
  module.def("form_of", [](double norm2, std::int64_t dim, bool wide) { return static_cast<int>(form_of(norm2, dim, wide)); });
  module.def("too_far", [](int form, double log_sum, std::int64_t dim, std::int64_t points) {
    return too_far(static_cast<Form>(form), log_sum, dim, points);
  });
  module.def("log_sum", &log_sum);
  module.def("merge", &merge);
  add_coupling<Bound::kNone>(module, "coupling_none");
  add_coupling<Bound::kTanh>(module, "coupling_tanh");
  add_coupling<Bound::kSoft>(module, "coupling_soft");
  add_split(module);
}
