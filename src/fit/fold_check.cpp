#include "fit/fold_check.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "fit/linear_problem.h"

namespace repquant {

double fold_deviation(const LinearSite& site, const InputQuantizer& quantizer,
                      const at::Tensor& x) {
  constexpr std::int64_t kRows = 64;  // the fold is exact: any row would do
  const ChannelFold fold = fold_of(quantizer);
  const FoldedLinear folded = folded_linear(site.weight, site.bias, fold);
  const auto wide = [](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.to(at::kDouble) : tensor;
  };
  at::Tensor rows = x.reshape({-1, x.size(-1)});
  rows = wide(rows.slice(0, 0, rows.size(0), std::max<std::int64_t>(1, rows.size(0) / kRows)));
  rows = rows.index({rows.sum(1).isfinite()});
  if (rows.size(0) == 0) return 0.0;
  at::Tensor moved = rows / wide(fold.ratio) - wide(fold.shift);
  if (site.scale_only_fold) {  // the zeros that padding inserts do not move
    const at::Tensor padding = at::zeros({1, rows.size(1)}, at::kDouble);
    rows = at::cat({rows, padding});
    moved = at::cat({moved, padding});
  }
  const at::Tensor exact = at::linear(rows, wide(site.weight), wide(site.bias));
  const at::Tensor got = at::linear(moved, wide(folded.weight), wide(folded.bias));
  const double largest = exact.abs().max().item<double>();
  const double difference = (got - exact).abs().max().item<double>();
  return largest > 0.0 ? difference / largest : difference;
}

}  // namespace repquant
