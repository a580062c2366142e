#include "bit_allocation/choose_bits.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/text_table.h"
#include "bit_allocation/allocate.h"
#include "repquant/error.h"

namespace repquant {
namespace {

/// An item for the allocation: what its bits cost per bit, and its errors by width.
struct Item {
  std::int64_t size = 0;
  const std::vector<WidthError>* widths = nullptr;
};

std::int64_t size_of_activations(const Site& site) { return std::max<std::int64_t>(1, site.macs); }

std::vector<int> choose(const std::vector<Item>& items, double target, bool by_kl,
                        const char* what) {
  std::vector<std::vector<Choice>> choices;
  std::int64_t size = 0, least = 0;
  for (const Item& item : items) {
    auto& list = choices.emplace_back();
    size += item.size;
    least += item.size * item.widths->front().bits;
    for (const WidthError& width : *item.widths) {
      list.push_back({item.size * width.bits, by_kl ? width.kl : width.output_error});
    }
  }
  // A target that is itself an average may come out a rounding error below a whole number.
  constexpr double kRounding = 1e-12;
  const auto budget =
      static_cast<std::int64_t>(std::floor(target * static_cast<double>(size) * (1 + kRounding)));
  if (least > budget) {
    const double smallest = static_cast<double>(least) / static_cast<double>(size);
    throw Error(ErrorKind::kUsage,
                {.what = std::string("the target is below what the candidates and the recipe "
                                     "allow for ") +
                         what,
                 .where = "`target_bits`",
                 .expected = "at least " + format_number(std::ceil(smallest * 1000) / 1000, 3),
                 .got = format_number(target, 3),
                 .hint = "bits that the recipe states for single sites count too, such as the "
                         "8-bit input of the first layer (`first_layer.activation_bits=0`)"});
  }
  std::vector<int> bits;
  const auto chosen = allocate(choices, budget);
  for (std::size_t i = 0; i < items.size(); ++i) bits.push_back((*items[i].widths)[chosen[i]].bits);
  return bits;
}

bool has_kl(const ErrorTable& table) {
  const auto any = [](const std::vector<WidthError>& widths) {
    return std::any_of(widths.begin(), widths.end(), [](const auto& w) { return w.kl > 0; });
  };
  return std::any_of(table.sites.begin(), table.sites.end(),
                     [&](const SiteErrorRow& row) { return any(row.weights); });
}

/// Averages where every site takes the width that `pick` takes of its rising widths.
template <typename Pick>
TargetBits average_of(const std::vector<Site>& sites, const Choices& choices, const Pick& pick) {
  std::vector<SiteBits> bits;
  for (const SiteChoices& site : choices.sites) {
    bits.push_back({.quantized = !site.weight_bits.empty() || !site.activation_bits.empty(),
                    .weight_bits = site.weight_bits.empty() ? 8 : pick(site.weight_bits),
                    .activation_bits = site.activation_bits.empty() ? kWeightOnlyBits
                                                                    : pick(site.activation_bits)});
  }
  return average_bits(sites, bits);
}

/// Stands for itself as a pattern.
std::string escaped(const std::string& path) {
  std::string pattern;
  for (const char c : path) {
    if (c == '*' || c == '?' || c == '[') {
      pattern += std::string("[") + c + "]";
    } else {
      pattern += c;
    }
  }
  return pattern;
}

}  // namespace

TargetBits average_bits(const std::vector<Site>& sites, const std::vector<SiteBits>& bits) {
  double weights = 0, weight_bits = 0, macs = 0, activation_bits = 0;
  for (std::size_t i = 0; i < sites.size(); ++i) {
    if (!bits[i].quantized) continue;
    if (const at::Tensor weight = constant_of(sites[i]); weight.defined()) {
      const auto size = static_cast<double>(weight.numel());
      weights += size;
      weight_bits += size * bits[i].weight_bits;
    }
    if (bits[i].activation_bits == kWeightOnlyBits) continue;
    const auto size = static_cast<double>(size_of_activations(sites[i]));
    macs += size;
    activation_bits += size * bits[i].activation_bits;
  }
  return {.weights = weights > 0 ? weight_bits / weights : 0.0,
          .activations = macs > 0 ? activation_bits / macs : 0.0};
}

TargetBits smallest_average(const std::vector<Site>& sites, const Choices& choices) {
  return average_of(sites, choices, [](const std::vector<int>& widths) { return widths.front(); });
}

TargetBits largest_average(const std::vector<Site>& sites, const Choices& choices) {
  return average_of(sites, choices, [](const std::vector<int>& widths) { return widths.back(); });
}

Allocation choose_bits(const std::vector<Site>& sites, const Choices& choices,
                       const ErrorTable& table, const TargetBits& target) {
  const bool by_kl = has_kl(table);
  std::vector<Item> weights, activations;
  std::vector<std::size_t> weight_sites;
  Allocation allocation;
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const SiteChoices& site = choices.sites[i];
    allocation.bits.push_back(
        {.quantized = !site.weight_bits.empty() || !site.activation_bits.empty(),
         .weight_bits = 8,
         .activation_bits = kWeightOnlyBits});
    if (site.weight_bits.empty()) continue;
    weight_sites.push_back(i);
    weights.push_back({constant_of(sites[i]).numel(), &table.sites[i].weights});
  }
  for (std::size_t g = 0; g < choices.groups.size(); ++g) {
    Item item{.size = 0, .widths = &table.groups[g]};
    for (const std::size_t i : choices.groups[g]) item.size += size_of_activations(sites[i]);
    activations.push_back(item);
  }
  const auto weight_bits = choose(weights, target.weights, by_kl, "weights");
  const auto activation_bits = choose(activations, target.activations, by_kl, "activations");
  const auto count = [&allocation](const WidthError& error) {
    allocation.output_error += error.output_error;
    allocation.kl += error.kl;
  };
  for (std::size_t k = 0; k < weight_sites.size(); ++k) {
    allocation.bits[weight_sites[k]].weight_bits = weight_bits[k];
    count(*find_width(*weights[k].widths, weight_bits[k]));
  }
  for (std::size_t g = 0; g < choices.groups.size(); ++g) {
    for (const std::size_t i : choices.groups[g]) {
      allocation.bits[i].activation_bits = activation_bits[g];
    }
    count(*find_width(table.groups[g], activation_bits[g]));
  }
  allocation.average = average_bits(sites, allocation.bits);
  return allocation;
}

Recipe with_bits(const Recipe& recipe, const std::vector<Site>& sites,
                 const std::vector<SiteBits>& bits) {
  Recipe result = recipe;
  result.overrides.clear();
  for (std::size_t i = 0; i < sites.size(); ++i) {
    if (!bits[i].quantized || is_lookup(sites[i])) continue;
    result.overrides.push_back(
        {.pattern = escaped(sites[i].path),
         .weight_bits = constant_of(sites[i]).defined() ? bits[i].weight_bits : 0,
         .activation_bits = bits[i].activation_bits});
  }
  result.overrides.insert(result.overrides.end(), recipe.overrides.begin(), recipe.overrides.end());
  return result;
}

}  // namespace repquant
