// medgen::parzen_log_sum and parzen_partial on CUDA. Which form a query takes is decided on the device, so that the host never waits.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "core/logsumexp.h"
#include "cuda/parzen_scan.cuh"
#include "cuda/parzen_split.cuh"
#include "cuda/parzen_whiten.cuh"

namespace medgen {
namespace {

constexpr std::int64_t kSlab = 1 << 20;  // queries whitened together
constexpr std::int64_t kFew = 16384;     // queries that leave most of a device idle, unless passes are shared out too

// Whether any point or weight is not finite.
__global__ void __launch_bounds__(kThreads) poison(const double* squares, const double* log_weights, std::int64_t count, int* poisoned) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count && (!(squares[i] < INFINITY) || !(log_weights[i] < INFINITY))) *poisoned = 1;  // every writer writes the same
}

// Merges the passes of queries of forms [low, high] in order; what float cannot resolve is given to double.
__global__ void __launch_bounds__(kThreads) merge(const double* parts, std::int64_t chunks, std::int64_t m, std::int64_t n, std::int64_t dim, int low,
                                                  int high, std::uint8_t* forms, double* pairs) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= m || forms[i] < low || forms[i] > high) return;
  LogSum merged;
  for (std::int64_t c = 0; c < chunks; ++c) merged.merge({parts[2 * (c * m + i)], parts[2 * (c * m + i) + 1]});
  pairs[2 * i] = merged.max, pairs[2 * i + 1] = merged.sum;
  forms[i] = static_cast<std::uint8_t>(too_far(static_cast<Form>(forms[i]), merged.value(), dim, n) ? Form::kWide : Form::kDone);
}

__global__ void __launch_bounds__(kThreads) finish(const double* pairs, const std::uint8_t* forms, const int* poisoned, std::int64_t m, double* max,
                                                   double* sum, double* value) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= m) return;
  LogSum pair{pairs[2 * i], pairs[2 * i + 1]};
  if (forms[i] == static_cast<int>(Form::kInfinite)) pair = LogSum{};
  if (forms[i] == static_cast<int>(Form::kNan) || *poisoned != 0) pair = LogSum{NAN, NAN};
  if (value != nullptr) {
    value[i] = pair.value();
  } else {
    max[i] = pair.max, sum[i] = pair.sum;
  }
}

// Rows split for the tensor cores; empty where they are not used.
struct Halves {
  Halves(const Tensor& like, const White& rows, const double* log_weights, const std::uint8_t* forms, bool used, cudaStream_t stream)
      : count(rows.wide.size(0)),
        dim(rows.wide.size(1)),
        steps(static_cast<int>((dim + kSplitDepth - 1) / kSplitDepth)),
        padded(used ? (count + kEachOf(forms) - 1) / kEachOf(forms) * kEachOf(forms) : 0),
        packed(torch::stable::new_empty(like, {padded * steps * 16}, ScalarType::Int)),
        squares(torch::stable::new_empty(like, {forms == nullptr ? 0 : padded}, ScalarType::Double)),
        starts(torch::stable::new_empty(like, {forms == nullptr ? padded : 0}, ScalarType::Float)) {
    if (padded == 0) return;
    const bool queries = forms != nullptr;
    const double scale = queries ? 2.0 : 1.0;
    const auto* wide = data<double>(rows.wide);
    split_squares<<<blocks(padded, kThreads), kThreads, 0, stream>>>(wide, log_weights, count, padded, dim, scale,
                                                                     queries ? data<double>(squares) : nullptr, queries ? nullptr : data<float>(starts));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
    split_pack<<<blocks(padded * steps * 4, kThreads), kThreads, 0, stream>>>(wide, data<double>(rows.squares), forms, count, padded, dim, steps,
                                                                              scale, data<uint4>(packed));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
  static constexpr std::int64_t kEachOf(const std::uint8_t* forms) { return forms == nullptr ? kSplitPadding : kSplitRows; }

  std::int64_t count, dim;
  int steps;
  std::int64_t padded;
  Tensor packed, squares, starts;
};

// The points of a call, in every shape that queries may ask for.
struct Points {
  Points(const Tensor& points, const Rows& rows, const double* log_weights, cudaStream_t stream)
      : white(points, rows, kUnit, nullptr, stream),
        splits(!rows.is_double && rows.dim <= kSplitMost),
        halves(points, white, log_weights, nullptr, splits, stream),
        flag(torch::stable::new_zeros(points, {1}, ScalarType::Int)),
        log_weights(log_weights) {
    if (rows.count == 0) return;
    poison<<<blocks(rows.count, kThreads), kThreads, 0, stream>>>(data<double>(white.squares), log_weights, rows.count, data<int>(flag));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
  White white;
  bool splits;
  Halves halves;
  Tensor flag;
  const double* log_weights;
};

// One slab of queries.
struct Pass {
  const White& queries;
  const Halves& halves;
  const Points& points;
  const std::uint8_t* forms;
  std::int64_t own;
  double* parts;
  bool split;
  std::int64_t chunks;
  cudaStream_t stream;

  dim3 grid(int rows) const { return {blocks(queries.wide.size(0), rows), split ? static_cast<unsigned>(chunks) : 1u, 1u}; }

  template <class T, bool kProduct>
  void ordinary(Form form) const {
    constexpr bool kWideType = sizeof(T) == 8;
    const White& x = points.white;
    const std::int64_t m = queries.wide.size(0), n = x.wide.size(0);
    const double *qs = data<double>(queries.squares) + (kWideType ? 0 : m), *xs = data<double>(x.squares) + (kWideType ? 0 : n);
    const Scan<T> job{data<T>(kWideType ? queries.wide : queries.narrow), data<T>(kWideType ? x.wide : x.narrow), qs, xs, points.log_weights, forms, m, n,
                      queries.wide.size(1), own, parts};
    scan<T, kProduct><<<grid(kTile), kThreads, 0, stream>>>(job, static_cast<int>(form), split);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

  template <int kSteps>
  void tensor() const {
    const SplitScan job{data<uint4>(halves.packed), data<uint4>(points.halves.packed), data<float>(points.halves.starts),
                        data<double>(halves.squares), forms, queries.wide.size(0), points.white.wide.size(0), own, parts};
    scan_split<kSteps><<<grid(kSplitRows), kThreads, 0, stream>>>(job, split);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

  void products() const {
    if (!points.splits) return ordinary<float, true>(Form::kDot);
    switch (halves.steps) {
      case 1: return tensor<1>();
      case 2: return tensor<2>();
      case 3: return tensor<3>();
      default: return tensor<4>();
    }
  }
};

// Queries [first, first + rows.count) of a call.
void slab(const Tensor& like, const Rows& rows, const Points& points, std::int64_t own, double* max, double* sum, double* value, cudaStream_t stream) {
  const std::int64_t m = rows.count, n = points.white.wide.size(0), all = (n + kChunk - 1) / kChunk;
  const bool split = all > 1 && all <= 65535 && m <= kFew;  // one block per pass; merged in order either way
  const std::int64_t chunks = split ? all : 1;
  Tensor forms = torch::stable::new_empty(like, {m}, ScalarType::Byte);
  Tensor parts = torch::stable::new_empty(like, {chunks, m, 2}, ScalarType::Double), pairs = torch::stable::new_empty(like, {m, 2}, ScalarType::Double);
  auto* f = data<std::uint8_t>(forms);
  const White white(like, rows, kUnit, f, stream);
  const Halves halves(like, white, nullptr, f, points.splits, stream);
  const Pass pass{white, halves, points, f, own, data<double>(parts), split, chunks, stream};
  const auto merged = [&](Form low, Form high) {
    merge<<<blocks(m, kThreads), kThreads, 0, stream>>>(data<double>(parts), chunks, m, n, rows.dim, static_cast<int>(low), static_cast<int>(high), f,
                                                        data<double>(pairs));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  };
  if (!rows.is_double) {
    pass.products();
    pass.ordinary<float, false>(Form::kDirect);
    merged(Form::kDot, Form::kDirect);
  }
  pass.ordinary<double, true>(Form::kWideDot);
  pass.ordinary<double, false>(Form::kWide);
  merged(Form::kWideDot, Form::kWide);
  finish<<<blocks(m, kThreads), kThreads, 0, stream>>>(data<double>(pairs), f, data<int>(points.flag), m, max, sum, value);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace

void parzen_log_sums(const Tensor& queries, const Tensor& points, const Tensor& log_weights, const Tensor& centre, const Tensor& factor,
                     bool leave_one_out, std::int64_t own_offset, double* max, double* sum, double* value) {
  const Rows q = rows_of(queries, centre, factor), x = rows_of(points, centre, factor);
  STD_TORCH_CHECK(q.dim == x.dim && q.is_double == x.is_double, "queries and points must have one type and one dimension");
  const auto* weights = values<double>(log_weights, x.count, ScalarType::Double, "log_weights must be contiguous float64 [N]");
  if (q.count == 0) return;
  const torch::stable::accelerator::DeviceGuard guard(queries.get_device_index());
  const cudaStream_t stream = current_stream(queries);
  const Points packed(points, x, weights, stream);
  for (std::int64_t first = 0; first < q.count; first += kSlab) {
    Rows rows = q;
    rows.count = std::min(kSlab, q.count - first);
    rows.data = static_cast<const char*>(q.data) + first * q.dim * (q.is_double ? 8 : 4);
    slab(queries, rows, packed, leave_one_out ? own_offset + first : kNoOwn, max == nullptr ? nullptr : max + first,
         sum == nullptr ? nullptr : sum + first, value == nullptr ? nullptr : value + first, stream);
  }
}

namespace {

Tensor log_sum_op(const Tensor& queries, const Tensor& points, const Tensor& log_weights, const Tensor& centre, const Tensor& factor,
                  bool leave_one_out, std::int64_t own_offset) {
  Tensor value = torch::stable::new_empty(queries, {queries.size(0)}, ScalarType::Double);
  parzen_log_sums(queries, points, log_weights, centre, factor, leave_one_out, own_offset, nullptr, nullptr, data<double>(value));
  return value;
}

std::tuple<Tensor, Tensor> partial_op(const Tensor& queries, const Tensor& points, const Tensor& log_weights, const Tensor& centre,
                                      const Tensor& factor, bool leave_one_out, std::int64_t own_offset) {
  Tensor max = torch::stable::new_empty(queries, {queries.size(0)}, ScalarType::Double), sum = torch::stable::empty_like(max);
  parzen_log_sums(queries, points, log_weights, centre, factor, leave_one_out, own_offset, data<double>(max), data<double>(sum), nullptr);
  return {max, sum};
}

}  // namespace
}  // namespace medgen

STABLE_TORCH_LIBRARY_IMPL(medgen, CUDA, m) {
  m.impl("parzen_log_sum", TORCH_BOX(&medgen::log_sum_op));
  m.impl("parzen_partial", TORCH_BOX(&medgen::partial_op));
}
