#include "fit/shared_weights.h"

#include <tuple>
#include <utility>

#include "tensor/equal.h"

namespace repquant {

std::vector<std::vector<std::size_t>> sharing_linears(const std::vector<Site>& sites,
                                                      const std::vector<SiteBits>& bits,
                                                      const WeightRecipe& recipe) {
  std::vector<std::vector<std::size_t>> sharing;
  if (!recipe.share_calls) return sharing;
  EqualTensors weights;
  using Key = std::tuple<const void*, int, bool>;  // the weight, its bits, whether weight-only
  std::map<Key, std::vector<std::size_t>> readers;
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const LinearSite* linear = linear_of(sites[i]);
    if (linear == nullptr || !bits[i].quantized) continue;
    const bool weight_only = bits[i].activation_bits == kWeightOnlyBits;
    const void* weight = weights.first_of(linear->weight).data_ptr();
    readers[{weight, bits[i].weight_bits, weight_only}].push_back(i);
  }
  for (auto& [key, indices] : readers) {
    if (indices.size() > 1) sharing.push_back(std::move(indices));
  }
  return sharing;
}

std::map<std::size_t, QuantizedWeight> round_shared_weights(const std::vector<Site>& sites,
                                                            const std::vector<SiteBits>& bits,
                                                            const WeightRecipe& recipe,
                                                            int threads) {
  std::map<std::size_t, QuantizedWeight> rounded;
  for (const std::vector<std::size_t>& indices : sharing_linears(sites, bits, recipe)) {
    const std::size_t first = indices.front();
    WeightRecipe nearest = recipe;
    nearest.rounding = WeightRounding::kNearest;
    if (bits[first].activation_bits != kWeightOnlyBits) nearest.group_size = 0;
    const auto weight = quantize_weight(linear_of(sites[first])->weight.contiguous(), {},
                                        bits[first].weight_bits, nearest, threads);
    for (const std::size_t i : indices) rounded.emplace(i, weight);
  }
  return rounded;
}

}  // namespace repquant
