// What quantizing one site changes in its output, measured on one batch, where that is finite:
// enough to name a bad site, and cheap.
#pragma once

#include <ATen/core/Tensor.h>

#include "graph/site.h"
#include "plan/site_plan.h"

namespace repquant {

/// Operands of a site in one batch, as the quantized and the floating-point stream have them.
struct StreamedValue {
  at::Tensor quantized;
  at::Tensor floating;
};

/// Input [.., K]. `used`: which of its rows, one after the other, the outputs depend on, float64
/// 0 or 1; undefined: all.
SiteErrors linear_errors(const LinearSite& site, const LinearPlan& plan, const StreamedValue& x,
                         const at::Tensor& used = {});

/// left [.., T, d], right [.., d, S]. `used`: bool, to be expanded to [.., T, S]; undefined: all.
SiteErrors scores_errors(const ScoresPlan& plan, const StreamedValue& left,
                         const StreamedValue& right, const at::Tensor& used = {});

/// Scores before softmax [.., T, S] and value [.., S, d] of the quantized stream, output [.., T, d]
/// of the floating-point stream. The scores are as the product reads them: what lies between
/// softmax and product only moves rows, and does so to scores as well. `used`: bool, to be expanded
/// to [.., T, d]; undefined: all.
SiteErrors attend_errors(const AttendPlan& plan, const at::Tensor& scores, const at::Tensor& value,
                         const at::Tensor& floating, const at::Tensor& used = {});

/// Indices are the same in both streams.
SiteErrors embedding_errors(const EmbeddingSite& site, const EmbeddingPlan& plan,
                            const at::Tensor& indices);

/// x [B, C, sizes..]
SiteErrors convolution_errors(const GroupedConvolutionSite& site,
                              const GroupedConvolutionPlan& plan, const StreamedValue& x);

}  // namespace repquant
