// Parzen density: forms, packing and log-sums.

#include "cpu/parzen.h"

#include <algorithm>
#include <cmath>

#include "cpu/parzen_pack.h"

MEDGEN_NAMESPACE_BEGIN
namespace {

constexpr std::int64_t kGroup = 8192;  // queries sorted by form together, so that few vectors are left half empty

constexpr int kBlockRows = 512;                  // queries that share a panel of points
constexpr std::int64_t kPanelBytes = 256 * 1024;  // of points, which with the queries stays in the second-level cache

// Up to kBlockRows queries, packed, with their sums.
template <class T>
struct Block {
  static constexpr int L = kLaneCount<T>, kParts = kBlockRows / L;
  explicit Block(std::int64_t dim) : dim(dim), z(dim * kWhiten), q(dim * kBlockRows), own(kBlockRows), squares(kBlockRows), running(kParts) {}

  void load(const ParzenRows& queries, const std::int64_t* order, int n, bool product, std::int64_t own_offset) {
    for (int i = 0; i < n; i += kWhiten) {
      whiten(queries, [&](int lane) { return order[i + lane]; }, std::min(kWhiten, n - i), z.get());
      for (int from = 0; from < kWhiten; from += L) pack_queries<T>(z.get(), from, dim, product, q.get() + (i + from) * dim, squares.get() + i + from);
    }
    for (int i = 0; i < kBlockRows; ++i) own.get()[i] = i < n && own_offset != kNoOwn ? order[i] + own_offset : -1;
  }

  std::int64_t dim;
  Aligned<double> z;
  Aligned<T> q;
  Aligned<std::int64_t> own;
  Aligned<double> squares;
  Aligned<Running<T>> running;
};

// Log-sums of the queries order[0, count) over points [first, last): one pass after another, merged in order.
template <class T, bool kProduct>
void scan(const ParzenRows& queries, const std::int64_t* order, std::int64_t count, const ParzenPoints& points, std::int64_t first, std::int64_t last,
          std::int64_t own_offset, LogSum* out) {
  constexpr int L = Block<T>::L;
  Block<T> block(queries.dim);
  const T *x = static_cast<const T*>(points.x), *constant = static_cast<const T*>(kProduct ? points.product : points.direct);
  const std::int64_t runs = kPanelBytes / (queries.dim * kPoints * static_cast<std::int64_t>(sizeof(T)) * kRun);
  const std::int64_t panel = kRun * std::max<std::int64_t>(1, runs);
  for (std::int64_t i = 0; i < count; i += kBlockRows) {
    const int n = static_cast<int>(std::min<std::int64_t>(kBlockRows, count - i));
    block.load(queries, order + i, n, kProduct, own_offset);
    std::fill(out + i, out + i + n, LogSum{});
    for (std::int64_t chunk = first; chunk < last; chunk += kParzenChunk) {
      const std::int64_t end = (std::min(last, chunk + kParzenChunk) + kPoints - 1) / kPoints;
      for (int lane = 0; lane < n; lane += L) block.running.get()[lane / L].start();
      for (std::int64_t tile = chunk / kPoints; tile < end; tile += panel)
        for (int lane = 0; lane < n; lane += L)
          scan_tiles<T, kProduct>(block.running.get()[lane / L], block.q.get() + lane * queries.dim, x, constant, tile, std::min(end, tile + panel),
                                  queries.dim, own_offset == kNoOwn ? nullptr : block.own.get() + lane);
      for (int lane = 0; lane < n; ++lane) {
        LogSum part = block.running.get()[lane / L].result(lane % L);
        if (kProduct) part.max -= block.squares.get()[lane] * kLn2;
        out[i + lane].merge(part);
      }
    }
  }
}

void scan_form(Form form, const ParzenRows& queries, const std::int64_t* order, std::int64_t count, const ParzenPoints& narrow,
               const ParzenPoints& wide, std::int64_t first, std::int64_t last, std::int64_t own_offset, LogSum* out) {
  switch (form) {
    case Form::kDot: return scan<float, true>(queries, order, count, narrow, first, last, own_offset, out);
    case Form::kDirect: return scan<float, false>(queries, order, count, narrow, first, last, own_offset, out);
    case Form::kWideDot: return scan<double, true>(queries, order, count, wide, first, last, own_offset, out);
    case Form::kWide: return scan<double, false>(queries, order, count, wide, first, last, own_offset, out);
    case Form::kInfinite: std::fill(out, out + count, LogSum{}); return;
    case Form::kNan: std::fill(out, out + count, LogSum{NAN, NAN}); return;
    case Form::kDone: return;
  }
}

}  // namespace

void parzen_forms(const ParzenRows& queries, std::uint8_t* forms, std::int64_t begin, std::int64_t end) {
  const Aligned<double> z(queries.dim * kWhiten);
  double squares[kWhiten];
  for (std::int64_t i = begin; i < end; i += kWhiten) {
    const int n = static_cast<int>(std::min<std::int64_t>(kWhiten, end - i));
    whiten(queries, [i](int lane) { return i + lane; }, n, z.get());
    squared_norms(z.get(), queries.dim, squares);
    for (int lane = 0; lane < n; ++lane) forms[i + lane] = static_cast<std::uint8_t>(form_of(squares[lane], queries.dim, queries.is_double));
  }
}

void parzen_whiten(const ParzenRows& rows, double* out, double* norms, std::int64_t begin, std::int64_t end) {
  const Aligned<double> z(rows.dim * kWhiten);
  double squares[kWhiten];
  for (std::int64_t i = begin; i < end; i += kWhiten) {
    const int n = static_cast<int>(std::min<std::int64_t>(kWhiten, end - i));
    whiten(rows, [i](int lane) { return i + lane; }, n, z.get());
    squared_norms(z.get(), rows.dim, squares);
    for (int lane = 0; lane < n; ++lane) {
      norms[i + lane] = std::sqrt(squares[lane]);
      for (std::int64_t k = 0; k < rows.dim; ++k) out[(i + lane) * rows.dim + k] = z.get()[k * kWhiten + lane];
    }
  }
}

void parzen_pack(const ParzenRows& points, const double* log_weights, const ParzenPoints& to, bool* poisoned, std::int64_t begin,
                 std::int64_t end) {
  const bool found = to.wide ? pack_points<double>(points, log_weights, to, begin, end) : pack_points<float>(points, log_weights, to, begin, end);
  if (found) __atomic_store_n(poisoned, true, __ATOMIC_RELAXED);
}

void parzen_sums(const ParzenRows& queries, const std::uint8_t* forms, const ParzenPoints& narrow, const ParzenPoints& wide, std::int64_t begin,
                 std::int64_t end, std::int64_t first, std::int64_t last, std::int64_t own_offset, double* out) {
  const std::int64_t room = std::min(kGroup, end - begin);
  const Aligned<std::int64_t> order(room);
  const Aligned<LogSum> sums(room);
  for (std::int64_t group = begin; group < end; group += kGroup) {
    const std::int64_t stop = std::min(end, group + kGroup);
    for (int form = 0; form <= static_cast<int>(Form::kNan); ++form) {
      std::int64_t count = 0;
      for (std::int64_t i = group; i < stop; ++i)
        if (forms[i] == form) order.get()[count++] = i;
      if (count == 0) continue;
      scan_form(static_cast<Form>(form), queries, order.get(), count, narrow, wide, first, last, own_offset, sums.get());
      for (std::int64_t i = 0; i < count; ++i) {
        double* pair = out + 2 * order.get()[i];
        pair[0] = sums.get()[i].max;
        pair[1] = sums.get()[i].sum;
      }
    }
  }
}

MEDGEN_NAMESPACE_END
