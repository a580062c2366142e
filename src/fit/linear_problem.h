// The fit of one Linear as a value: what is known of it before its grid and its weight are decided.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "fit/input_readers.h"
#include "fit/row_source.h"
#include "graph/site.h"
#include "plan/site_plan.h"

namespace repquant {

/// What another reader of the same codes sees.
struct ReaderRows {
  RowSource rows;          // x alone
  at::Tensor row_weights;  // float64 [rows], mean 1; or undefined
};

/// Everything the fit of a Linear needs, besides the recipe.
struct LinearProblem {
  std::string path;  // of the site, for errors
  const LinearSite* site = nullptr;
  RowSource rows;
  /// Readers of the same norm that see other rows of it: the grid is fitted on theirs too.
  std::vector<ReaderRows> other_readers;
  /// Which rows there are is decided by the model, so few of them say little about others.
  bool routed = false;
  at::Tensor row_weights;                  // float64 [rows], what rows count, mean 1; or undefined
  std::vector<InputReader> readers;        // all Linears that read the same input; at least one
  const InputQuantizer* shared = nullptr;  // already fitted by another consumer of the same input
  /// Codes and scales of a weight that other Linears read too; else null. The input then gets one
  /// grid per tensor and no side columns.
  const QuantizedWeight* rounded = nullptr;
  bool one_grid = false;  // a norm in front cannot carry a grid per channel
  int weight_bits = 8;
  int activation_bits = 8;
  int threads = 1;
};

/// r and b of the fold that an input quantizer realises: r = 1 / (m s), b = s (z - a).
struct ChannelFold {
  at::Tensor ratio;  // [K] or [1]
  at::Tensor shift;  // [K] or [1]
};
ChannelFold fold_of(const InputQuantizer& quantizer);

/// W diag(r) and bias + W diag(r) b: the Linear that follows the folded norm. bias may be
/// undefined.
struct FoldedLinear {
  at::Tensor weight;  // [N, K]
  at::Tensor bias;    // [N]
};
FoldedLinear folded_linear(const at::Tensor& weight, const at::Tensor& bias,
                           const ChannelFold& fold);

/// x [n, K] (or a Gram matrix) with zeros in the columns that the side columns take out.
at::Tensor without_channels(const at::Tensor& x, const std::vector<std::int64_t>& channels);

/// What side columns (not none) add to the output for rows x [n, K]: [n, N].
at::Tensor side_output(const at::Tensor& x, const SideColumns& side);

}  // namespace repquant
