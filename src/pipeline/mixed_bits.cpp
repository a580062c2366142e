#include "pipeline/mixed_bits.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "base/text_table.h"
#include "recipe/bit_width.h"
#include "repquant/error.h"

namespace repquant {

double relative_sqnr_db(double error) {
  return error > 0 ? -10.0 * std::log10(error) : std::numeric_limits<double>::infinity();
}

void check_mixed(const MixedOptions& mixed, const Recipe& recipe) {
  const Candidates candidates = candidates_of(mixed.candidates);
  if (recipe.bits.weight_only()) {
    throw Error(ErrorKind::kUsage, {.what = "weight-only bits cannot be mixed",
                                    .where = mixed.search ? "--max-drop-kl" : "--target-bits",
                                    .expected = "activations of 2 to 8 bits",
                                    .got = to_string(recipe.bits),
                                    .hint = "leave out --bits, or give for example --bits w4a4"});
  }
  if (mixed.search) {
    if (mixed.search->max_kl > 0) return;
    throw Error(ErrorKind::kUsage, {.what = "the bound of the KL divergence is out of range",
                                    .where = "--max-drop-kl",
                                    .expected = "a positive number of nats, such as 0.05",
                                    .got = format_number(mixed.search->max_kl, 3)});
  }
  const int smallest = std::max(candidates.weight_bits.front(), candidates.activation_bits.front());
  if (!(mixed.target_bits >= smallest && mixed.target_bits <= 8)) {
    throw Error(ErrorKind::kUsage,
                {.what = "the target of average bits is out of range",
                 .where = "--target-bits",
                 .expected = "from " + std::to_string(smallest) + ", the smallest candidate, to 8",
                 .got = format_number(mixed.target_bits, 3)});
  }
}

MixedReport mixed_report(const Allocation& allocation, double target_bits) {
  return {.target_bits = target_bits,
          .weight_bits = allocation.average.weights,
          .activation_bits = allocation.average.activations,
          .estimated_sqnr_db = relative_sqnr_db(allocation.output_error),
          .estimated_kl = allocation.kl};
}

RankedWidths rank_widths(const Model& model, const SiteSearch& search,
                         const std::vector<std::vector<at::Tensor>>& batches, const Recipe& recipe,
                         const Candidates& candidates, int threads, const QuantizeHooks& hooks) {
  const auto on_site = [&](std::size_t site) {
    if (hooks.on_item) hooks.on_item(search.sites[site].path, site);
  };
  RankedWidths ranked{.choices = find_choices(search.sites, recipe, candidates), .table = {}};
  ranked.table = measure_errors(
      model, search.sites, batches, recipe, ranked.choices,
      {.threads = threads, .on_site = on_site, .check_interrupt = hooks.check_interrupt});
  return ranked;
}

MixedBits choose_mixed_bits(const Model& model, const SiteSearch& search,
                            const std::vector<std::vector<at::Tensor>>& batches,
                            const QuantizeOptions& options, const QuantizeHooks& hooks) {
  const MixedOptions& mixed = options.mixed.value();
  const auto [choices, table] =
      rank_widths(model, search, batches, options.recipe, candidates_of(mixed.candidates),
                  options.threads, hooks);
  const Allocation allocation =
      choose_bits(search.sites, choices, table, {mixed.target_bits, mixed.target_bits});
  return {.recipe = with_bits(options.recipe, search.sites, allocation.bits),
          .report = mixed_report(allocation, mixed.target_bits)};
}

}  // namespace repquant
