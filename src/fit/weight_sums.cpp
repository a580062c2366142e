#include "fit/weight_sums.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "fit/rows.h"
#include "tensor/parallel.h"

namespace repquant {
namespace {

// Every range of rows holds a sum [K, K] and one [N, K]: two ranges for each half where these are
// small.
constexpr std::int64_t kLargeSum = std::int64_t{1} << 22;

struct RowRange {
  std::int64_t from, to;
};

/// The first and the second half of the rows in `parts` ranges each.
std::vector<RowRange> ranges_of(std::int64_t rows, std::int64_t parts) {
  std::vector<RowRange> ranges;
  for (const RowRange half : {RowRange{0, rows / 2}, RowRange{rows / 2, rows}}) {
    const std::int64_t size = half.to - half.from;
    for (std::int64_t part = 0; part < parts; ++part) {
      ranges.push_back({half.from + size * part / parts, half.from + size * (part + 1) / parts});
    }
  }
  return ranges;
}

at::Tensor centre_of(const WeightProblem& problem) {
  at::Tensor centre = at::zeros({problem.weight.size(1)}, at::kFloat);
  constexpr std::int64_t kRows = 1024;
  const std::int64_t rows = std::min(problem.rows->size(), kRows);
  if (rows > 0) centre = problem.codes(problem.rows->x(0, rows)).mean(0).round_();
  return centre;
}

/// One row, the weighted mean of all.
RowBlock mean_row(const RowBlock& block, const at::Tensor& weights) {
  const auto mean = [&](const at::Tensor& rows) {
    return rows.defined() ? weighted_mean(rows, weights).to(at::kFloat).unsqueeze(0) : rows;
  };
  return {.from = 0,
          .to = 1,
          .x = mean(block.x),
          .x_float = mean(block.x_float),
          .residual_error = mean(block.residual_error)};
}

/// What the target of one row lacks from its code, float64 [N].
at::Tensor error_of(const WeightProblem& problem, const RowBlock& row, const at::Tensor& code) {
  const at::Tensor wanted = problem.target(row).squeeze(0).to(at::kDouble).sub_(problem.bias);
  return wanted.sub_(at::mv(problem.weight.to(at::kDouble), code), problem.scale);
}

void add_block(const WeightProblem& problem, const at::Tensor& centre, const RowBlock& block,
               WeightSums& sums) {
  at::Tensor codes = problem.codes(block.x);
  const at::Tensor weights = problem.row_weights.defined()
                                 ? problem.row_weights.slice(0, block.from, block.to)
                                 : at::Tensor();
  const double weight =
      weights.defined() ? weights.sum().item<double>() : static_cast<double>(codes.size(0));
  if (!(weight > 0)) return;
  sums.weight += weight;
  // A sum alone needs no product of all rows.
  const bool by_mean = problem.affine_target && !sums.cross.defined();
  at::Tensor errors;
  if (problem.target && !by_mean) {
    errors = problem.target(block);
    errors.sub_(problem.bias).addmm_(codes, problem.weight.t(), 1, -problem.scale);
    sums.errors.add_(weighted_sum(errors, weights));
  }
  codes = codes - centre;
  const at::Tensor sum = weighted_sum(codes, weights);
  sums.codes.add_(sum);
  if (problem.target && by_mean) {
    sums.errors.add_(error_of(problem, mean_row(block, weights), sum / weight + centre), weight);
  }
  if (weights.defined()) {
    const at::Tensor root = weights.sqrt().to(at::kFloat).unsqueeze(1);
    codes.mul_(root);
    if (errors.defined()) errors.mul_(root);
  }
  if (sums.cross.defined()) sums.cross.add_(at::mm(errors.t(), codes));
  if (sums.hessian) sums.hessian->add(codes);
  if (sums.squares.defined()) sums.squares.add_(codes.square().sum(0, false, at::kDouble));
}

/// Over both halves.
at::Tensor mean_of(const HalvedSums& sums, at::Tensor WeightSums::*sum) {
  const WeightSums &first = sums.halves[0], &second = sums.halves[1];
  const double weight = first.weight + second.weight;
  const at::Tensor total = first.*sum + second.*sum;
  return weight > 0 ? total / weight : total;
}

/// Where codes are counted from: their mean, or zero.
at::Tensor code_origin(const HalvedSums& sums, bool centred) {
  return centred ? mean_of(sums, &WeightSums::codes) : -sums.centre.to(at::kDouble);
}

/// Of codes and errors counted from `code` and `error`.
ErrorMoments moments_about(WeightSums sums, const at::Tensor& code, const at::Tensor& error) {
  // sum w (c - a)(c - a)^T = sum w c c^T - a u^T - u a^T + S a a^T, u = sum w c
  ErrorMoments moments;
  moments.hessian = sums.hessian->hessian();
  moments.hessian.addr_(code, code * sums.weight - sums.codes).addr_(sums.codes, code, 1, -1);
  moments.hessian.diagonal().clamp_min_(0);  // rounding may leave a constant column just below
  if (!sums.cross.defined()) return moments;
  moments.cross = std::move(sums.cross);
  moments.cross.sub_(at::outer(error, sums.codes))
      .sub_(at::outer(sums.errors, code))
      .add_(at::outer(error, code).mul_(sums.weight));
  return moments;
}

}  // namespace

WeightSums::WeightSums(std::int64_t rows, std::int64_t columns, const Products& products)
    : codes(at::zeros({columns}, at::kDouble)), errors(at::zeros({rows}, at::kDouble)) {
  if (products.of_codes && !products.diagonal) hessian.emplace(columns);
  if (products.of_codes && products.diagonal) squares = at::zeros({columns}, at::kDouble);
  if (products.with_errors) cross = at::zeros({rows, columns}, at::kDouble);
}

void WeightSums::add(WeightSums other) {
  if (hessian) hessian->merge(std::move(*other.hessian));
  if (squares.defined()) squares.add_(other.squares);
  if (cross.defined()) cross.add_(other.cross);
  codes.add_(other.codes);
  errors.add_(other.errors);
  weight += other.weight;
}

at::Tensor HalvedSums::mean_code() const {
  return mean_of(*this, &WeightSums::codes) + centre.to(at::kDouble);
}

at::Tensor HalvedSums::mean_error() const { return mean_of(*this, &WeightSums::errors); }

HalvedSums sum_over_rows(const WeightProblem& problem, const Products& products) {
  const std::int64_t rows = problem.weight.size(0), columns = problem.weight.size(1);
  const std::int64_t parts = columns * std::max(rows, columns) > kLargeSum ? 1 : 2;
  Products wanted = products;
  wanted.with_errors = products.with_errors && problem.target;
  const std::vector<RowRange> ranges = ranges_of(problem.rows->size(), parts);
  const at::Tensor centre = centre_of(problem);
  std::vector<WeightSums> sums;
  for (std::size_t i = 0; i < ranges.size(); ++i) sums.emplace_back(rows, columns, wanted);
  parallel_for(std::ssize(ranges), problem.threads, [&](std::int64_t i) {
    const auto at = static_cast<std::size_t>(i);
    problem.rows->for_each_block(ranges[at].from, ranges[at].to, [&](const RowBlock& block) {
      add_block(problem, centre, block, sums[at]);
    });
  });
  const auto half = [&](std::int64_t which) {
    WeightSums sum = std::move(sums[static_cast<std::size_t>(which * parts)]);
    if (parts > 1) sum.add(std::move(sums[static_cast<std::size_t>(which * parts + 1)]));
    return sum;
  };
  return {centre, {half(0), half(1)}};
}

at::Tensor hessian_of(HalvedSums sums, bool centred) {
  const at::Tensor code = code_origin(sums, centred);
  sums.halves[0].add(std::move(sums.halves[1]));
  if (const WeightSums& all = sums.halves[0]; all.squares.defined()) {  // as moments_about()
    return (all.squares + code * (code * all.weight - all.codes * 2)).clamp_min_(0);
  }
  return moments_about(std::move(sums.halves[0]), code, {}).hessian;
}

std::array<ErrorMoments, 2> moments_of(HalvedSums sums, bool centred) {
  const at::Tensor code = code_origin(sums, centred);
  at::Tensor error = sums.mean_error();
  if (!centred) error.zero_();
  return {moments_about(std::move(sums.halves[0]), code, error),
          moments_about(std::move(sums.halves[1]), code, error)};
}

}  // namespace repquant
