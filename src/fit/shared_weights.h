// Weights that several Linears read, such as those of layers that a model applies many times.
#pragma once

#include <cstddef>
#include <map>
#include <vector>

#include "fit/site_bits.h"
#include "gptq/gptq.h"
#include "graph/site.h"
#include "repquant/recipe.h"

namespace repquant {

/// With weights.share_calls: quantized Linears whose weights hold the same numbers and get the same
/// bits, so that an artifact stores one weight for all of a group; indices in `sites`, in order, at
/// least two in each group. `bits`: for each site.
std::vector<std::vector<std::size_t>> sharing_linears(const std::vector<Site>& sites,
                                                      const std::vector<SiteBits>& bits,
                                                      const WeightRecipe& recipe);

/// The rounded weight of each of them, by its index in `sites`. No call sees the data of the
/// others, so it is rounded to nearest, and as no fold can be in it, its inputs have one grid per
/// tensor.
std::map<std::size_t, QuantizedWeight> round_shared_weights(const std::vector<Site>& sites,
                                                            const std::vector<SiteBits>& bits,
                                                            const WeightRecipe& recipe,
                                                            int threads);

}  // namespace repquant
