// core/split.h and core/draw.h as part of the module of host_module.cpp.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <vector>

#include "core/draw.h"
#include "core/logsumexp.h"
#include "core/split.h"
#include "host/tensor_cores.h"

namespace py = pybind11;
using namespace medgen;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

// ln sum_j w_j exp(-|q_i - x_j|^2 / 2) by split products, cut to `bits` bits.
Array<double> split_log_sum(Array<double> queries, Array<double> points, Array<double> log_weights, int bits) {
  if (queries.ndim() != 2 || points.ndim() != 2 || queries.shape(1) != points.shape(1) || log_weights.size() != points.shape(0))
    throw py::value_error("queries must be [M, D], points [N, D] and log_weights [N]");
  const std::int64_t dim = points.shape(1);
  std::vector<host::SplitRow> rows;
  for (py::ssize_t j = 0; j < points.shape(0); ++j) rows.emplace_back(points.data(j, 0), dim, 1.0);
  Array<double> out(queries.shape(0));
  for (py::ssize_t i = 0; i < queries.shape(0); ++i) {
    const host::SplitRow query(queries.data(i, 0), dim, 2.0);
    LogSum sum;
    for (py::ssize_t j = 0; j < points.shape(0); ++j) {
      const float score = host::split_score(query, rows[static_cast<std::size_t>(j)], log_weights.at(j), bits);
      sum.merge({(static_cast<double>(score) - query.square) * kLn2, 1.0});
    }
    out.mutable_at(i) = sum.value();
  }
  return out;
}

// Where `cumulative` is None, the weights are equal.
std::int64_t chosen(std::optional<Array<double>> cumulative, std::int64_t count, std::uint32_t word) {
  return chosen_point(cumulative ? cumulative->data() : nullptr, count, word);
}

}  // namespace

void add_split(py::module_& module) {
  module.def("half_of", py::vectorize(&half_of));
  module.def("float_of_half", py::vectorize(&float_of_half));
  module.def("split_value", py::vectorize([](double x) { return split(x).value(); }));
  module.def("split_bound", &split_bound);
  module.def("split_log_sum", &split_log_sum);
  module.def("chosen_point", &chosen);
}
