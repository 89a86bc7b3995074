// medgen::parzen_draw and medgen::rejection_step on the CPU.

#include "cpu/rejection.h"

#include <tuple>

#include "core/parzen.h"
#include "torch/parzen.h"

namespace medgen {
namespace {

const double* cumulative_of(const Tensor& cumulative, std::int64_t points) {
  return cumulative.numel() == 0 ? nullptr : doubles(cumulative, points, "cumulative");
}

double log_normaliser(const ParzenRows& rows) {
  double sum = -0.5 * static_cast<double>(rows.dim) * std::log(2.0 * 3.14159265358979323846);
  for (std::int64_t k = 0; k < rows.dim; ++k) sum -= std::log(rows.factor[rows.dense ? k * rows.dim + k : k]);
  return sum;
}

Tensor draw_op(const Tensor& points, const Tensor& cumulative, const Tensor& factor, const Tensor& index, std::int64_t seed, std::int64_t stream) {
  const std::int64_t *numbers = sample_numbers(index), dim = points.size(1);
  Tensor centre = torch::stable::new_zeros(factor, {dim});
  const ParzenRows rows = parzen_rows(points, centre, factor);
  STD_TORCH_CHECK(rows.count > 0 || index.numel() == 0, "there are no points to draw from");
  Tensor out = torch::stable::new_empty(points, {index.numel(), dim});
  void* to = out.mutable_data_ptr();
  const ParzenSource source{rows, cumulative_of(cumulative, rows.count)};
  torch::stable::parallel_for(0, index.numel(), std::max<std::int64_t>(64, 16384 / dim), [&](std::int64_t begin, std::int64_t end) {
    MEDGEN_CALL(parzen_draw)(source, numbers, static_cast<std::uint64_t>(seed), static_cast<std::uint32_t>(stream), to, begin, end);
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> step_op(const Tensor& index, const Tensor& points, const Tensor& log_weights, const Tensor& cumulative,
                                                   const Tensor& centre, const Tensor& factor, const Tensor& mean, const Tensor& proposal_factor,
                                                   double log_k, std::int64_t seed, std::int64_t stream) {
  const ParzenRows target = parzen_rows(points, centre, factor), wider = parzen_rows(points, centre, proposal_factor);
  const double* weights = doubles(log_weights, target.count, "log_weights");
  const std::int64_t count = index.numel();
  Tensor accepted = torch::stable::new_empty(index, {count}, ScalarType::Bool), proposals = torch::stable::new_empty(points, {count, target.dim});
  Tensor log_p = torch::stable::new_empty(index, {count}, ScalarType::Double), log_q = torch::stable::empty_like(log_p);
  STD_TORCH_CHECK(target.count > 0 || count == 0, "there are no points");
  bool poisoned = false;
  const bool gaussian = mean.numel() != 0;
  const ParzenRows none{nullptr, false, 0, target.dim, target.centre, target.factor, target.dense};
  const Packed narrow(target.is_double ? none : target, weights, false, &poisoned), wide(target, weights, true, &poisoned);
  const Packed wider_narrow(gaussian || target.is_double ? none : wider, weights, false, &poisoned);
  const Packed wider_wide(gaussian ? none : wider, weights, true, &poisoned);
  const RejectionJob job{sample_numbers(index), static_cast<std::uint64_t>(seed), static_cast<std::uint32_t>(stream), log_k,
                         gaussian ? doubles(mean, target.dim, "mean") : nullptr, {wider, cumulative_of(cumulative, target.count)},
                         {target, narrow.points, wide.points, log_normaliser(target)},
                         {wider, wider_narrow.points, wider_wide.points, log_normaliser(wider)}, proposals.mutable_data_ptr(),
                         static_cast<bool*>(accepted.mutable_data_ptr()), static_cast<double*>(log_p.mutable_data_ptr()),
                         static_cast<double*>(log_q.mutable_data_ptr())};
  torch::stable::parallel_for(0, count, parzen_grain(target.count, target.dim), [&](std::int64_t begin, std::int64_t end) {
    MEDGEN_CALL(rejection_step)(job, begin, end);
    for (std::int64_t i = begin; poisoned && i < end; ++i) job.log_p[i] = NAN, job.accepted[i] = false;
  });
  return {accepted, proposals, log_p, log_q};
}

}  // namespace
}  // namespace medgen

STABLE_TORCH_LIBRARY_IMPL(medgen, CPU, m) {
  m.impl("parzen_draw", TORCH_BOX(&medgen::draw_op));
  m.impl("rejection_step", TORCH_BOX(&medgen::step_op));
}
