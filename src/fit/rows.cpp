#include "fit/rows.h"

#include <ATen/ATen.h>

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
