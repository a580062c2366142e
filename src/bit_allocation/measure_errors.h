// What each candidate width of each site costs in the model's outputs, to second order.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <functional>
#include <vector>

#include "bit_allocation/choices.h"
#include "fit/spill.h"
#include "graph/site.h"
#include "repquant/recipe.h"
#include "tensor/samples.h"

namespace repquant {

/// One width, quantized alone.
struct WidthError {
  int bits = 0;
  double local_noise = 0.0;   // squared error of the site's output / squared output
  double output_error = 0.0;  // estimated squared error of the model's outputs / squared outputs
  double kl = 0.0;            // estimated KL divergence, nats per row, of the outputs as logits
};

/// The entry with these bits; null where there is none.
const WidthError* find_width(const std::vector<WidthError>& widths, int bits);

struct SiteErrorRow {
  std::vector<WidthError> weights;      // as SiteChoices::weight_bits
  std::vector<WidthError> activations;  // as SiteChoices::activation_bits
};

struct ErrorTable {
  std::vector<SiteErrorRow> sites;              // one for each site
  std::vector<std::vector<WidthError>> groups;  // activations of Choices::groups, all at once
};

struct MeasureErrorsOptions {
  int threads = 1;
  SpillPlace spill{};
  // None may be null.
  std::function<void(std::size_t site)> on_site = [](std::size_t) {};  // candidates are fitted
  std::function<void()> check_interrupt = [] {};
};

/// Fits the candidates on the floating-point model, then one forward and two backward passes over
/// the batches: sum over tokens of (g e)^2, e the error of the site's output at that token and g
/// the gradient there of a random projection of the outputs (fit/gradients.h). Errors of
/// different tokens count as independent. Deterministic, whatever `threads`. Throws Error
/// kUnsupported for a model that cannot be differentiated, kNumerical for values that are not
/// finite.
ErrorTable measure_errors(const Model& model, const std::vector<Site>& sites,
                          const Batches& batches, const Recipe& recipe, const Choices& choices,
                          const MeasureErrorsOptions& options);

}  // namespace repquant
