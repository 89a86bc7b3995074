// medgen::parzen_log_sum and parzen_partial on CUDA; the other Parzen ops run their reference there.
//
// A block holds 64 queries and streams points through shared memory, 64 at a time; a thread has 4 x 4 scores in registers and its own
// running log-sums, which are merged in a fixed order. Forms, passes and merges are those of the CPU (core/parzen.h); which form a query takes
// is decided on the device, so that the host never waits.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cfloat>
#include <tuple>

#include "core/logsumexp.h"
#include "core/parzen.h"
#include "cuda/launch.cuh"

namespace medgen {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int kTile = 64, kDepth = 16, kSide = 16, kEach = kTile / kSide;
constexpr std::int64_t kChunk = 12288, kNoOwn = INT64_MIN;

template <class T>
__device__ constexpr T lowest() {
  return sizeof(T) == 4 ? static_cast<T>(-FLT_MAX) : static_cast<T>(-DBL_MAX);
}

struct Rows {
  const void* data;
  bool is_double;
  std::int64_t count, dim;
  const double *centre, *factor;
  bool dense;
};

// One row per thread: z = L^-1 (row - centre) in double and in score units; narrow may be null. squares: |q|^2 of the rounded coordinates.
__global__ void __launch_bounds__(kThreads) whiten(Rows rows, double* wide, float* narrow, double* wide_squares, double* narrow_squares,
                                                   std::uint8_t* forms) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= rows.count) return;
  double* z = wide + i * rows.dim;
  double norm = 0.0, wide_square = 0.0, narrow_square = 0.0;
  for (std::int64_t k = 0; k < rows.dim; ++k) {
    const std::int64_t at = i * rows.dim + k;
    double value = (rows.is_double ? static_cast<const double*>(rows.data)[at] : static_cast<double>(static_cast<const float*>(rows.data)[at])) -
                   rows.centre[k];
    if (rows.dense)
      for (std::int64_t j = 0; j < k; ++j) value -= rows.factor[k * rows.dim + j] * z[j];
    value /= rows.factor[rows.dense ? k * rows.dim + k : k];
    z[k] = value;
    norm += value * value;
  }
  for (std::int64_t k = 0; k < rows.dim; ++k) {
    const double unit = z[k] * kUnit;
    z[k] = unit;
    wide_square += unit * unit;
    if (narrow == nullptr) continue;
    const float rounded = static_cast<float>(unit);
    narrow[i * rows.dim + k] = rounded;
    narrow_square += static_cast<double>(rounded) * static_cast<double>(rounded);
  }
  wide_squares[i] = wide_square;
  if (narrow != nullptr) narrow_squares[i] = narrow_square;
  if (forms != nullptr) forms[i] = static_cast<std::uint8_t>(form_of(norm, rows.dim, rows.is_double));
}

// Whether any point or weight is not finite.
__global__ void __launch_bounds__(kThreads) poison(const double* squares, const double* log_weights, std::int64_t count, int* poisoned) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count && (!(squares[i] < INFINITY) || !(log_weights[i] < INFINITY))) *poisoned = 1;  // every writer writes the same
}

template <class T>
struct Scan {
  const T *queries, *points;                          // [M, D] and [N, D] in score units
  const double *query_squares, *point_squares, *log_weights;
  const std::uint8_t* forms;
  std::int64_t m, n, dim, own_offset;
  double* parts;  // [chunks, M, 2]
};

// A 64 x 16 panel of rows, transposed; rows beyond `count` are zeros.
template <class T>
__device__ __forceinline__ void load_panel(T (&to)[kDepth][kTile + 1], const T* rows, std::int64_t first, std::int64_t count, std::int64_t dim,
                                           std::int64_t depth) {
#pragma unroll
  for (int e = 0; e < kEach; ++e) {
    const int at = static_cast<int>(threadIdx.x) + e * kThreads, r = at / kDepth, k = at % kDepth;
    const bool there = first + r < count && depth + k < dim;
    to[k][r] = there ? rows[(first + r) * dim + depth + k] : T(0);
  }
}

// Adds 4 scores of one query to a running (top, sum): rescaled only where a score is far above `top`.
template <class T>
__device__ __forceinline__ void add_scores(const T (&s)[kEach], T& top, T& sum) {
  T best = s[0];
#pragma unroll
  for (int j = 1; j < kEach; ++j) best = s[j] > best ? s[j] : best;
  if (best - top > T(60)) {
    const T next = ceil(best);
    sum = top > lowest<T>() ? sum * exp2(top - next) : T(0);
    top = next;
  }
#pragma unroll
  for (int j = 0; j < kEach; ++j) sum += s[j] > lowest<T>() ? exp2(s[j] - top) : T(0);
}

// The scores of one tile: products, or minus squared differences, summed over dimensions.
template <class T, bool kProduct>
__device__ __forceinline__ void tile_scores(const Scan<T>& job, std::int64_t first, std::int64_t point, T (&q)[kDepth][kTile + 1],
                                            T (&x)[kDepth][kTile + 1], T (&s)[kEach][kEach]) {
  const int row = static_cast<int>(threadIdx.x) / kSide, column = static_cast<int>(threadIdx.x) % kSide;
#pragma unroll
  for (int i = 0; i < kEach; ++i)
#pragma unroll
    for (int j = 0; j < kEach; ++j) s[i][j] = T(0);
  for (std::int64_t depth = 0; depth < job.dim; depth += kDepth) {
    __syncthreads();
    load_panel(q, job.queries, first, job.m, job.dim, depth);
    load_panel(x, job.points, point, job.n, job.dim, depth);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      T a[kEach], b[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) a[i] = q[k][row + i * kSide], b[i] = x[k][column + i * kSide];
#pragma unroll
      for (int i = 0; i < kEach; ++i)
#pragma unroll
        for (int j = 0; j < kEach; ++j) {
          const T d = kProduct ? a[i] : a[i] - b[j];
          s[i][j] += kProduct ? (d + d) * b[j] : -(d * d);
        }
    }
  }
}

template <class T, bool kProduct>
__global__ void __launch_bounds__(kThreads, 2) scan(Scan<T> job, int form, bool split) {
  __shared__ T q[kDepth][kTile + 1], x[kDepth][kTile + 1];
  __shared__ double tops[kTile][kSide], sums[kTile][kSide];
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const int thread = static_cast<int>(threadIdx.x), row = thread / kSide, column = thread % kSide;
  const bool mine = thread < kTile && first + thread < job.m && job.forms[first + thread] == form;
  if (!__syncthreads_or(mine)) return;
  LogSum merged;
  const std::int64_t start = split ? static_cast<std::int64_t>(blockIdx.y) * kChunk : 0, stop = split ? min(job.n, start + kChunk) : job.n;
  for (std::int64_t chunk = start; chunk < stop; chunk += kChunk) {
    T top[kEach], sum[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) top[i] = lowest<T>(), sum[i] = T(0);
    for (std::int64_t point = chunk; point < min(stop, chunk + kChunk); point += kTile) {
      T s[kEach][kEach];
      tile_scores<T, kProduct>(job, first, point, q, x, s);
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        const std::int64_t at = point + column + j * kSide;
        const double weight = at < job.n ? job.log_weights[at] * kLog2e - (kProduct ? job.point_squares[at] : 0.0) : -INFINITY;
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
          const bool own = job.own_offset != kNoOwn && first + row + i * kSide + job.own_offset == at;
          s[i][j] = own || weight == -INFINITY ? lowest<T>() : s[i][j] + static_cast<T>(weight);
        }
      }
#pragma unroll
      for (int i = 0; i < kEach; ++i) add_scores(s[i], top[i], sum[i]);
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      tops[row + i * kSide][column] = top[i] > lowest<T>() ? static_cast<double>(top[i]) * kLn2 : -INFINITY;
      sums[row + i * kSide][column] = static_cast<double>(sum[i]);
    }
    __syncthreads();
    if (mine) {
      LogSum part;
      for (int c = 0; c < kSide; ++c) part.merge({tops[thread][c], sums[thread][c]});
      if (kProduct) part.max -= job.query_squares[first + thread] * kLn2;
      merged.merge(part);
    }
    __syncthreads();
  }
  if (mine) {
    double* pair = job.parts + 2 * ((split ? static_cast<std::int64_t>(blockIdx.y) * job.m : 0) + first + thread);
    pair[0] = merged.max, pair[1] = merged.sum;
  }
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

unsigned blocks(std::int64_t work, int each) { return static_cast<unsigned>((work + each - 1) / each); }

template <class T>
T* data(Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

Rows rows_of(const Tensor& rows, const Tensor& centre, const Tensor& factor) {
  const ScalarType type = rows.scalar_type();
  STD_TORCH_CHECK((type == ScalarType::Float || type == ScalarType::Double) && rows.dim() == 2 && rows.is_contiguous() && centre.is_contiguous() &&
                      factor.is_contiguous() && centre.scalar_type() == ScalarType::Double && factor.scalar_type() == ScalarType::Double,
                  "queries and points must be contiguous float32 or float64, centre and factor contiguous float64");
  return {rows.const_data_ptr(), type == ScalarType::Double, rows.size(0), rows.size(1), static_cast<const double*>(centre.const_data_ptr()),
          static_cast<const double*>(factor.const_data_ptr()), factor.dim() == 2};
}

// Whitened rows of either width, with their squares.
struct White {
  White(const Tensor& like, const Rows& rows, std::uint8_t* forms, cudaStream_t stream)
      : wide(torch::stable::new_empty(like, {rows.count, rows.dim}, ScalarType::Double)),
        narrow(torch::stable::new_empty(like, {rows.is_double ? 0 : rows.count, rows.dim}, ScalarType::Float)),
        squares(torch::stable::new_empty(like, {2, rows.count}, ScalarType::Double)) {
    if (rows.count == 0) return;
    double* both = data<double>(squares);
    whiten<<<blocks(rows.count, kThreads), kThreads, 0, stream>>>(rows, data<double>(wide), rows.is_double ? nullptr : data<float>(narrow), both,
                                                                  both + rows.count, forms);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
  Tensor wide, narrow, squares;
};

template <class T>
void scan_both(White& q, White& x, const double* log_weights, const std::uint8_t* forms, std::int64_t own, double* parts, bool split,
               std::int64_t chunks, cudaStream_t stream) {
  constexpr bool kWideType = sizeof(T) == 8;
  const std::int64_t m = q.wide.size(0), n = x.wide.size(0);
  const double *qs = data<double>(q.squares) + (kWideType ? 0 : m), *xs = data<double>(x.squares) + (kWideType ? 0 : n);
  const Scan<T> job{data<T>(kWideType ? q.wide : q.narrow), data<T>(kWideType ? x.wide : x.narrow), qs, xs, log_weights, forms, m, n, q.wide.size(1), own,
                    parts};
  const dim3 grid(blocks(m, kTile), split ? static_cast<unsigned>(chunks) : 1u);
  scan<T, true><<<grid, kThreads, 0, stream>>>(job, static_cast<int>(kWideType ? Form::kWideDot : Form::kDot), split);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  scan<T, false><<<grid, kThreads, 0, stream>>>(job, static_cast<int>(kWideType ? Form::kWide : Form::kDirect), split);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

// Either value [M], or max and sum.
void log_sums(const Tensor& queries, const Tensor& points, const Tensor& log_weights, const Tensor& centre, const Tensor& factor, bool leave_one_out,
              std::int64_t own_offset, double* max, double* sum, double* value) {
  const Rows q = rows_of(queries, centre, factor), x = rows_of(points, centre, factor);
  if (q.count == 0) return;
  STD_TORCH_CHECK(log_weights.is_contiguous() && log_weights.numel() == x.count, "log_weights must be contiguous float64 [N]");
  const torch::stable::accelerator::DeviceGuard guard(queries.get_device_index());
  const cudaStream_t stream = current_stream(queries);
  const std::int64_t all = (x.count + kChunk - 1) / kChunk, own = leave_one_out ? own_offset : kNoOwn;
  const bool split = all > 1 && all <= 65535 && q.count <= 16384;  // few queries: one block per pass; merged in order either way
  const std::int64_t chunks = split ? all : 1;
  Tensor forms = torch::stable::new_empty(queries, {q.count}, ScalarType::Byte), flag = torch::stable::new_zeros(queries, {1}, ScalarType::Int);
  Tensor parts = torch::stable::new_empty(queries, {chunks, q.count, 2}, ScalarType::Double);
  Tensor pairs = torch::stable::new_empty(queries, {q.count, 2}, ScalarType::Double);
  auto* f = data<std::uint8_t>(forms);
  double* p = data<double>(parts);
  White wq(queries, q, f, stream), wx(points, x, nullptr, stream);
  const auto* w = static_cast<const double*>(log_weights.const_data_ptr());
  if (x.count > 0) poison<<<blocks(x.count, kThreads), kThreads, 0, stream>>>(data<double>(wx.squares), w, x.count, data<int>(flag));
  const auto merged = [&](Form low, Form high) {
    merge<<<blocks(q.count, kThreads), kThreads, 0, stream>>>(p, chunks, q.count, x.count, q.dim, static_cast<int>(low), static_cast<int>(high), f,
                                                              data<double>(pairs));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  };
  if (!q.is_double) {
    scan_both<float>(wq, wx, w, f, own, p, split, chunks, stream);
    merged(Form::kDot, Form::kDirect);
  }
  scan_both<double>(wq, wx, w, f, own, p, split, chunks, stream);
  merged(Form::kWideDot, Form::kWide);
  finish<<<blocks(q.count, kThreads), kThreads, 0, stream>>>(data<double>(pairs), f, data<int>(flag), q.count, max, sum, value);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

Tensor log_sum_op(const Tensor& queries, const Tensor& points, const Tensor& log_weights, const Tensor& centre, const Tensor& factor,
                  bool leave_one_out, std::int64_t own_offset) {
  Tensor value = torch::stable::new_empty(queries, {queries.size(0)}, ScalarType::Double);
  log_sums(queries, points, log_weights, centre, factor, leave_one_out, own_offset, nullptr, nullptr, data<double>(value));
  return value;
}

std::tuple<Tensor, Tensor> partial_op(const Tensor& queries, const Tensor& points, const Tensor& log_weights, const Tensor& centre,
                                      const Tensor& factor, bool leave_one_out, std::int64_t own_offset) {
  Tensor max = torch::stable::new_empty(queries, {queries.size(0)}, ScalarType::Double), sum = torch::stable::empty_like(max);
  log_sums(queries, points, log_weights, centre, factor, leave_one_out, own_offset, data<double>(max), data<double>(sum), nullptr);
  return {max, sum};
}

}  // namespace
}  // namespace medgen

STABLE_TORCH_LIBRARY_IMPL(medgen, CUDA, m) {
  m.impl("parzen_log_sum", TORCH_BOX(&medgen::log_sum_op));
  m.impl("parzen_partial", TORCH_BOX(&medgen::partial_op));
}
