// Bits for every site under a target for their average.
#pragma once

#include <vector>

#include "bit_allocation/choices.h"
#include "bit_allocation/measure_errors.h"
#include "fit/site_bits.h"
#include "graph/site.h"
#include "repquant/recipe.h"

namespace repquant {

/// Largest average bits. Weights: mean over the elements of the quantized weights. Activations:
/// mean over the multiply-accumulates of the sites with quantized activations (products of
/// attention too), each at the site's activation bits.
struct TargetBits {
  double weights = 4.0;
  double activations = 4.0;
};

struct Allocation {
  std::vector<SiteBits> bits;  // one for each site
  TargetBits average;          // what came out, never above the target
  double output_error = 0.0;   // sum of the estimates, relative to the squared outputs
  double kl = 0.0;             // sum of the estimates, nats per row
};

/// The bits with the least sum of estimated KL divergences or, where there is none (outputs of one
/// value), output errors, that meet the target. Deterministic.
/// Throws Error kUsage if the target cannot be met, with the smallest average that can.
Allocation choose_bits(const std::vector<Site>& sites, const Choices& choices,
                       const ErrorTable& table, const TargetBits& target);

/// Weight and activation averages of `bits` (activations of 16 bits and sites that are not
/// quantized do not count).
TargetBits average_bits(const std::vector<Site>& sites, const std::vector<SiteBits>& bits);

/// The smallest and the largest averages that the candidates allow.
TargetBits smallest_average(const std::vector<Site>& sites, const Choices& choices);
TargetBits largest_average(const std::vector<Site>& sites, const Choices& choices);

/// `recipe` with an override for every quantized site in front of its own.
Recipe with_bits(const Recipe& recipe, const std::vector<Site>& sites,
                 const std::vector<SiteBits>& bits);

}  // namespace repquant
