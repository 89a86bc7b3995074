// Log-sums of the product form on the tensor cores, in up to kSplitMost dimensions; core/split.h has the arithmetic.
//
// A warp holds 32 queries in registers as two row tiles of 16, split into halves; the 8 warps of a block share points, which stream through
// shared memory in tiles of 8, ready to be read by the lanes that multiply them. A lane sees two points of a tile for four queries: each has
// its own reference power and sum, merged over the four lanes of a query and over passes in a fixed order, so that what a query gets does
// not depend on the others. A reference rises, as on the CPU, when a term exceeds 2^60.
#pragma once

#include "core/logsumexp.h"
#include "core/split.h"
#include "cuda/launch.cuh"
#include "cuda/parzen_scan.cuh"

namespace medgen {
namespace {

constexpr int kRowTiles = 2, kWarpRows = 16 * kRowTiles, kSplitRows = kThreads / 32 * kWarpRows, kColumns = 8, kSplitPadding = 128;
constexpr unsigned kWarp = 0xffffffffu;
constexpr float kFirstTop = -0x1p120f, kMostTerm = 0x1p60f;

__host__ __device__ constexpr int stage_points(int steps) { return steps <= 2 ? 128 : 64; }
static_assert(kChunk % kSplitPadding == 0 && kSplitPadding % stage_points(1) == 0 && kSplitPadding % stage_points(4) == 0);

// One row per thread: the squares of the split coordinates and, of points, where scores start. Rows in [count, padded) have no weight.
__global__ void __launch_bounds__(kThreads) split_squares(const double* wide, const double* log_weights, std::int64_t count, std::int64_t padded,
                                                          std::int64_t dim, double scale, double* squares, float* starts) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= padded) return;
  double square = 0.0, whole = 0.0;
  for (std::int64_t k = 0; i < count && k < dim; ++k) {
    const double value = wide[i * dim + k], kept = split(scale * value).value() / scale;
    square += kept * kept, whole += value * value;
  }
  if (squares != nullptr) squares[i] = square;
  if (starts != nullptr) starts[i] = i < count ? split_start(log_weights[i], whole <= kSplitReach ? square : whole) : -INFINITY;
}

// One thread per row, step and quarter of a step: 4 high and 4 low parts of scale * row, where a lane finds them, [rows / 8][steps][32]. What is
// padding, too far, or of another form is zero.
__global__ void __launch_bounds__(kThreads) split_pack(const double* wide, const double* wide_squares, const std::uint8_t* forms, std::int64_t count,
                                                       std::int64_t padded, std::int64_t dim, int steps, double scale, uint4* out) {
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= padded * steps * 4) return;
  const int lane = static_cast<int>(at % 32), step = static_cast<int>(at / 32 % steps);
  const std::int64_t row = at / 32 / steps * kColumns + lane / 4, first = step * kSplitDepth + lane % 4 * 4;
  const bool there = row < count && wide_squares[row] <= kSplitReach && (forms == nullptr || forms[row] == static_cast<int>(Form::kDot));
  std::uint32_t hi[4], lo[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const Split part = there && first + k < dim ? split(scale * wide[row * dim + first + k]) : Split{0, 0};
    hi[k] = part.hi, lo[k] = part.lo;
  }
  out[at] = {hi[0] | hi[1] << 16, hi[2] | hi[3] << 16, lo[0] | lo[1] << 16, lo[2] | lo[3] << 16};
}

struct SplitScan {
  const uint4 *queries, *points;  // queries doubled
  const float* starts;
  const double* squares;  // of the queries
  const std::uint8_t* forms;
  std::int64_t m, n, own_offset;
  double* parts;  // [chunks, M, 2]
};

// sums += rows . columns, 16 x 16 by 16 x 8. The order of the dimensions is that of split_pack, the same for both.
__device__ __forceinline__ void multiply(float (&sums)[4], const std::uint32_t (&rows)[4], std::uint32_t column0, std::uint32_t column1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(rows[0]), "r"(rows[1]), "r"(rows[2]), "r"(rows[3]), "r"(column0), "r"(column1));
}

__device__ __forceinline__ float power(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ void copy16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(shared))), "l"(global) : "memory");
}
__device__ __forceinline__ void copies_are_on_the_way() { asm volatile("cp.async.commit_group;" ::: "memory"); }
__device__ __forceinline__ void copies_are_here() { asm volatile("cp.async.wait_all;" ::: "memory"); }

template <int kSteps>
struct SplitRows {
  std::uint32_t hi[kRowTiles][kSteps][4], lo[kRowTiles][kSteps][4];

  __device__ __forceinline__ void load(const uint4* queries, std::int64_t first, int lane) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        const std::int64_t tile = first / kColumns + 2 * m;  // of rows 0 to 7; rows 8 to 15 are the next
        const uint4 upper = queries[(tile * kSteps + k) * 32 + lane], lower = queries[((tile + 1) * kSteps + k) * 32 + lane];
        hi[m][k][0] = upper.x, hi[m][k][1] = lower.x, hi[m][k][2] = upper.y, hi[m][k][3] = lower.y;
        lo[m][k][0] = upper.z, lo[m][k][1] = lower.z, lo[m][k][2] = upper.w, lo[m][k][3] = lower.w;
      }
  }

  // Scores of 32 queries and 8 points. Each step's high products start from zero and are added on the ordinary cores, which round to nearest:
  // the tensor cores cut every term at the last bit of the largest.
  __device__ __forceinline__ void scores(float (&s)[kRowTiles][4], const uint4* tile, float2 start) const {
    uint4 x[kSteps];
#pragma unroll
    for (int k = 0; k < kSteps; ++k) x[k] = tile[k * 32];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
      for (int k = 0; k < kSteps; ++k) multiply(sums, lo[m][k], x[k].x, x[k].y), multiply(sums, hi[m][k], x[k].z, x[k].w);
      s[m][0] = s[m][2] = start.x, s[m][1] = s[m][3] = start.y;
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        multiply(sums, hi[m][k], x[k].x, x[k].y);
#pragma unroll
        for (int e = 0; e < 4; ++e) s[m][e] += sums[e], sums[e] = 0.0f;
      }
    }
  }
};

// The sums of a lane's four queries: row tile r / 2, half r % 2.
struct SplitSums {
  float top[4], sum[4], total[4];  // sum: of one stage

  __device__ __forceinline__ void start() {
#pragma unroll
    for (int r = 0; r < 4; ++r) top[r] = kFirstTop, sum[r] = total[r] = 0.0f;
  }

  __device__ __forceinline__ void add(const float (&s)[kRowTiles][4]) {
    float terms[4];
    bool over = false;
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      terms[r] = power(s[r / 2][r % 2 * 2] - top[r]) + power(s[r / 2][r % 2 * 2 + 1] - top[r]);
      over = over || terms[r] > kMostTerm;
    }
    if (__any_sync(kWarp, over)) {  // the whole warp: products need all lanes
      raise(s, terms);
      __syncwarp();
    }
#pragma unroll
    for (int r = 0; r < 4; ++r) sum[r] += terms[r];
  }

  __device__ __forceinline__ void raise(const float (&s)[kRowTiles][4], float (&terms)[4]) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const float a = s[r / 2][r % 2 * 2], b = s[r / 2][r % 2 * 2 + 1];
      if (!(terms[r] > kMostTerm)) continue;
      const float next = ceilf(fmaxf(a, b)), factor = power(top[r] - next);
      sum[r] *= factor, total[r] *= factor, top[r] = next;
      terms[r] = power(a - next) + power(b - next);
    }
  }

  __device__ __forceinline__ void fold() {
#pragma unroll
    for (int r = 0; r < 4; ++r) total[r] += sum[r], sum[r] = 0.0f;
  }

  // Merged over the four lanes of a query, in their order: lane l of them gets that of its query l.
  __device__ __forceinline__ LogSum merged(int lane) const {
    LogSum mine;
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      LogSum part;
      for (int c = 0; c < 4; ++c) {
        const float t = __shfl_sync(kWarp, top[r], lane / 4 * 4 + c), s = __shfl_sync(kWarp, total[r], lane / 4 * 4 + c);
        part.merge({t > kFirstTop ? static_cast<double>(t) * kLn2 : -INFINITY, static_cast<double>(s)});
      }
      if (lane % 4 == r) mine = part;
    }
    return mine;
  }
};

template <int kSteps>
__global__ void __launch_bounds__(kThreads, 2) scan_split(SplitScan job, bool split) {
  constexpr int kPoints = stage_points(kSteps), kTiles = kPoints / kColumns, kWords = kTiles * kSteps * 32;
  __shared__ __align__(16) uint4 x[2][kWords];
  __shared__ __align__(16) float starts[2][kPoints];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kSplitRows + thread / 32 * kWarpRows;
  const std::int64_t row = first + lane % 4 * 8 + lane / 4;  // the one whose sum this lane writes
  const bool mine = row < job.m && job.forms[row] == static_cast<int>(Form::kDot);
  if (!__syncthreads_or(mine)) return;
  SplitRows<kSteps> rows;
  rows.load(job.queries, first, lane);
  const double square = mine ? job.squares[row] * kLn2 : 0.0;
  const std::int64_t begin = split ? static_cast<std::int64_t>(blockIdx.y) * kChunk : 0, end = split ? min(job.n, begin + kChunk) : job.n;
  const std::int64_t stages = (end - begin + kPoints - 1) / kPoints;
  const auto fetch = [&](std::int64_t stage) {
    const std::int64_t point = begin + stage * kPoints;
    const uint4* from = job.points + point / kColumns * kSteps * 32;
    uint4* to = x[stage % 2];
    for (int w = thread; w < kWords; w += kThreads) copy16(to + w, from + w);
    if (thread < kPoints / 4) copy16(starts[stage % 2] + 4 * thread, job.starts + point + 4 * thread);
    copies_are_on_the_way();
  };
  LogSum merged;
  SplitSums sums;
  sums.start();
  if (stages > 0) fetch(0);
  for (std::int64_t stage = 0; stage < stages; ++stage) {
    copies_are_here();
    __syncthreads();  // and everyone is done with the other half
    if (stage + 1 < stages) fetch(stage + 1);
    const std::int64_t own = job.own_offset == kNoOwn ? kNoOwn : first + job.own_offset - (begin + stage * kPoints);  // of the first row
    const bool has_own = own > -kWarpRows && own < kPoints;
#pragma unroll 1
    for (int tile = 0; tile < kTiles; ++tile) {
      float s[kRowTiles][4];
      const float2 start = *reinterpret_cast<const float2*>(starts[stage % 2] + tile * kColumns + lane % 4 * 2);
      rows.scores(s, x[stage % 2] + tile * kSteps * 32 + lane, start);
      if (has_own) {
        const int at = static_cast<int>(own) + lane / 4 - (tile * kColumns + lane % 4 * 2);  // of row tile 0, upper half
#pragma unroll
        for (int r = 0; r < 4; ++r)
#pragma unroll
          for (int e = 0; e < 2; ++e) s[r / 2][r % 2 * 2 + e] = at + r * 8 == e ? -INFINITY : s[r / 2][r % 2 * 2 + e];
      }
      sums.add(s);
    }
    sums.fold();
    if ((stage + 1) % (kChunk / kPoints) == 0 || stage + 1 == stages) {
      LogSum part = sums.merged(lane);
      part.max -= square;
      merged.merge(part);
      sums.start();
    }
  }
  if (mine) {
    double* pair = job.parts + 2 * ((split ? static_cast<std::int64_t>(blockIdx.y) * job.m : 0) + row);
    pair[0] = merged.max, pair[1] = merged.sum;
  }
}

}  // namespace
}  // namespace medgen
