#include "fit/consumers.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <map>
#include <set>
#include <tuple>

#include "repquant/recipe.h"

namespace repquant {
namespace {

using torch::jit::Node;

bool quantizes_input(const Site& site, const SiteBits& bits) {
  return linear_of(site) != nullptr && bits.quantized && bits.activation_bits != kWeightOnlyBits;
}

/// The norms whose fold all readers allow.
std::set<const Node*> foldable_norms(const std::vector<Site>& sites,
                                     const std::vector<SiteBits>& bits,
                                     const std::vector<bool>& has_rounded_weight) {
  std::map<const Node*, int> activation_bits;
  std::set<const Node*> foldable, refused;
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const LinearSite* linear = linear_of(sites[i]);
    if (linear == nullptr || linear->norm == nullptr) continue;
    foldable.insert(linear->norm);
    if (has_rounded_weight[i] || !quantizes_input(sites[i], bits[i]) ||
        activation_bits.emplace(linear->norm, bits[i].activation_bits).first->second !=
            bits[i].activation_bits) {
      refused.insert(linear->norm);
    }
  }
  for (const Node* norm : refused) foldable.erase(norm);
  return foldable;
}

}  // namespace

std::vector<InputReader> readers_of(const std::vector<Site>& sites,
                                    const std::vector<std::size_t>& consumers,
                                    const Sensitivities& sensitivities) {
  std::vector<InputReader> readers;
  for (const std::size_t i : consumers) {
    const Sensitivity* found = find_sensitivity(sensitivities, sites[i].node->output());
    readers.push_back({.weight = std::get<LinearSite>(sites[i].kind).weight,
                       .counts = found != nullptr ? found->channels : at::Tensor()});
  }
  return readers;
}

std::vector<InputGroup> group_inputs(const std::vector<Site>& sites,
                                     const std::vector<SiteBits>& bits,
                                     const std::vector<bool>& has_rounded_weight) {
  const auto foldable = foldable_norms(sites, bits, has_rounded_weight);
  using Key = std::tuple<const Node*, const torch::jit::Value*, int>;  // norm or input and its bits
  std::map<Key, std::size_t> known;
  std::vector<InputGroup> groups;
  for (std::size_t i = 0; i < sites.size(); ++i) {
    if (!quantizes_input(sites[i], bits[i])) continue;
    const Node* norm = std::get<LinearSite>(sites[i].kind).norm;
    if (foldable.count(norm) == 0) norm = nullptr;
    const Key key{norm, norm != nullptr ? nullptr : sites[i].node->input(0),
                  bits[i].activation_bits};
    const auto [group, is_new] = known.emplace(key, groups.size());
    if (is_new) groups.push_back({norm, {}});
    groups[group->second].sites.push_back(i);
  }
  return groups;
}

std::vector<std::size_t> readers_of_other_rows(const std::vector<Site>& sites,
                                               const std::vector<std::size_t>& group,
                                               std::size_t i) {
  std::vector<std::size_t> readers;
  std::set<const torch::jit::Value*> seen{sites[i].node->input(0)};
  for (const std::size_t other : group) {
    if (seen.insert(sites[other].node->input(0)).second) readers.push_back(other);
  }
  return readers;
}

std::vector<std::optional<std::size_t>> group_of_sites(const std::vector<InputGroup>& groups,
                                                       std::size_t sites) {
  std::vector<std::optional<std::size_t>> group_of(sites);
  for (std::size_t g = 0; g < groups.size(); ++g) {
    for (const std::size_t i : groups[g].sites) group_of[i] = g;
  }
  return group_of;
}

}  // namespace repquant
