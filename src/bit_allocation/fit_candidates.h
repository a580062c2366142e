// Fits every candidate width of every site on the floating-point model.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "bit_allocation/choices.h"
#include "fit/spill.h"
#include "graph/site.h"
#include "plan/site_plan.h"
#include "repquant/recipe.h"
#include "tensor/samples.h"

namespace repquant {

/// One width of a Linear's input. What a quantized input misses of x is
/// quantized(x) - x - mean_error, with zero in the side columns.
struct InputCandidate {
  InputQuantizer quantizer;
  std::vector<std::int64_t> side_channels;
  at::Tensor mean_error;  // float32 [K]: the bias correction takes it out
};

/// x^ - x without its mean, [n, K], for x [n, K].
at::Tensor input_error(const InputCandidate& candidate, const at::Tensor& x);

/// Fitted candidates of a site, one for each of its widths (see SiteChoices), in their order.
struct SiteCandidates {
  std::vector<InputCandidate> inputs;    // Linear
  std::vector<QuantizedWeight> weights;  // Linear: codes of W diag(ratio)
  at::Tensor ratio;                      // float32 [K] or [1]
  at::Tensor mean;                       // float32 [K], mean of x
  std::vector<ScoresPlan> scores;        // q k^T
  std::vector<AttendPlan> attends;       // softmax(..) v

  // Squared error and signal of the site's output, mean over sample rows or the first batch.
  double signal = 0.0;
  std::vector<double> weight_noise, activation_noise;
};

/// W^ - W [N, K] of weight candidate `j`, zero in the side columns.
at::Tensor weight_error(const LinearSite& site, const SiteCandidates& candidates, std::size_t j);

struct FitCandidatesOptions {
  int threads = 1;
  SpillPlace spill{};
  // None may be null.
  std::function<void(std::size_t site)> on_site = [](std::size_t) {};
  std::function<void()> check_interrupt = [] {};
};

/// One walk over the floating-point model. Weights are rounded with GPTQ against the site's own
/// input, folded as the widest candidate of its input folds it, without compensation for errors
/// upstream (there are none here). A weight that other sites read too counts as if it were the
/// site's own: whether they share one that is rounded to nearest (shared_weights.h) is known only
/// once both have the same bits.
/// Throws Error kNumerical, naming the site, for NaN and infinite values.
std::vector<SiteCandidates> fit_candidates(const Model& model, const std::vector<Site>& sites,
                                           const Batches& batches, const Recipe& recipe,
                                           const Choices& choices,
                                           const FitCandidatesOptions& options);

}  // namespace repquant
