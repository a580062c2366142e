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

/// With weights.share_calls: the rounded weight of each quantized Linear, by its index in `sites`,
/// whose weight holds the same numbers and gets the same bits as another's, so that an artifact
/// stores it once. No call sees the data of the others, so it is rounded to nearest, and as no fold
/// can be in it, its inputs have one grid per tensor. `bits`: for each site.
std::map<std::size_t, QuantizedWeight> round_shared_weights(const std::vector<Site>& sites,
                                                            const std::vector<SiteBits>& bits,
                                                            const WeightRecipe& recipe,
                                                            int threads);

}  // namespace repquant
