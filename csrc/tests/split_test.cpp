// Halves, and log-densities from split products on emulated tensor cores: within their bound, and within 1e-4 nats up to the largest norms
// that the form is used for.
#include "core/split.h"

#include <random>

#include "check.h"
#include "core/logsumexp.h"
#include "host/tensor_cores.h"

using namespace medgen;

namespace {

void halves() {
  for (std::uint32_t h = 0; h < 0x10000u; ++h) {
    const float value = float_of_half(static_cast<std::uint16_t>(h));
    const bool nan = (h & 0x7fffu) > 0x7c00u;
    CHECK(nan ? std::isnan(value) && std::isnan(float_of_half(half_of(value))) : half_of(value) == h);
    if ((h & 0x7fffu) >= 0x7bffu) continue;
    // between neighbours: the middle goes to the even one, what is beside it to the nearer one
    const float next = float_of_half(static_cast<std::uint16_t>(h + 1)), middle = 0.5f * (value + next);
    CHECK(half_of(middle) == (h % 2 == 0 ? h : h + 1));
    CHECK(half_of(std::nextafter(middle, value)) == h);
    CHECK(half_of(std::nextafter(middle, next)) == h + 1);
  }
  CHECK(half_of(65519.0f) == 0x7bff && half_of(65520.0f) == 0x7c00 && half_of(INFINITY) == 0x7c00 && half_of(-INFINITY) == 0xfc00);
}

void splits() {
  for (std::uint64_t n = 0; n < 20000; ++n) {
    const double value = (test::uniform(n) - 0.5) * std::ldexp(1.0, static_cast<int>(test::mix(n) % 40) - 25);
    CHECK_NEAR(split(value).value(), value, std::max(0x1p-22 * std::fabs(value), 0x1p-25));
  }
}

struct Rows {
  std::vector<double> z;
  std::int64_t dim;
  const double* operator[](std::size_t i) const { return z.data() + i * static_cast<std::size_t>(dim); }
};

double norm(const double* z, std::int64_t dim) {
  double square = 0.0;
  for (std::int64_t k = 0; k < dim; ++k) square += z[k] * z[k];
  return std::sqrt(square);
}

double apart(const double* a, const double* b, std::int64_t dim) {
  double square = 0.0;
  for (std::int64_t k = 0; k < dim; ++k) square += (a[k] - b[k]) * (a[k] - b[k]);
  return std::sqrt(square);
}

// The largest error of a log-density, in nats. Every score is held to its bound.
double worst(const Rows& queries, const Rows& points, int bits) {
  const std::int64_t dim = points.dim;
  double error = 0.0;
  std::vector<host::SplitRow> split_points;
  for (std::size_t j = 0; j < points.z.size() / static_cast<std::size_t>(dim); ++j) split_points.emplace_back(points[j], dim, 1.0);
  for (std::size_t i = 0; i < queries.z.size() / static_cast<std::size_t>(dim); ++i) {
    const double* q = queries[i];
    const double length = norm(q, dim);
    if (form_of(length * length, dim, false) != Form::kDot) continue;
    const host::SplitRow row(q, dim, 2.0);
    LogSum found, exact;
    for (std::size_t j = 0; j < split_points.size(); ++j) {
      const double distance = apart(q, points[j], dim);
      const double score = (static_cast<double>(host::split_score(row, split_points[j], 0.0, bits)) - row.square) * kLn2;
      CHECK_NEAR(score, -0.5 * distance * distance, split_bound(length, norm(points[j], dim), distance, dim, bits));
      found.merge({score, 1.0});
      exact.merge({-0.5 * distance * distance, 1.0});
    }
    if (!too_far(Form::kDot, exact.value(), dim, static_cast<std::int64_t>(split_points.size())))
      error = std::max(error, std::fabs(found.value() - exact.value()));
  }
  return error;
}

void densities() {
  std::mt19937_64 random(0);
  std::normal_distribution<double> normal;
  for (const std::int64_t dim : {5, 16, 17, 32, 48, 64})
    for (const double bandwidth : {2.0, 0.74, 0.5}) {
      Rows points{std::vector<double>(static_cast<std::size_t>(150 * dim)), dim}, queries{std::vector<double>(static_cast<std::size_t>(40 * dim)), dim};
      for (double& v : points.z) v = normal(random) / bandwidth;
      for (std::size_t i = 0; i < queries.z.size(); ++i) queries.z[i] = (i % 3 == 0 ? points.z[i] : points.z[i] + normal(random));
      for (const int bits : {24, 25, 26}) CHECK(worst(queries, points, bits) < 1e-4);
    }
}

// At the largest norm: on the diagonal, along one axis, and in random directions; the points are the query and its near neighbours.
void largest_norms() {
  std::mt19937_64 random(1);
  std::normal_distribution<double> normal;
  for (const std::int64_t dim : {5, 16, 33, 64}) {
    const double most = std::sqrt(1024.0 / std::max(std::sqrt(static_cast<double>(dim)), 6.4)) * (1.0 - 1e-9);
    for (int kind = 0; kind < 30; ++kind) {
      Rows query{std::vector<double>(static_cast<std::size_t>(dim)), dim};
      for (std::int64_t k = 0; k < dim; ++k) query.z[static_cast<std::size_t>(k)] = kind == 0 ? 1.0 : kind == 1 ? (k == 3 ? 1.0 : 0.0) : normal(random);
      const double scale = most / norm(query[0], dim);
      for (double& v : query.z) v *= scale;
      Rows points = query;
      for (int j = 0; j < 5; ++j)
        for (std::int64_t k = 0; k < dim; ++k) points.z.push_back(query.z[static_cast<std::size_t>(k)] + 0.3 * normal(random));
      CHECK(worst(query, points, 24) < 1e-4);
    }
  }
}

void far_points() {
  CHECK(split_start(-INFINITY, 0.0) == -INFINITY);
  CHECK(split_start(-1.0, INFINITY) == kSplitLowest && split_start(0.0, 1e31) == kSplitLowest);
  CHECK_NEAR(split_start(1.0, 2.0), kLog2e - 2.0, 1e-7);
  // what lies beyond the reach is so far that a sum without anything nearer goes to double, whatever its dimension
  const double gap = std::sqrt(kSplitReach) - std::sqrt(160.0) * kUnit, score = -gap * gap * kLn2;
  for (const std::int64_t dim : {5, 16, 64}) CHECK(too_far(Form::kDot, score, dim, 1));
}

}  // namespace

int main() {
  test::need_instruction_set();
  halves();
  splits();
  densities();
  largest_norms();
  far_points();
  return test::report();
}
