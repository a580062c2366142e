#include "quantizer/output_metric.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "quantizer/kernels.h"
#include "tensor/check.h"

namespace repquant {
namespace {

// Below this share of the largest pivot a residual is rounding noise of the float32 Gram matrix.
constexpr float kRankTolerance = 1e-5F;

// Cholesky with diagonal pivoting (Higham 2002, section 10.3), stopped when the residual vanishes.
// Returns L [K, r] with G ~ L L^T, or an undefined tensor if r would exceed max_rank.
at::Tensor low_rank_factor(const at::Tensor& gram, std::int64_t max_rank) {
  const std::int64_t columns = gram.size(0);
  const auto count = static_cast<std::size_t>(columns);
  const float* g = gram.const_data_ptr<float>();
  std::vector<float> residual(count);
  for (std::int64_t k = 0; k < columns; ++k) {
    residual[static_cast<std::size_t>(k)] = g[k * columns + k];
  }
  const float largest = *std::max_element(residual.begin(), residual.end());
  std::vector<std::vector<float>> factor;  // rows of L^T
  while (true) {
    const auto pivot = std::max_element(residual.begin(), residual.end());
    if (!(*pivot > kRankTolerance * largest)) break;
    if (std::ssize(factor) == max_rank) return {};
    const std::int64_t p = pivot - residual.begin();
    std::vector<float> row(g + p * columns, g + (p + 1) * columns);
    for (const std::vector<float>& earlier : factor) {
      add_scaled(row.data(), earlier.data(), -earlier[static_cast<std::size_t>(p)], columns);
    }
    const float inverse = 1.0F / std::sqrt(*pivot);
    for (std::size_t k = 0; k < count; ++k) {
      row[k] *= inverse;
      residual[k] -= row[k] * row[k];
    }
    residual[static_cast<std::size_t>(p)] = 0;
    factor.push_back(std::move(row));
  }
  if (factor.empty()) return {};
  const at::Tensor transposed = at::empty({std::ssize(factor), columns}, at::kFloat);
  for (std::size_t r = 0; r < factor.size(); ++r) {
    std::copy(factor[r].begin(), factor[r].end(),
              transposed.data_ptr<float>() + static_cast<std::int64_t>(r) * columns);
  }
  return transposed.t().contiguous();
}

// In runs, since the lanes of a sum are float.
constexpr std::int64_t kRun = 1024;

double in_runs(const at::Tensor& tensor, double (*sum_of_run)(const float*, std::int64_t)) {
  const at::Tensor values = tensor.contiguous();
  double sum = 0;
  for (std::int64_t i = 0; i < values.numel(); i += kRun) {
    sum += sum_of_run(values.const_data_ptr<float>() + i, std::min(kRun, values.numel() - i));
  }
  return sum;
}

double squares_of(const at::Tensor& tensor) { return in_runs(tensor, sum_of_squares); }

/// Of all rows [n, K] but for their mean.
double centred_squares_of(const at::Tensor& rows) {
  if (rows.size(1) > 1) return squares_of(rows - rows.mean(0, /*keepdim=*/true));
  const double sum = in_runs(rows, sum_of);
  return std::max(0.0, squares_of(rows) - sum * sum / static_cast<double>(rows.size(0)));
}

double products_of_rows(const at::Tensor& a, const at::Tensor& b) {
  double sum = 0;
  for (std::int64_t i = 0; i < a.size(0); ++i) {
    sum += dot(a.const_data_ptr<float>() + i * a.size(1), b.const_data_ptr<float>() + i * a.size(1),
               a.size(1));
  }
  return sum;
}

}  // namespace

OutputMetric::OutputMetric(const at::Tensor& gram, std::int64_t columns, bool centred)
    : columns_(columns), centred_(centred) {
  if (!gram.defined()) return;
  require(gram.dim() == 2 && gram.size(0) == columns && gram.size(1) == columns, "OutputMetric",
          "a Gram matrix [K, K]");
  require_finite(gram, "OutputMetric", "the Gram matrix");
  gram_ = gram.to(at::kFloat).contiguous();
  factor_ = low_rank_factor(gram_, columns / 2);
  if (factor_.defined()) gram_.reset();
}

std::int64_t OutputMetric::cost() const {
  if (factor_.defined()) return columns_ * factor_.size(1);
  return gram_.defined() ? columns_ * columns_ : columns_;
}

double OutputMetric::of(const at::Tensor& error) const {
  const std::int64_t rows = error.size(0);
  if (rows == 0) return 0;
  if (!factor_.defined() && !gram_.defined()) {
    return (centred_ ? centred_squares_of(error) : squares_of(error)) / static_cast<double>(rows);
  }
  const at::Tensor used = centred_ ? error - error.mean(0, /*keepdim=*/true) : error;
  const double sum = factor_.defined() ? squares_of(at::mm(used, factor_))
                                       : products_of_rows(at::mm(used, gram_), used);
  return sum / static_cast<double>(rows);
}

}  // namespace repquant
