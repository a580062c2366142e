#include "fit/rows.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "gptq/shrinkage.h"

namespace repquant {
namespace {

WeightedRows slice_of(const WeightedRows& rows, std::int64_t from, std::int64_t to) {
  return {rows.x.slice(0, from, to),
          rows.weights.defined() ? rows.weights.slice(0, from, to) : at::Tensor()};
}

}  // namespace

at::Tensor rows_of(const std::vector<at::Tensor>& batches) {
  std::vector<at::Tensor> rows;
  rows.reserve(batches.size());
  for (const auto& batch : batches) rows.push_back(batch.reshape({-1, batch.size(-1)}));
  return rows.size() == 1 ? rows[0].contiguous() : at::cat(rows);
}

bool is_finite(const at::Tensor& x) {
  return std::isfinite(at::sum(x, at::kDouble).item<double>());
}

WeightedRows joined(const std::vector<WeightedRows>& sets) {
  std::vector<WeightedRows> shares;
  std::int64_t count = 0;
  for (const WeightedRows& rows : sets) {
    const std::int64_t size = rows.x.size(0);
    if (size == 0) continue;
    const at::Tensor weights =
        rows.weights.defined() ? rows.weights : at::ones({size}, at::kDouble);
    shares.push_back({rows.x, weights / weights.sum()});
    count += size;
  }
  if (shares.size() < 2) {
    const auto some = std::find_if(sets.begin(), sets.end(),
                                   [](const WeightedRows& rows) { return rows.x.size(0) > 0; });
    return some == sets.end() ? sets.front() : *some;
  }
  std::vector<at::Tensor> x, weights;
  for (const bool late : {false, true}) {
    for (const WeightedRows& rows : shares) {
      const std::int64_t size = rows.x.size(0), middle = size / 2;
      const WeightedRows half = slice_of(rows, late ? middle : 0, late ? size : middle);
      x.push_back(half.x);
      weights.push_back(half.weights);
    }
  }
  const double mean = static_cast<double>(shares.size()) / static_cast<double>(count);
  return {at::cat(x), at::cat(weights) / mean};
}

at::Tensor weighted_sum(const at::Tensor& rows, const at::Tensor& weights) {
  return weights.defined() ? at::mv(rows.to(at::kDouble).t(), weights)
                           : rows.sum(0, false, at::kDouble);
}

at::Tensor weighted_mean(const at::Tensor& rows, const at::Tensor& weights) {
  if (!weights.defined()) return rows.mean(0, false, at::kDouble);
  return weighted_sum(rows, weights) / weights.sum();
}

double counted_rows(const at::Tensor& weights, std::int64_t rows) {
  return weights.defined() ? effective_rows(weights) : static_cast<double>(rows);
}

std::vector<WeightedRows> halves_of(const WeightedRows& rows) {
  const std::int64_t count = rows.x.size(0);
  if (count < 2) return {};
  return {slice_of(rows, 0, count / 2), slice_of(rows, count / 2, count)};
}

}  // namespace repquant
