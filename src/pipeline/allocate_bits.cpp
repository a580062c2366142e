#include "pipeline/allocate_bits.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "base/text_table.h"
#include "pipeline/memory_limits.h"
#include "recipe/bit_width.h"
#include "repquant/error.h"

namespace repquant {

double relative_sqnr_db(double error) {
  return error > 0 ? -10.0 * std::log10(error) : std::numeric_limits<double>::infinity();
}

void check_bit_allocation(const BitAllocationOptions& bit_allocation, const Recipe& recipe) {
  const Candidates candidates = candidates_of(bit_allocation.candidates);
  if (recipe.bits.weight_only()) {
    throw Error(ErrorKind::kUsage, {.what = "weight-only bits cannot be mixed",
                                    .where = "`bits`",
                                    .expected = "activations of 2 to 8 bits",
                                    .got = to_string(recipe.bits),
                                    .hint = "leave out `bits`, or give for example `bits=w4a4`"});
  }
  if (bit_allocation.search) {
    if (bit_allocation.search->max_kl > 0) return;
    throw Error(ErrorKind::kUsage, {.what = "the bound of the KL divergence is out of range",
                                    .where = "`max_kl`",
                                    .expected = "a positive number of nats, such as 0.05",
                                    .got = format_number(bit_allocation.search->max_kl, 3)});
  }
  const int smallest = std::max(candidates.weight_bits.front(), candidates.activation_bits.front());
  if (!(bit_allocation.target_bits >= smallest && bit_allocation.target_bits <= 8)) {
    throw Error(ErrorKind::kUsage,
                {.what = "the target of average bits is out of range",
                 .where = "`target_bits`",
                 .expected = "from " + std::to_string(smallest) + ", the smallest candidate, to 8",
                 .got = format_number(bit_allocation.target_bits, 3)});
  }
}

BitAllocationReport allocation_report(const Allocation& allocation, double target_bits) {
  return {.target_bits = target_bits,
          .weight_bits = allocation.average.weights,
          .activation_bits = allocation.average.activations,
          .estimated_sqnr_db = relative_sqnr_db(allocation.output_error),
          .estimated_kl = allocation.kl};
}

RankedWidths rank_widths(const PreparedRun& run, const Batches& batches, const Recipe& recipe,
                         const Candidates& candidates, const SpillPlace& spill, int threads,
                         const Observer& observer) {
  const std::vector<Site>& sites = run.search.sites;
  const auto on_site = [&](std::size_t site) { observer.on_item(sites[site].path, site); };
  RankedWidths ranked{.choices = find_choices(sites, recipe, candidates), .table = {}};
  ranked.table = measure_errors(run.model, sites, batches, recipe, ranked.choices,
                                {.threads = threads,
                                 .spill = spill,
                                 .on_site = on_site,
                                 .check_interrupt = observer.check_interrupt});
  return ranked;
}

AllocatedBits allocate_bits(const PreparedRun& run, const QuantizeOptions& options,
                            const Observer& observer) {
  const BitAllocationOptions& bit_allocation = options.bit_allocation.value();
  const std::vector<Site>& sites = run.search.sites;
  const auto [choices, table] = rank_widths(
      run, run.calibration.batches, options.recipe, candidates_of(bit_allocation.candidates),
      spill_place(options.workdir, options.output), options.threads, observer);
  const Allocation allocation =
      choose_bits(sites, choices, table, {bit_allocation.target_bits, bit_allocation.target_bits});
  return {.recipe = with_bits(options.recipe, sites, allocation.bits),
          .report = allocation_report(allocation, bit_allocation.target_bits)};
}

}  // namespace repquant
