// The proof, in every run, that folding changes nothing: FP32 outputs before and after.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "graph/site.h"
#include "plan/site_plan.h"

namespace repquant {

/// Runs the floating-point model on one batch with every folded norm and its consumers rewritten
/// (gamma / r, beta / r - b; W diag(r), bias + W diag(r) b) and returns the largest |difference| to
/// `reference` relative to the largest |reference|.
double fold_deviation(const Model& model, const std::vector<Site>& sites,
                      const std::vector<SitePlan>& plans, const std::vector<at::Tensor>& inputs,
                      const std::vector<at::Tensor>& reference);

}  // namespace repquant
