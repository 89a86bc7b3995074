// The inverse of a masked autoregressive transform, and its gradients: rows in the lanes of vectors, every unit computed once.
//
// When the first unit of a panel is due, the sums of the whole panel over everything that this unit may read are made in registers; a later
// unit of the panel then only adds what has become known since. A row's sums run in one order whatever its neighbours.

#include "cpu/made.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "cpu/simd.h"

MEDGEN_NAMESPACE_BEGIN
namespace {

constexpr int kPanel = static_cast<int>(kMadePanel);
constexpr int kWide = MEDGEN_VECTOR_BYTES == 64 ? 4 : 2;  // vectors of rows: kPanel * kWide sums, and the inputs, fill the registers

struct Free {
  void operator()(void* memory) const { ::operator delete(memory, std::align_val_t{64}); }
};

template <class T>
std::unique_ptr<T, Free> aligned(std::int64_t n) {
  return std::unique_ptr<T, Free>(static_cast<T*>(::operator new(static_cast<std::size_t>(n) * sizeof(T), std::align_val_t{64})));
}

// sums [kPanel][kVectors vectors] += the panel's weights times inputs [0, n)
template <class T, int kVectors>
__attribute__((noinline)) void multiply(T* sums, const T* weight, const T* in, std::int64_t n) {
  constexpr int lanes = kVectors * kWidth<T>;
  Simd<T> sum[kPanel][kVectors];
#pragma GCC unroll 6
  for (int j = 0; j < kPanel; ++j)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[j][v] = load(sums + j * lanes + v * kWidth<T>);
  for (std::int64_t k = 0; k < n; ++k) {
    Simd<T> a[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) a[v] = load(in + k * lanes + v * kWidth<T>);
#pragma GCC unroll 6
    for (int j = 0; j < kPanel; ++j) {
      const Simd<T> w = splat<T>(weight[k * kPanel + j]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[j][v] += w * a[v];
    }
  }
#pragma GCC unroll 6
  for (int j = 0; j < kPanel; ++j)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(sums + j * lanes + v * kWidth<T>, sum[j][v]);
}

// One unit's sum += its weights times inputs [begin, end)
template <class T, int kVectors>
MEDGEN_HD void add_one(T* row, const T* weight, const T* in, std::int64_t begin, std::int64_t end) {
  constexpr int lanes = kVectors * kWidth<T>;
  if (begin == end) return;
  Simd<T> sum[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) sum[v] = load(row + v * kWidth<T>);
  for (std::int64_t k = begin; k < end; ++k) {
    const Simd<T> w = splat<T>(weight[k * kPanel]);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[v] += w * load(in + k * lanes + v * kWidth<T>);
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) store(row + v * kWidth<T>, sum[v]);
}

// The sums of units [from, to), handed to emit(unit, row) one by one. `sums` [kPanel][lanes] keeps a panel between calls.
template <class T, int kVectors, class Emit>
MEDGEN_HD void advance(const MadeLayer<T>& l, const T* in, T* sums, std::int64_t from, std::int64_t to, const Emit& emit) {
  constexpr int lanes = kVectors * kWidth<T>;
  for (std::int64_t u = from; u < to; ++u) {
    const std::int64_t j = u % kPanel, first = u - j;
    const T* weight = l.weight + first * l.inputs;
    if (j == 0) {
      for (int i = 0; i < kPanel; ++i) std::fill_n(sums + i * lanes, lanes, l.bias[u + i]);
      multiply<T, kVectors>(sums, weight, in, l.have[u]);
    }
    T* row = sums + j * lanes;
    add_one<T, kVectors>(row, weight + j, in, l.have[first], l.have[u]);
    emit(u, row);
  }
}

// What one thread works in: the values of every layer's units [units][lanes], and a panel of sums for each.
template <class T>
struct Workspace {
  std::unique_ptr<T, Free> memory;
  std::vector<T*> values, sums;

  Workspace(const MadeArgs<T>& a, std::int64_t first, std::int64_t lanes) {
    const std::int64_t layers = a.hidden + 1;
    std::int64_t total = first + layers * kPanel;
    for (std::int64_t l = 0; l < layers; ++l) total += a.layers[l].units;
    memory = aligned<T>(total * lanes);
    T* at = memory.get();
    values.push_back(at);
    at += first * lanes;
    for (std::int64_t l = 0; l < layers; ++l) {
      values.push_back(at);
      at += a.layers[l].units * lanes;
      sums.push_back(at);
      at += kPanel * lanes;
    }
  }
};

// lane r of to <- element `column` of row r, of [rows, width] from the block's first row on; lanes without a row repeat the last
template <class T>
MEDGEN_HD void gather(T* to, const T* from, std::int64_t column, std::int64_t width, std::int64_t n, std::int64_t lanes) {
  for (std::int64_t r = 0; r < n; ++r) to[r] = from[r * width + column];
  for (std::int64_t r = n; r < lanes; ++r) to[r] = to[n - 1];
}

template <class T>
MEDGEN_HD void scatter(T* to, const T* from, std::int64_t column, std::int64_t width, std::int64_t n) {
  for (std::int64_t r = 0; r < n; ++r) to[r * width + column] = from[r];
}

// to = phi(from), or with kSlope to *= phi'(from), of n lanes: called, not inlined, since a call serves many lanes.
template <bool kSlope, Activation kActivation, class T>
MEDGEN_HD void activate_all(T* to, const T* from, int n) {
#pragma omp simd
  for (int r = 0; r < n; ++r) {
    if constexpr (kSlope) {
      to[r] *= activate_slope<kActivation>(from[r]);
    } else {
      to[r] = activate<kActivation>(from[r]);
    }
  }
}

template <bool kSlope, class T>
__attribute__((noinline)) void activate_lanes(Activation activation, T* to, const T* from, int n) {
  if (activation == Activation::kTanh) return activate_all<kSlope, Activation::kTanh>(to, from, n);
  if (activation == Activation::kSilu) return activate_all<kSlope, Activation::kSilu>(to, from, n);
  activate_all<kSlope, Activation::kRelu>(to, from, n);
}

// s becomes the log-scale, x the solution.
template <class T>
__attribute__((noinline)) void solve_lanes(MadeForm form, T* x, const T* z, T* s, const T* t, T s_max, int n) {
  if (form == MadeForm::kGated) {
#pragma omp simd
    for (int r = 0; r < n; ++r) s[r] = made_log_scale<MadeForm::kGated>(s[r], s_max), x[r] = made_solve<MadeForm::kGated>(z[r], s[r], t[r]);
  } else {
#pragma omp simd
    for (int r = 0; r < n; ++r) s[r] = made_log_scale<MadeForm::kAffine>(s[r], s_max), x[r] = made_solve<MadeForm::kAffine>(z[r], s[r], t[r]);
  }
}

template <MadeForm kForm, class T>
__attribute__((noinline)) void gradient_lanes(const T* g, const T* h, const T* x, const T* s, const T* t, T s_max, T* to_z, T* to_s, T* to_t, int n) {
#pragma omp simd
  for (int r = 0; r < n; ++r) {
    const MadeGradients<T> found = made_gradients<kForm>(g[r], h[r], x[r], s[r], t[r], s_max);
    to_z[r] = found.z, to_s[r] = found.s, to_t[r] = found.t;
  }
}

template <class T, int kVectors>
void invert_block(const MadeArgs<T>& a, Workspace<T>& w, std::int64_t row, std::int64_t n) {
  constexpr int lanes = kVectors * kWidth<T>;
  const std::int64_t D = a.features, last = a.hidden;
  alignas(64) T extra[lanes], z[lanes], s[lanes];
  alignas(64) double total[lanes] = {};
  const T* context = a.context == nullptr ? nullptr : a.context + row * a.context_width;
  T* x = w.values[0];
  const auto hidden_units = [&](std::int64_t step) {
    for (std::int64_t l = 0; l < last; ++l) {
      const MadeLayer<T>& layer = a.layers[l];
      T* out = w.values[static_cast<std::size_t>(l + 1)];
      advance<T, kVectors>(layer, w.values[static_cast<std::size_t>(l)], w.sums[static_cast<std::size_t>(l)], layer.due[step], layer.due[step + 1],
                           [&](std::int64_t u, T* sum) {
                             if (l == 0 && context != nullptr) {
                               gather(extra, context, layer.column[u], a.context_width, n, lanes);
#pragma omp simd
                               for (int r = 0; r < lanes; ++r) sum[r] += extra[r];
                             }
                             activate_lanes<false>(a.activation, out + u * lanes, sum, lanes);
                           });
    }
  };
  const MadeLayer<T>& outputs = a.layers[last];
  const std::int64_t before = a.context_width - 2 * D;
  hidden_units(0);
  for (std::int64_t d = 0; d < D; ++d) {
    const std::int64_t feature = a.feature[d];
    gather(z, a.z + row * D, feature, D, n, lanes);
    advance<T, kVectors>(outputs, w.values[static_cast<std::size_t>(last)], w.sums[static_cast<std::size_t>(last)], 2 * d, 2 * d + 2,
                         [&](std::int64_t u, T* t) {
                           if (context != nullptr) {
                             gather(extra, context, before + outputs.column[u], a.context_width, n, lanes);
#pragma omp simd
                             for (int r = 0; r < lanes; ++r) t[r] += extra[r];
                           }
                           if (u % 2 == 0) {
                             std::copy_n(t, lanes, s);
                             return;
                           }
                           solve_lanes(a.form, x + d * lanes, z, s, t, a.s_max, lanes);
#pragma omp simd
                           for (int r = 0; r < lanes; ++r) total[r] += static_cast<double>(s[r]);
                         });
    scatter(a.x + row * D, x + d * lanes, feature, D, n);
    hidden_units(d + 1);
  }
  for (std::int64_t r = 0; r < n; ++r) a.log_det[row + r] = static_cast<T>(a.form == MadeForm::kGated ? -total[r] : total[r]);
}

// Layers from the last hidden one to the first, then x; w.values[0] holds the outputs' gradients.
template <class T, int kVectors>
void backward_block(const MadeArgs<T>& a, Workspace<T>& w, std::int64_t row, std::int64_t n) {
  constexpr int lanes = kVectors * kWidth<T>;
  const std::int64_t D = a.features, last = a.hidden;
  alignas(64) T x[lanes], s[lanes], t[lanes], g[lanes], h[lanes], z[lanes];
  gather(h, a.grad_log_det + row, 0, 1, n, lanes);
  const auto hidden_units = [&](std::int64_t step) {
    for (std::int64_t l = 0; l < last; ++l) {
      const MadeLayer<T>& layer = a.layers[l];
      const std::int64_t number = last - 1 - l, width = layer.units;  // in forward's order
      const T* before = a.before[number] + row * width;
      T *out = w.values[static_cast<std::size_t>(l + 1)], *delta = a.deltas[number] + row * width;
      advance<T, kVectors>(layer, w.values[static_cast<std::size_t>(l)], w.sums[static_cast<std::size_t>(l)], layer.due[step], layer.due[step + 1],
                           [&](std::int64_t u, T* sum) {
                             gather(x, before, layer.column[u], width, n, lanes);
                             T* to = out + u * lanes;
                             std::copy_n(sum, lanes, to);
                             activate_lanes<true>(a.activation, to, x, lanes);
                             scatter(delta, to, layer.column[u], width, n);
                           });
    }
  };
  for (std::int64_t d = 0; d < D; ++d) {
    hidden_units(d);
    const std::int64_t feature = a.feature[d];
    gather(g, a.grad_x + row * D, feature, D, n, lanes);
    gather(x, a.solution + row * D, feature, D, n, lanes);
    gather(s, a.parameters + row * 2 * D, feature, 2 * D, n, lanes);
    gather(t, a.parameters + row * 2 * D, D + feature, 2 * D, n, lanes);
    advance<T, kVectors>(a.layers[last], w.values[static_cast<std::size_t>(last)], w.sums[static_cast<std::size_t>(last)], d, d + 1,
                         [&](std::int64_t, T* sum) {
                           T *to_s = w.values[0] + 2 * d * lanes, *to_t = to_s + lanes;
#pragma omp simd
                           for (int r = 0; r < lanes; ++r) g[r] += sum[r];
                           a.form == MadeForm::kGated ? gradient_lanes<MadeForm::kGated>(g, h, x, s, t, a.s_max, z, to_s, to_t, lanes)
                                                      : gradient_lanes<MadeForm::kAffine>(g, h, x, s, t, a.s_max, z, to_s, to_t, lanes);
                           scatter(a.grad_z + row * D, z, feature, D, n);
                           scatter(a.deltas[last] + row * 2 * D, to_s, feature, 2 * D, n);
                           scatter(a.deltas[last] + row * 2 * D, to_t, D + feature, 2 * D, n);
                         });
  }
  hidden_units(D);
}

template <class T, int kVectors, bool kBackward>
void block(const MadeArgs<T>& a, Workspace<T>& w, std::int64_t row, std::int64_t n) {
  kBackward ? backward_block<T, kVectors>(a, w, row, n) : invert_block<T, kVectors>(a, w, row, n);
}

template <class T, bool kBackward>
void run(const MadeArgs<T>& a, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t wide = kWide * kWidth<T>;
  Workspace<T> w(a, kBackward ? 2 * a.features : a.features, wide);
  const std::int64_t stop = std::min(a.rows, end * kMadeRows);
  for (std::int64_t row = begin * kMadeRows; row < stop;) {
    const std::int64_t left = stop - row;
    if (left > kWidth<T>) {
      block<T, kWide, kBackward>(a, w, row, std::min(left, wide));
      row += wide;
    } else {
      block<T, 1, kBackward>(a, w, row, left);
      row += kWidth<T>;
    }
  }
}

}  // namespace

void made_invert_float(const MadeArgs<float>& a, std::int64_t begin, std::int64_t end) { run<float, false>(a, begin, end); }
void made_invert_double(const MadeArgs<double>& a, std::int64_t begin, std::int64_t end) { run<double, false>(a, begin, end); }
void made_backward_float(const MadeArgs<float>& a, std::int64_t begin, std::int64_t end) { run<float, true>(a, begin, end); }
void made_backward_double(const MadeArgs<double>& a, std::int64_t begin, std::int64_t end) { run<double, true>(a, begin, end); }

MEDGEN_NAMESPACE_END
