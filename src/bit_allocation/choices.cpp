#include "bit_allocation/choices.h"

#include <algorithm>
#include <string>
#include <utility>

#include "fit/consumers.h"
#include "fit/site_bits.h"
#include "recipe/bit_width.h"
#include "repquant/error.h"

namespace repquant {
namespace {

void add_once(std::vector<int>& widths, int bits) {
  const auto at = std::lower_bound(widths.begin(), widths.end(), bits);
  if (at == widths.end() || *at != bits) widths.insert(at, bits);
}

/// Linears as the fit groups them, and every product by itself. Widths are still to be chosen, so
/// none of them keeps sites apart.
std::vector<std::vector<std::size_t>> find_groups(const std::vector<Site>& sites,
                                                  const std::vector<SiteChoices>& choices) {
  std::vector<SiteBits> bits(sites.size());
  for (std::size_t i = 0; i < sites.size(); ++i) {
    bits[i].quantized = !choices[i].activation_bits.empty();
  }
  std::vector<std::vector<std::size_t>> groups;
  for (InputGroup& group : group_inputs(sites, bits, std::vector<bool>(sites.size(), false))) {
    groups.push_back(std::move(group.sites));
  }
  for (std::size_t i = 0; i < sites.size(); ++i) {
    if (bits[i].quantized && linear_of(sites[i]) == nullptr) groups.push_back({i});
  }
  return groups;
}

}  // namespace

Candidates candidates_of(const std::vector<BitWidths>& pairs, const char* where) {
  Candidates candidates;
  for (const BitWidths& bits : pairs) {
    if (bits.weight_only()) {
      throw Error(ErrorKind::kUsage, {.what = "weight-only bits cannot be mixed",
                                      .where = where,
                                      .expected = "wXaY with Y from 2 to 8",
                                      .got = to_string(bits)});
    }
    add_once(candidates.weight_bits, bits.weight_bits);
    add_once(candidates.activation_bits, bits.activation_bits);
  }
  if (pairs.empty()) {
    throw Error(ErrorKind::kUsage, {.what = "no bit widths to choose from",
                                    .where = where,
                                    .expected = "a list such as w3a3,w4a4,w6a6,w8a8"});
  }
  return candidates;
}

Choices find_choices(const std::vector<Site>& sites, const Recipe& recipe,
                     const Candidates& candidates) {
  if (recipe.bits.weight_only()) {
    throw Error(ErrorKind::kUsage, {.what = "weight-only bits cannot be mixed",
                                    .where = "`bits`",
                                    .expected = "activations of 2 to 8 bits",
                                    .got = to_string(recipe.bits),
                                    .hint = "leave out `bits`, or give for example w4a4"});
  }
  // What the recipe states for a site does not move with the bits that it states for all of them.
  Recipe other = recipe;
  other.bits = {recipe.bits.weight_bits == 2 ? 3 : 2, recipe.bits.activation_bits == 2 ? 3 : 2};
  const auto bits = resolve_bits(sites, recipe), moved = resolve_bits(sites, other);
  Choices choices;
  std::vector<int> stated(sites.size(), 0);  // activation bits of the site, 0: free
  for (std::size_t i = 0; i < sites.size(); ++i) {
    auto& site = choices.sites.emplace_back();
    if (!bits[i].quantized || convolution_of(sites[i]) != nullptr) continue;
    if (linear_of(sites[i]) != nullptr) {
      const bool fixed = bits[i].weight_bits == moved[i].weight_bits;
      site.weight_bits = fixed ? std::vector<int>{bits[i].weight_bits} : candidates.weight_bits;
    }
    if (bits[i].activation_bits == kWeightOnlyBits) continue;
    const bool fixed = bits[i].activation_bits == moved[i].activation_bits;
    if (fixed) stated[i] = bits[i].activation_bits;
    site.activation_bits = fixed ? std::vector<int>{stated[i]} : candidates.activation_bits;
  }
  for (const auto& group : find_groups(sites, choices.sites)) {
    std::vector<std::size_t> together;
    const auto fixed =
        std::find_if(group.begin(), group.end(), [&](std::size_t i) { return stated[i] != 0; });
    const int width = fixed == group.end() ? 0 : stated[*fixed];
    for (const std::size_t i : group) {
      if (width != 0 && stated[i] == 0) choices.sites[i].activation_bits = {width};
      if (stated[i] == 0 || stated[i] == width) {
        together.push_back(i);
      } else {
        choices.groups.push_back({i});  // stated otherwise: it reads codes of its own
      }
    }
    choices.groups.push_back(std::move(together));
  }
  std::sort(choices.groups.begin(), choices.groups.end());
  return choices;
}

}  // namespace repquant
