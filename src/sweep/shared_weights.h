// Weights that several Linears read, such as those of layers that a model applies many times.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <map>
#include <vector>

#include "gptq/gptq.h"
#include "graph/site.h"
#include "repquant/recipe.h"
#include "sweep/sweep.h"

namespace repquant {

/// With weights.share_calls such a weight is rounded once, so that an artifact stores it once. No
/// call sees the data of the others, so it is rounded to nearest, and as no fold can be in it, its
/// inputs have one grid per tensor.
class SharedWeights {
 public:
  /// `bits`: for each site. Weights are shared that hold the same numbers and get the same bits.
  SharedWeights(const std::vector<Site>& sites, const std::vector<SiteBits>& bits,
                const WeightRecipe& recipe, int threads);

  /// Whether another quantized Linear reads the weight of site `index` too.
  bool contains(std::size_t index) const { return group_of_.count(index) > 0; }

  /// The rounded weight; null if no other Linear reads it. Lives as long as this.
  const QuantizedWeight* find(std::size_t index) const;

 private:
  std::map<std::size_t, std::size_t> group_of_;  // of a site
  std::vector<QuantizedWeight> groups_;
};

}  // namespace repquant
