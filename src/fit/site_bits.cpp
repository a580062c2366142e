#include "fit/site_bits.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "base/pattern.h"

namespace repquant {
namespace {

void set_bits(SiteBits& bits, int weight_bits, int activation_bits) {
  if (weight_bits != 0) bits.weight_bits = weight_bits;
  if (activation_bits != 0) bits.activation_bits = activation_bits;
}

/// Whether the sum of a row's products may be more than 32 bits hold.
bool may_overflow(const LinearSite& linear, const SiteBits& bits) {
  const std::int64_t codes = (std::int64_t{1} << bits.activation_bits) - 1;
  const std::int64_t weights = std::int64_t{1} << (bits.weight_bits - 1);
  return linear.weight.size(1) > std::numeric_limits<std::int32_t>::max() / (codes * weights);
}

}  // namespace

bool is_read_in_float(const std::vector<Site>& sites, const std::vector<SiteBits>& bits,
                      std::size_t index) {
  const auto* embedding = std::get_if<EmbeddingSite>(&sites[index].kind);
  if (embedding == nullptr) return false;
  const void* table = embedding->table.const_data_ptr();
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const LinearSite* linear = linear_of(sites[i]);
    if (!bits[i].quantized && linear != nullptr && linear->weight.const_data_ptr() == table) {
      return true;
    }
  }
  return false;
}

std::vector<SiteBits> resolve_bits(const std::vector<Site>& sites, const Recipe& recipe) {
  std::vector<SiteBits> bits(sites.size(),
                             {true, recipe.bits.weight_bits, recipe.bits.activation_bits});
  const auto weighted = [](const Site& site) {
    return linear_of(site) != nullptr || convolution_of(site) != nullptr;
  };
  const auto first = std::find_if(sites.begin(), sites.end(), weighted);
  const auto last = std::find_if(sites.rbegin(), sites.rend(), weighted);
  if (!recipe.bits.weight_only()) {
    if (last != sites.rend()) {
      set_bits(bits[static_cast<std::size_t>(sites.rend() - last) - 1],
               recipe.last_layer.weight_bits, recipe.last_layer.activation_bits);
    }
    if (first != sites.end()) {
      set_bits(bits[static_cast<std::size_t>(first - sites.begin())],
               recipe.first_layer.weight_bits, recipe.first_layer.activation_bits);
    }
  }
  for (std::size_t i = 0; i < sites.size(); ++i) {
    if (is_lookup(sites[i])) bits[i].weight_bits = recipe.embedding.bits;
    const auto* product = std::get_if<ScoresSite>(&sites[i].kind);
    if (product != nullptr && !product->softmax) {
      bits[i].activation_bits = std::max(bits[i].activation_bits, kProductBits);
    }
  }
  std::vector<std::string> paths;
  for (const auto& site : sites) paths.push_back(site.path);
  std::vector<bool> decided(sites.size(), false);
  for (std::size_t i = 0; i < recipe.overrides.size(); ++i) {
    const auto& override = recipe.overrides[i];
    const std::string where = "/overrides/" + std::to_string(i) + "/pattern";
    for (const auto index : match_names(override.pattern, paths, where)) {
      if (decided[index]) continue;
      decided[index] = true;
      set_bits(bits[index], override.weight_bits, override.activation_bits);
    }
  }
  for (const auto& pattern : recipe.exclude) {
    for (const auto index : match_names(pattern, paths, "`exclude`")) bits[index].quantized = false;
  }
  for (std::size_t i = 0; i < sites.size(); ++i) {
    if (is_lookup(sites[i])) {
      bits[i].activation_bits = kWeightOnlyBits;  // its output stays in floating point
      if (recipe.embedding.bits == 0) bits[i].quantized = false;
      continue;
    }
    const LinearSite* linear = linear_of(sites[i]);
    if (linear != nullptr && bits[i].activation_bits != kWeightOnlyBits &&
        may_overflow(*linear, bits[i])) {
      bits[i].activation_bits = kWeightOnlyBits;
    }
    const bool product = !weighted(sites[i]);
    if (product && (bits[i].activation_bits == kWeightOnlyBits || !recipe.attention.quantize)) {
      bits[i].quantized = false;  // weight-only recipes leave products of activations alone
    }
  }
  for (std::size_t i = 0; i < sites.size(); ++i) {
    if (is_lookup(sites[i]) && is_read_in_float(sites, bits, i)) bits[i].quantized = false;
  }
  return bits;
}

}  // namespace repquant
