// The reverse chain of an MLP denoiser, a block of rows at a time.

#include "cpu/mlp_loop.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/ddpm.h"
#include "cpu/mlp_amx.h"
#include "cpu/mlp_dense.h"
#include "cpu/normals.h"

MEDGEN_NAMESPACE_BEGIN
namespace {

std::int64_t widest(const MlpJob& job) {
  std::int64_t most = 0;
  for (int l = 0; l <= job.layers; ++l) most = std::max(most, mlp_padded(job.widths[l]));
  return most;
}

// Memory handed out in aligned pieces.
class Arena {
 public:
  explicit Arena(unsigned char* at) : at_(reinterpret_cast<std::uintptr_t>(at)), start_(at_) {}
  template <class T>
  T* take(std::int64_t n) {
    T* piece = reinterpret_cast<T*>(at_);
    at_ += static_cast<std::uintptr_t>((n * static_cast<std::int64_t>(sizeof(T)) + kMlpAlign - 1) / kMlpAlign * kMlpAlign);
    return piece;
  }
  std::int64_t taken() const { return static_cast<std::int64_t>(at_ - start_); }

 private:
  std::uintptr_t at_, start_;
};

// Padded biases, then packed weights, layer by layer.
template <class Dense>
struct Packed {
  float* bias[kMlpLayers];
  typename Dense::Value* weight[kMlpLayers];
  std::int64_t bytes;

  explicit Packed(const MlpJob& job) {
    Arena arena(job.packed);
    for (int l = 0; l < job.layers; ++l) {
      bias[l] = arena.take<float>(mlp_padded(job.widths[l + 1]));
      weight[l] = arena.take<typename Dense::Value>(mlp_padded(job.widths[l]) * mlp_padded(job.widths[l + 1]));
    }
    bytes = arena.taken();
  }
};

// What one thread works in: one block of rows, everything padded.
template <class Dense>
struct Block {
  float *x, *output, *bias, *z;
  typename Dense::Value *one, *other;
  std::int64_t bytes;

  Block(const MlpJob& job, unsigned char* scratch) {
    Arena arena(scratch);
    const std::int64_t width = mlp_padded(job.widths[0]), most = widest(job);
    x = arena.take<float>(kMlpRows * width);
    output = arena.take<float>(kMlpRows * width);
    bias = arena.take<float>(mlp_padded(job.widths[1]));
    z = arena.take<float>(4 * (kMlpRows * ((job.widths[0] + 3) / 4) + kBlock));
    one = arena.take<typename Dense::Value>(kMlpRows * most);
    other = arena.take<typename Dense::Value>(kMlpRows * most);
    bytes = arena.taken();
  }
};

template <class Dense>
void pack(const MlpJob& job) {
  const Packed<Dense> packed(job);
  for (int l = 0; l < job.layers; ++l) {
    const std::int64_t out = job.widths[l + 1];
    std::memset(packed.bias[l], 0, static_cast<std::size_t>(mlp_padded(out)) * sizeof(float));
    std::memcpy(packed.bias[l], job.biases[l], static_cast<std::size_t>(out) * sizeof(float));
    Dense::pack(packed.weight[l], job.weights[l], out, job.widths[l], job.bfloat16);
  }
}

// block.output = network(block.x) at step k, for `rows` rows
template <class Dense>
void network(const MlpJob& job, const Packed<Dense>& packed, Block<Dense>& block, std::int64_t k, std::int64_t rows) {
  const std::int64_t first = job.widths[1];
  std::memcpy(block.bias, packed.bias[0], static_cast<std::size_t>(mlp_padded(first)) * sizeof(float));
#pragma omp simd
  for (std::int64_t i = 0; i < first; ++i) block.bias[i] += job.embedding[k * first + i];
  auto *in = block.one, *out = block.other;
  Dense::round(in, block.x, rows * mlp_padded(job.widths[0]), job.bfloat16);
  for (int l = 0; l < job.layers; ++l) {
    const std::int64_t depth = mlp_padded(job.widths[l]), columns = mlp_padded(job.widths[l + 1]);
    const float* bias = l == 0 ? block.bias : packed.bias[l];
    if (l + 1 == job.layers) {
      Dense::template layer<false>(block.output, in, packed.weight[l], bias, rows, columns, depth, job.bfloat16);
    } else {
      Dense::template layer<true>(out, in, packed.weight[l], bias, rows, columns, depth, job.bfloat16);
      std::swap(in, out);
    }
  }
}

// The normals of `rows` samples at step k: [rows, ceil(width / 4) * 4]
template <class Dense>
void noise(const MlpJob& job, Block<Dense>& block, std::int64_t row, std::int64_t k, std::int64_t rows) {
  const std::int64_t per_row = (job.widths[0] + 3) / 4;
  Counters counters(job.index + row, per_row, 0, job.stream + static_cast<std::uint32_t>(k));
  Words words;
  for (std::int64_t q = 0; q < rows * per_row; q += kBlock) {
    counters.next(words, static_cast<int>(std::min<std::int64_t>(kBlock, rows * per_row - q)));
    fill_words(words, job.seed);
    normals(block.z + 4 * q, words);
  }
}

template <bool kClip, class Dense>
void update(const MlpJob& job, Block<Dense>& block, const Step<float>& c, std::int64_t rows) {
  const std::int64_t width = job.widths[0], padded = mlp_padded(width), per_row = (width + 3) / 4 * 4;
  const bool noisy = step_is_noisy(c.scale, false);
  for (std::int64_t r = 0; r < rows; ++r) {
    float* x = block.x + r * padded;
    const float *output = block.output + r * padded, *z = block.z + r * per_row;
    if (noisy) {
#pragma omp simd
      for (std::int64_t i = 0; i < width; ++i) x[i] = step_mean<kClip>(c, x[i], output[i], job.clip) + c.scale * z[i];
    } else {
#pragma omp simd
      for (std::int64_t i = 0; i < width; ++i) x[i] = step_mean<kClip>(c, x[i], output[i], job.clip);
    }
  }
}

template <class Dense>
void chain(const MlpJob& job, unsigned char* scratch, std::int64_t begin, std::int64_t end) {
  const Packed<Dense> packed(job);
  Block<Dense> block(job, scratch);
  const std::int64_t width = job.widths[0], padded = mlp_padded(width);
  for (std::int64_t b = begin; b < end; ++b) {
    const std::int64_t row = b * kMlpRows, rows = std::min<std::int64_t>(kMlpRows, job.rows - row), whole = (rows + 31) / 32 * 32;
    std::memset(block.x, 0, static_cast<std::size_t>(kMlpRows * padded) * sizeof(float));
    for (std::int64_t r = 0; r < rows; ++r) std::copy_n(job.x + (row + r) * width, width, block.x + r * padded);
    for (std::int64_t k = job.steps - 1; k >= 0; --k) {
      const Step<float> c = step_of(job.table + k * kStepColumns);
      network(job, packed, block, k, whole);
      if (step_is_noisy(c.scale, false)) noise(job, block, row, k, rows);
      job.clipped ? update<true>(job, block, c, rows) : update<false>(job, block, c, rows);
    }
    for (std::int64_t r = 0; r < rows; ++r) std::copy_n(block.x + r * padded, width, job.x + (row + r) * width);
  }
}

#if defined(MEDGEN_AMX)
bool on_amx(const MlpJob& job) { return job.bfloat16 && amx_ready(); }
#endif

}  // namespace

void mlp_bytes(const MlpJob& job, std::int64_t* packed, std::int64_t* scratch) {
  // the float layout is the larger one
  *packed = Packed<FloatDense>(job).bytes;
  *scratch = Block<FloatDense>(job, nullptr).bytes;
}

void mlp_pack(const MlpJob& job) {
#if defined(MEDGEN_AMX)
  if (on_amx(job)) return pack<AmxDense>(job);
#endif
  pack<FloatDense>(job);
}

void mlp_loop(const MlpJob& job, unsigned char* scratch, std::int64_t begin, std::int64_t end) {
#if defined(MEDGEN_AMX)
  if (on_amx(job)) {
    const AmxDense::Session session;
    return chain<AmxDense>(job, scratch, begin, end);
  }
#endif
  chain<FloatDense>(job, scratch, begin, end);
}

MEDGEN_NAMESPACE_END
