// Linears that read one input, and which of them share its codes.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "fit/input_readers.h"
#include "fit/sensitivity.h"
#include "fit/site_bits.h"
#include "graph/site.h"

namespace repquant {

/// Linears that read one input, each output as sensitive as was measured; `consumers` are indices
/// in `sites`.
std::vector<InputReader> readers_of(const std::vector<Site>& sites,
                                    const std::vector<std::size_t>& consumers,
                                    const Sensitivities& sensitivities);

/// Linears that can read their input as the same codes.
struct InputGroup {
  const torch::jit::Node* norm = nullptr;  // that carries their fold; null: none does
  std::vector<std::size_t> sites;          // rising indices, at least one
};

/// The Linears with quantized inputs, each in one group. Those that read a norm are one group if
/// it can be folded: all its readers are quantized, with the same activation bits, and none has a
/// weight that stays as it is (`has_rounded_weight`, by site). Else those that read the same value
/// with the same bits are.
std::vector<InputGroup> group_inputs(const std::vector<Site>& sites,
                                     const std::vector<SiteBits>& bits,
                                     const std::vector<bool>& has_rounded_weight);

/// Sites of `group`, one for each value that they read but that which site `i` reads: other rows of
/// their norm.
std::vector<std::size_t> readers_of_other_rows(const std::vector<Site>& sites,
                                               const std::vector<std::size_t>& group,
                                               std::size_t i);

/// The group of each site; none for sites without a quantized Linear input.
std::vector<std::optional<std::size_t>> group_of_sites(const std::vector<InputGroup>& groups,
                                                       std::size_t sites);

}  // namespace repquant
