// medgen::parzen_* on the CPU.

#include "torch/parzen.h"

#include <tuple>

#include "core/logsumexp.h"
#include "core/parzen.h"

namespace medgen {
namespace {

using Bytes = std::unique_ptr<std::uint8_t[]>;

Bytes forms_of(const ParzenRows& queries) {
  Bytes forms(new std::uint8_t[static_cast<std::size_t>(queries.count)]);
  torch::stable::parallel_for(0, queries.count, parzen_grain(1, queries.dim), [&](std::int64_t begin, std::int64_t end) {
    MEDGEN_CALL(parzen_forms)(queries, forms.get(), begin, end);
  });
  return forms;
}

bool uses(const Bytes& forms, std::int64_t count, Form one, Form other) {
  return std::any_of(forms.get(), forms.get() + count, [&](std::uint8_t f) { return f == static_cast<int>(one) || f == static_cast<int>(other); });
}

struct Job {
  const ParzenRows &queries, &points;
  const double* log_weights;
  std::int64_t own;  // own_offset, or kNoOwn
};

// One pass over all points for the queries that `forms` leaves to do; false where a point or weight is not finite.
bool pass(const Job& job, const Bytes& forms, std::vector<double>& pairs) {
  const std::int64_t count = job.queries.count, n = job.points.count;
  const ParzenRows none{nullptr, false, 0, job.points.dim, job.points.centre, job.points.factor, job.points.dense};
  const bool wide_used = uses(forms, count, Form::kWide, Form::kWideDot), narrow_used = uses(forms, count, Form::kDot, Form::kDirect);
  bool poisoned = false;
  const Packed narrow(narrow_used || !wide_used ? job.points : none, job.log_weights, false, &poisoned);
  const Packed wide(wide_used ? job.points : none, job.log_weights, true, &poisoned);
  if (poisoned) return false;
  const std::int64_t chunks = (n + kParzenChunk - 1) / kParzenChunk;
  if (chunks <= 1 || count > 256) {
    torch::stable::parallel_for(0, count, parzen_grain(n, job.points.dim), [&](std::int64_t begin, std::int64_t end) {
      MEDGEN_CALL(parzen_sums)(job.queries, forms.get(), narrow.points, wide.points, begin, end, 0, n, job.own, pairs.data());
    });
    return true;
  }
  // too few queries to share out: share out the points
  const auto stride = static_cast<std::size_t>(2 * count);
  std::vector<double> parts(static_cast<std::size_t>(chunks) * stride);
  torch::stable::parallel_for(0, chunks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; ++c)
      MEDGEN_CALL(parzen_sums)(job.queries, forms.get(), narrow.points, wide.points, 0, count, c * kParzenChunk,
                               std::min(n, (c + 1) * kParzenChunk), job.own, parts.data() + static_cast<std::size_t>(c) * stride);
  });
  for (std::size_t i = 0; i < stride; i += 2) {
    if (forms[i / 2] == static_cast<int>(Form::kDone)) continue;
    LogSum merged;
    for (std::size_t c = 0; c < static_cast<std::size_t>(chunks); ++c) merged.merge({parts[c * stride + i], parts[c * stride + i + 1]});
    pairs[i] = merged.max, pairs[i + 1] = merged.sum;
  }
  return true;
}

// Leaves to do, in double, what float cannot resolve; false where there is nothing.
bool revise(const Job& job, Bytes& forms, const std::vector<double>& pairs) {
  bool any = false;
  for (std::size_t i = 0; i < static_cast<std::size_t>(job.queries.count); ++i) {
    const bool far = too_far(static_cast<Form>(forms[i]), LogSum{pairs[2 * i], pairs[2 * i + 1]}.value(), job.points.dim, job.points.count);
    forms[i] = static_cast<std::uint8_t>(far ? Form::kWide : Form::kDone);
    any = any || far;
  }
  return any;
}

// (max, sum) of every query.
std::vector<double> log_sums(const Job& job) {
  std::vector<double> pairs(static_cast<std::size_t>(2 * job.queries.count));
  Bytes forms = forms_of(job.queries);
  bool finite = pass(job, forms, pairs);
  if (finite && revise(job, forms, pairs)) finite = pass(job, forms, pairs);
  if (!finite) std::fill(pairs.begin(), pairs.end(), NAN);
  return pairs;
}

std::vector<double> log_sums(const Tensor& queries, const Tensor& points, const Tensor& log_weights, const Tensor& centre, const Tensor& factor,
                             bool leave_one_out, std::int64_t own_offset) {
  const ParzenRows q = parzen_rows(queries, centre, factor), x = parzen_rows(points, centre, factor);
  return log_sums({q, x, doubles(log_weights, x.count, "log_weights"), leave_one_out ? own_offset : kNoOwn});
}

Tensor log_sum_op(const Tensor& queries, const Tensor& points, const Tensor& log_weights, const Tensor& centre, const Tensor& factor,
                  bool leave_one_out, std::int64_t own_offset) {
  const std::vector<double> pairs = log_sums(queries, points, log_weights, centre, factor, leave_one_out, own_offset);
  Tensor out = torch::stable::new_empty(queries, {queries.size(0)}, ScalarType::Double);
  double* to = static_cast<double*>(out.mutable_data_ptr());
  for (std::size_t i = 0; 2 * i < pairs.size(); ++i) to[i] = LogSum{pairs[2 * i], pairs[2 * i + 1]}.value();
  return out;
}

std::tuple<Tensor, Tensor> partial_op(const Tensor& queries, const Tensor& points, const Tensor& log_weights, const Tensor& centre,
                                      const Tensor& factor, bool leave_one_out, std::int64_t own_offset) {
  const std::vector<double> pairs = log_sums(queries, points, log_weights, centre, factor, leave_one_out, own_offset);
  Tensor max = torch::stable::new_empty(queries, {queries.size(0)}, ScalarType::Double), sum = torch::stable::empty_like(max);
  double *to_max = static_cast<double*>(max.mutable_data_ptr()), *to_sum = static_cast<double*>(sum.mutable_data_ptr());
  for (std::size_t i = 0; 2 * i < pairs.size(); ++i) to_max[i] = pairs[2 * i], to_sum[i] = pairs[2 * i + 1];
  return {max, sum};
}

// Differences in float serve while log-densities stay small, since rounding of a score is relative to it.
bool wants_double(const ParzenRows& q, const double* value) {
  const Bytes forms = forms_of(q);
  bool wide = q.is_double || uses(forms, q.count, Form::kWide, Form::kInfinite);
  for (std::int64_t i = 0; i < q.count && !wide; ++i) wide = !(value[i] > -500.0);
  return wide;
}

// One side's sums over the other: side.gradient_i and total_i, from starts of both.
void weigh(const ParzenRows& side, const double* start, const ParzenRows& other, const double* other_start, const double* factor, bool wide,
           std::int64_t own, Tensor& gradient, Tensor& total) {
  bool poisoned = false;
  const Packed packed(other, other_start, wide, &poisoned);
  double *g = static_cast<double*>(gradient.mutable_data_ptr()), *t = static_cast<double*>(total.mutable_data_ptr());
  torch::stable::parallel_for(0, side.count, parzen_grain(other.count, 2 * side.dim), [&](std::int64_t begin, std::int64_t end) {
    MEDGEN_CALL(parzen_weigh)(side, start, packed.points, factor, own, begin, end, g, t);
    if (!poisoned) return;
    std::fill(g + begin * side.dim, g + end * side.dim, NAN);
    std::fill(t + begin, t + end, NAN);
  });
}

std::tuple<Tensor, Tensor, Tensor> weigh_op(const Tensor& grad, const Tensor& value, const Tensor& queries, const Tensor& points,
                                                const Tensor& log_weights, const Tensor& centre, const Tensor& factor, bool leave_one_out,
                                            std::int64_t own_offset, bool with_points) {
  const ParzenRows q = parzen_rows(queries, centre, factor), x = parzen_rows(points, centre, factor);
  const double *g = doubles(grad, q.count, "grad"), *v = doubles(value, q.count, "value"), *w = doubles(log_weights, x.count, "log_weights");
  Tensor of_queries = torch::stable::new_empty(queries, {q.count, q.dim}, ScalarType::Double);
  Tensor of_points = torch::stable::new_empty(points, {x.count, x.dim}, ScalarType::Double);
  Tensor of_weights = torch::stable::new_empty(points, {x.count}, ScalarType::Double), totals = torch::stable::new_empty(queries, {q.count}, ScalarType::Double);
  const bool wide = wants_double(q, v);
  // a query of density zero pulls at nothing
  std::vector<double> start(static_cast<std::size_t>(q.count));
  for (std::size_t i = 0; i < start.size(); ++i) start[i] = v[i] == -INFINITY ? -INFINITY : -v[i];
  weigh(q, start.data(), x, w, nullptr, wide, leave_one_out ? own_offset : kNoOwn, of_queries, totals);
  double* to = static_cast<double*>(of_queries.mutable_data_ptr());
  for (std::int64_t i = 0; i < q.count; ++i)
    for (std::int64_t k = 0; k < q.dim; ++k) to[i * q.dim + k] *= g[i];
  if (with_points) {
    weigh(x, w, q, start.data(), g, wide, leave_one_out ? -own_offset : kNoOwn, of_points, of_weights);
  } else {
    torch::stable::zero_(of_points);
    torch::stable::zero_(of_weights);
  }
  return {of_queries, of_points, of_weights};
}

std::tuple<Tensor, Tensor> nearest_op(const Tensor& queries, const Tensor& points, const Tensor& centre, const Tensor& factor, std::int64_t k) {
  const ParzenRows q = parzen_rows(queries, centre, factor), x = parzen_rows(points, centre, factor);
  STD_TORCH_CHECK(k >= 0 && k <= x.count, "k must be in [0, N]");
  Tensor distances = torch::stable::new_empty(queries, {q.count, k}, ScalarType::Double), numbers = torch::stable::new_empty(queries, {q.count, k}, ScalarType::Long);
  if (k == 0 || q.count == 0) return {distances, numbers};
  bool poisoned = false;
  const Packed packed(x, nullptr, false, &poisoned);
  std::vector<double> exact(static_cast<std::size_t>(x.count * x.dim)), norms(static_cast<std::size_t>(x.count));
  torch::stable::parallel_for(0, x.count, parzen_grain(1, x.dim), [&](std::int64_t begin, std::int64_t end) {
    MEDGEN_CALL(parzen_whiten)(x, exact.data(), norms.data(), begin, end);
  });
  const double reach = *std::max_element(norms.begin(), norms.end());
  double* d = static_cast<double*>(distances.mutable_data_ptr());
  auto* n = static_cast<std::int64_t*>(numbers.mutable_data_ptr());
  torch::stable::parallel_for(0, q.count, parzen_grain(x.count, x.dim), [&](std::int64_t begin, std::int64_t end) {
    MEDGEN_CALL(parzen_nearest)(q, packed.points, exact.data(), reach, k, begin, end, d, n);
  });
  return {distances, numbers};
}

}  // namespace
}  // namespace medgen

STABLE_TORCH_LIBRARY_IMPL(medgen, CPU, m) {
  m.impl("parzen_log_sum", TORCH_BOX(&medgen::log_sum_op));
  m.impl("parzen_partial", TORCH_BOX(&medgen::partial_op));
  m.impl("parzen_weigh", TORCH_BOX(&medgen::weigh_op));
  m.impl("parzen_nearest", TORCH_BOX(&medgen::nearest_op));
}
