// medgen::parzen_nearest on CUDA: exact distances in double, one warp for four queries, sorted lists in the outputs.
//
// Eight warps share points, which stream through shared memory 32 at a time; a lane has one of them. Candidates enter a list in the order of
// the points, after equal distances, so that of equals the first ones stay. No float filter stands before the distances, as there is on the
// CPU: these devices do doubles at half the speed of floats.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cuda/parzen_whiten.cuh"

namespace medgen {
namespace {

constexpr int kLanes = 32, kMine = 4, kTogether = kThreads / kLanes * kMine, kDims = 16;
constexpr unsigned kWarp = 0xffffffffu;

// A query's list: `filled` of k keys, ascending, and the points' numbers. All lanes of the warp call.
struct List {
  double* keys;
  std::int64_t* numbers;
  std::int64_t filled;
  double bar;  // the last key

  __device__ bool wants(double key, std::int64_t k) const { return filled < k || key < bar; }

  __device__ void insert(double key, std::int64_t number, std::int64_t k, int lane) {
    std::int64_t at = 0, above = filled;  // after every key that is not larger
    while (at < above) {
      const std::int64_t middle = (at + above) / 2;
      if (keys[middle] <= key) at = middle + 1;
      else above = middle;
    }
    const std::int64_t last = filled < k ? filled : k - 1;
    for (std::int64_t end = last; end > at; end -= kLanes) {
      const std::int64_t from = end - 1 - lane;
      const bool moves = from >= at;
      const double moved_key = moves ? keys[from] : 0.0;
      const std::int64_t moved = moves ? numbers[from] : 0;
      __syncwarp();
      if (moves) keys[from + 1] = moved_key, numbers[from + 1] = moved;
      __syncwarp();
    }
    if (lane == 0) keys[at] = key, numbers[at] = number;
    __syncwarp();
    filled = filled < k ? filled + 1 : k;
    bar = keys[filled - 1];
  }
};

__device__ __forceinline__ double exact_square(const double* query, const double* point, std::int64_t dim) {
  double square = 0.0;
  for (std::int64_t j = 0; j < dim; ++j) {
    const double d = query[j] - point[j];
    square += d * d;
  }
  return square;
}

__global__ void __launch_bounds__(kThreads, 2) nearest(const double* queries, const double* points, std::int64_t m, std::int64_t n, std::int64_t dim,
                                                       std::int64_t k, double* distances, std::int64_t* numbers) {
  __shared__ double x[kDims][kLanes + 1], q[kTogether][kDims];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, warp = thread / kLanes;
  const std::int64_t block = static_cast<std::int64_t>(blockIdx.x) * kTogether, first = block + warp * kMine;
  List lists[kMine];
#pragma unroll
  for (int i = 0; i < kMine; ++i) {
    const std::int64_t row = first + i < m ? first + i : m - 1;
    lists[i] = {distances + row * k, numbers + row * k, 0, 0.0};
  }
  for (std::int64_t point = 0; point < n; point += kLanes) {
    double squares[kMine] = {};
    for (std::int64_t depth = 0; depth < dim; depth += kDims) {
      __syncthreads();
      for (int at = thread; at < kLanes * kDims; at += kThreads) {
        const std::int64_t row = point + at / kDims, column = depth + at % kDims;
        x[at % kDims][at / kDims] = row < n && column < dim ? points[row * dim + column] : 0.0;
      }
      for (int at = thread; at < kTogether * kDims; at += kThreads) {
        const std::int64_t row = block + at / kDims, column = depth + at % kDims;
        q[at / kDims][at % kDims] = row < m && column < dim ? queries[row * dim + column] : 0.0;
      }
      __syncthreads();
#pragma unroll
      for (int j = 0; j < kDims; ++j)
#pragma unroll
        for (int i = 0; i < kMine; ++i) {
          const double d = q[warp * kMine + i][j] - x[j][lane];
          squares[i] += d * d;
        }
    }
#pragma unroll
    for (int i = 0; i < kMine; ++i) {
      if (first + i >= m) continue;                                      // the same for the whole warp
      const double key = squares[i] < INFINITY ? squares[i] : INFINITY;  // NaN is as far as can be
      unsigned left = __ballot_sync(kWarp, point + lane < n && lists[i].wants(key, k));
      while (left != 0) {
        const int source = __ffs(static_cast<int>(left)) - 1;
        const double candidate = __shfl_sync(kWarp, key, source);
        if (lists[i].wants(candidate, k)) lists[i].insert(candidate, point + source, k, lane);
        left &= left - 1;
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kMine; ++i)
    for (std::int64_t r = lane; first + i < m && r < k; r += kLanes) {
      double* to = distances + (first + i) * k + r;
      // an infinite key may stand for NaN
      *to = sqrt(*to < INFINITY ? *to : exact_square(queries + (first + i) * dim, points + numbers[(first + i) * k + r] * dim, dim));
    }
}

std::tuple<Tensor, Tensor> nearest_op(const Tensor& queries, const Tensor& points, const Tensor& centre, const Tensor& factor, std::int64_t k) {
  const Rows q = rows_of(queries, centre, factor), x = rows_of(points, centre, factor);
  STD_TORCH_CHECK(k >= 0 && k <= x.count && q.dim == x.dim, "k must be in [0, N], and queries and points of one dimension");
  Tensor distances = torch::stable::new_empty(queries, {q.count, k}, ScalarType::Double);
  Tensor numbers = torch::stable::new_empty(queries, {q.count, k}, ScalarType::Long);
  if (k == 0 || q.count == 0) return {distances, numbers};
  const torch::stable::accelerator::DeviceGuard guard(queries.get_device_index());
  const cudaStream_t stream = current_stream(queries);
  const White wq(queries, q, 1.0, nullptr, stream), wx(points, x, 1.0, nullptr, stream);
  nearest<<<blocks(q.count, kTogether), kThreads, 0, stream>>>(data<double>(wq.wide), data<double>(wx.wide), q.count, x.count, q.dim, k,
                                                               data<double>(distances), data<std::int64_t>(numbers));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {distances, numbers};
}

}  // namespace
}  // namespace medgen

STABLE_TORCH_LIBRARY_IMPL(medgen, CUDA, m) { m.impl("parzen_nearest", TORCH_BOX(&medgen::nearest_op)); }
