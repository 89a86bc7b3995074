// medgen::made_invert and its backward on the CPU: units sorted by degree, weights packed in that order.

#include "cpu/made.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <optional>
#include <tuple>
#include <vector>

#include "torch/coupling.h"
#include "torch/dispatch.h"

namespace medgen {
namespace {

using Numbers = std::vector<std::int64_t>;

// Units in the order in which they are due, and how many are due before each step.
struct Turn {
  Numbers column, due;  // due has a last entry, the number of units, for the step after the last

  // Steps are degrees 0..D, or D - degree where the order is turned round.
  Turn(const Tensor& degrees, std::int64_t D, bool turned) : due(static_cast<std::size_t>(D + 2), 0) {
    STD_TORCH_CHECK(degrees.scalar_type() == ScalarType::Long && degrees.dim() == 1 && degrees.is_contiguous(), "degrees must be int64 vectors");
    const auto* degree = static_cast<const std::int64_t*>(degrees.const_data_ptr());
    const std::int64_t n = degrees.numel();
    for (std::int64_t u = 0; u < n; ++u) STD_TORCH_CHECK(degree[u] >= 0, "degrees must not be negative");
    const auto step = [&](std::int64_t u) { return turned ? D - std::min(degree[u], D) : std::min(degree[u], D); };
    column.resize(static_cast<std::size_t>(n));
    std::iota(column.begin(), column.end(), std::int64_t{0});
    std::stable_sort(column.begin(), column.end(), [&](std::int64_t p, std::int64_t q) { return step(p) < step(q); });
    for (std::int64_t u = 0; u < n; ++u) ++due[static_cast<std::size_t>(step(u) + 1)];
    std::partial_sum(due.begin(), due.end(), due.begin());
  }

  std::int64_t before(std::int64_t step) const { return due[static_cast<std::size_t>(step)]; }
};

// One layer as the kernels take it, and the memory behind it.
template <class T>
struct Packed {
  std::vector<T> weight, bias;
  Numbers have, due, column;
  std::int64_t inputs = 0;

  // weight element (unit u, input k) lies at u * by_unit + k * by_input
  void pack(const T* from, const Numbers& units, const Numbers& reads, std::int64_t by_unit, std::int64_t by_input) {
    const std::int64_t n = static_cast<std::int64_t>(units.size()), panels = (n + kMadePanel - 1) / kMadePanel;
    inputs = static_cast<std::int64_t>(reads.size());
    column = units;
    weight.assign(static_cast<std::size_t>(panels * inputs * kMadePanel), T(0));
    bias.assign(static_cast<std::size_t>(panels * kMadePanel), T(0));
    for (std::int64_t u = 0; u < n; ++u) {
      T* to = weight.data() + u / kMadePanel * kMadePanel * inputs + u % kMadePanel;
      const T* row = from + units[static_cast<std::size_t>(u)] * by_unit;
      for (std::int64_t k = 0; k < have[static_cast<std::size_t>(u)]; ++k) to[k * kMadePanel] = row[reads[static_cast<std::size_t>(k)] * by_input];
    }
  }

  MadeLayer<T> view() const {
    return {static_cast<std::int64_t>(have.size()), inputs, weight.data(), bias.data(), have.data(), due.data(), column.data()};
  }
};

template <class T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

// The outputs [s | t], those of a feature side by side, features in the order of `turn`.
Numbers output_columns(const Turn& turn) {
  Numbers columns;
  for (std::int64_t feature : turn.column) {
    columns.push_back(feature);
    columns.push_back(static_cast<std::int64_t>(turn.column.size()) + feature);
  }
  return columns;
}

std::vector<Turn> turns_of(const std::vector<Tensor>& degrees, std::int64_t D, bool turned) {
  std::vector<Turn> turns;
  for (const Tensor& values : degrees) turns.emplace_back(values, D, turned);
  for (std::int64_t d = 0; d < D; ++d)
    STD_TORCH_CHECK(turns[0].before(d + 1 + !turned) - turns[0].before(d + !turned) == 1, "degrees must begin with a permutation of 1..D");
  return turns;
}

template <class T>
std::vector<Packed<T>> forward_layers(const std::vector<Tensor>& weights, const std::vector<Tensor>& biases, const std::vector<Turn>& turns, std::int64_t D) {
  std::vector<Packed<T>> layers(weights.size());
  for (std::size_t l = 0; l < weights.size(); ++l) {
    Packed<T>& layer = layers[l];
    const bool last = l + 1 == weights.size();
    const Numbers units = last ? output_columns(turns[0]) : turns[l + 1].column;
    if (!last) layer.due = turns[l + 1].due;
    for (std::int64_t degree = last ? 1 : 0; degree <= D; ++degree) {
      const std::int64_t readable = turns[l].before(last ? degree : degree + 1);  // lower degrees; up to its own
      const std::int64_t count = last ? 2 : layer.due[static_cast<std::size_t>(degree + 1)] - layer.due[static_cast<std::size_t>(degree)];
      layer.have.insert(layer.have.end(), static_cast<std::size_t>(count), readable);
    }
    layer.pack(data<T>(weights[l]), units, turns[l].column, weights[l].size(1), 1);
    for (std::size_t u = 0; u < units.size(); ++u) layer.bias[u] = data<T>(biases[l])[units[u]];
  }
  return layers;
}

// From the last hidden layer to x: a unit reads what reads it.
template <class T>
std::vector<Packed<T>> backward_layers(const std::vector<Tensor>& weights, const std::vector<Turn>& turns, std::int64_t D) {
  std::vector<Packed<T>> layers(weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const std::size_t l = weights.size() - 1 - i;  // whose inputs are this layer's units
    const bool outputs = i == 0;
    Packed<T>& layer = layers[i];
    layer.due = turns[l].due;
    for (std::int64_t step = 0; step <= D; ++step) {
      // degree D - step is read by outputs of higher degrees, by hidden units of its own degree too
      const std::int64_t readers = outputs ? 2 * step : turns[l + 1].before(step + 1);
      const std::int64_t count = layer.due[static_cast<std::size_t>(step + 1)] - layer.due[static_cast<std::size_t>(step)];
      layer.have.insert(layer.have.end(), static_cast<std::size_t>(count), readers);
    }
    layer.pack(data<T>(weights[l]), turns[l].column, outputs ? output_columns(turns[0]) : turns[l + 1].column, 1, weights[l].size(1));
  }
  return layers;
}

void check_matrix(const Tensor& tensor, const Tensor& like, std::int64_t rows, std::int64_t columns, const char* message) {
  STD_TORCH_CHECK(tensor.scalar_type() == like.scalar_type() && tensor.is_contiguous() && tensor.numel() == rows * columns &&
                      (columns == 0 || tensor.size(tensor.dim() - 1) == columns),
                  message);
}

void check_layers(const Tensor& x, const std::vector<Tensor>& weights, const std::vector<Tensor>& degrees) {
  check_floating(x);
  STD_TORCH_CHECK(x.dim() == 2, "z must be [B, D]");
  STD_TORCH_CHECK(!weights.empty() && weights.size() == degrees.size(), "weights must be of every layer, degrees of what each reads");
  STD_TORCH_CHECK(degrees[0].numel() == x.size(1), "degrees must begin with those of the D inputs");
  for (std::size_t l = 0; l < weights.size(); ++l) {
    const std::int64_t out = l + 1 < weights.size() ? degrees[l + 1].numel() : 2 * x.size(1);
    STD_TORCH_CHECK(weights[l].dim() == 2 && weights[l].size(0) == out, "weights must follow each other");
    check_matrix(weights[l], x, out, degrees[l].numel(), "weights must be contiguous, of the dtype of z, and follow each other");
  }
}

template <class T>
MadeArgs<T> args_of(const Tensor& x, const Numbers& feature, const std::vector<MadeLayer<T>>& layers, std::int64_t activation, std::int64_t form, double s_max) {
  MadeArgs<T> a{};
  a.rows = x.size(0), a.features = x.size(1), a.hidden = static_cast<std::int64_t>(layers.size()) - 1;
  a.layers = layers.data();
  a.activation = static_cast<Activation>(activation);
  a.form = static_cast<MadeForm>(form);
  a.s_max = static_cast<T>(s_max);
  a.feature = feature.data();
  return a;
}

template <class T, class Kernel>
void run(const MadeArgs<T>& a, Kernel kernel) {
  const std::int64_t items = (a.rows + kMadeRows - 1) / kMadeRows;
  torch::stable::parallel_for(0, items, 1, [&](std::int64_t begin, std::int64_t end) { kernel(a, begin, end); });
}

template <class T>
std::vector<MadeLayer<T>> views(const std::vector<Packed<T>>& layers) {
  std::vector<MadeLayer<T>> found;
  for (const Packed<T>& layer : layers) found.push_back(layer.view());
  return found;
}

template <class T, class Kernel>
void invert(const Tensor& z, const std::vector<Tensor>& weights, const std::vector<Tensor>& biases, const std::vector<Tensor>& degrees,
            const std::optional<Tensor>& context, std::int64_t activation, std::int64_t form, double s_max, const Tensor& x, const Tensor& log_det,
            Kernel kernel) {
  const std::int64_t D = z.size(1);
  const std::vector<Turn> turns = turns_of(degrees, D, false);
  const std::vector<Packed<T>> packed = forward_layers<T>(weights, biases, turns, D);
  const std::vector<MadeLayer<T>> layers = views(packed);
  MadeArgs<T> a = args_of<T>(z, turns[0].column, layers, activation, form, s_max);
  a.z = data<T>(z);
  if (context.has_value()) a.context = data<T>(*context), a.context_width = context->size(1);
  a.x = static_cast<T*>(x.mutable_data_ptr());
  a.log_det = static_cast<T*>(log_det.mutable_data_ptr());
  run(a, kernel);
}

std::tuple<Tensor, Tensor> made_invert(const Tensor& z_in, const std::vector<Tensor>& weights_in, const std::vector<Tensor>& biases_in,
                                       const std::vector<Tensor>& degrees, const std::optional<Tensor>& context_in, std::int64_t activation,
                                       std::int64_t form, double s_max) {
  const Tensor z = torch::stable::contiguous(z_in);
  std::vector<Tensor> weights, biases;
  for (const Tensor& weight : weights_in) weights.push_back(torch::stable::contiguous(weight));
  for (const Tensor& bias : biases_in) biases.push_back(torch::stable::contiguous(bias));
  check_layers(z, weights, degrees);
  STD_TORCH_CHECK(biases.size() == weights.size() && s_max > 0.0, "biases must be of every layer, and s_max positive");
  for (std::size_t l = 0; l < biases.size(); ++l) check_matrix(biases[l], z, 1, weights[l].size(0), "biases must fit the weights");
  std::optional<Tensor> context;
  if (context_in.has_value()) {
    context = torch::stable::contiguous(*context_in);
    const std::int64_t first = weights.size() > 1 ? weights[0].size(0) : 0;
    STD_TORCH_CHECK(context->dim() == 2, "context must be [B, H_1 + 2 D]");
    check_matrix(*context, z, z.size(0), first + 2 * z.size(1), "context must be [B, H_1 + 2 D]");
  }
  Tensor x = fresh_like(z), log_det = fresh_vector(z, z.size(0));
  if (z.numel() == 0) {
    torch::stable::zero_(log_det);
  } else if (z.scalar_type() == ScalarType::Double) {
    invert<double>(z, weights, biases, degrees, context, activation, form, s_max, x, log_det, MEDGEN_CALL(made_invert_double));
  } else {
    invert<float>(z, weights, biases, degrees, context, activation, form, s_max, x, log_det, MEDGEN_CALL(made_invert_float));
  }
  return {x, log_det};
}

struct Gradients {
  Tensor x, log_det, solution, parameters, z;
  std::vector<Tensor> before, deltas;
};

template <class T, class Kernel>
void backward(const Gradients& g, const std::vector<Tensor>& weights, const std::vector<Tensor>& degrees, std::int64_t activation, std::int64_t form,
              double s_max, Kernel kernel) {
  const std::int64_t D = g.solution.size(1);
  const std::vector<Turn> turns = turns_of(degrees, D, true);
  const std::vector<Packed<T>> packed = backward_layers<T>(weights, turns, D);
  const std::vector<MadeLayer<T>> layers = views(packed);
  MadeArgs<T> a = args_of<T>(g.solution, turns[0].column, layers, activation, form, s_max);
  a.grad_x = data<T>(g.x), a.grad_log_det = data<T>(g.log_det), a.solution = data<T>(g.solution), a.parameters = data<T>(g.parameters);
  std::vector<const T*> before;
  std::vector<T*> deltas;
  for (const Tensor& tensor : g.before) before.push_back(data<T>(tensor));
  for (const Tensor& tensor : g.deltas) deltas.push_back(static_cast<T*>(tensor.mutable_data_ptr()));
  a.before = before.data(), a.deltas = deltas.data(), a.grad_z = static_cast<T*>(g.z.mutable_data_ptr());
  run(a, kernel);
}

std::tuple<Tensor, std::vector<Tensor>> made_invert_backward(const Tensor& grad_x, const Tensor& grad_log_det, const Tensor& x,
                                                             const std::vector<Tensor>& hidden, const Tensor& parameters,
                                                             const std::vector<Tensor>& weights_in, const std::vector<Tensor>& degrees,
                                                             std::int64_t activation, std::int64_t form, double s_max) {
  Gradients g{torch::stable::contiguous(grad_x), torch::stable::contiguous(grad_log_det), torch::stable::contiguous(x),
              torch::stable::contiguous(parameters), fresh_like(x), {}, {}};
  std::vector<Tensor> weights;
  for (const Tensor& weight : weights_in) weights.push_back(torch::stable::contiguous(weight));
  check_layers(g.solution, weights, degrees);
  const std::int64_t rows = x.size(0), D = x.size(1);
  check_matrix(g.x, x, rows, D, "grad_x must have the shape of x");
  check_matrix(g.log_det, x, 1, rows, "grad_log_det must be [B]");
  check_matrix(g.parameters, x, rows, 2 * D, "parameters must be [B, 2 D]");
  STD_TORCH_CHECK(hidden.size() + 1 == weights.size(), "hidden must be of every hidden layer");
  for (std::size_t l = 0; l < hidden.size(); ++l) {
    g.before.push_back(torch::stable::contiguous(hidden[l]));
    check_matrix(g.before[l], x, rows, weights[l].size(0), "hidden must be [B, H]");
    g.deltas.push_back(fresh_like(g.before[l]));
  }
  g.deltas.push_back(fresh_like(g.parameters));
  if (x.numel() == 0) {
    for (Tensor& delta : g.deltas) torch::stable::zero_(delta);
  } else if (x.scalar_type() == ScalarType::Double) {
    backward<double>(g, weights, degrees, activation, form, s_max, MEDGEN_CALL(made_backward_double));
  } else {
    backward<float>(g, weights, degrees, activation, form, s_max, MEDGEN_CALL(made_backward_float));
  }
  return {g.z, g.deltas};
}

}  // namespace
}  // namespace medgen

STABLE_TORCH_LIBRARY_IMPL(medgen, CPU, m) {
  m.impl("made_invert", TORCH_BOX(&medgen::made_invert));
  m.impl("made_invert_backward", TORCH_BOX(&medgen::made_invert_backward));
}
