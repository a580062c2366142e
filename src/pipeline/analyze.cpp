#include "repquant/analyze.h"

#include <algorithm>
#include <tuple>

#include "base/atomic_file.h"
#include "base/clock.h"
#include "evaluate/model_file.h"
#include "pipeline/allocate_bits.h"
#include "pipeline/memory_limits.h"
#include "pipeline/prepare.h"
#include "recipe/json.h"
#include "repquant/error.h"
#include "tensor/parallel.h"
#include "tensor/products.h"

namespace repquant {
namespace {

/// What a row sums up, before it is put into decibels.
struct Errors {
  double local = 0.0;
  double output = 0.0;
  double kl = 0.0;

  void add(const WidthError* width) {
    if (width == nullptr) return;
    local += width->local_noise;
    output += width->output_error;
    kl += width->kl;
  }
};

struct Ranked {
  SensitivityRow row;
  Errors errors;
};

std::vector<SensitivityRow> rank(std::vector<Ranked> ranked) {
  // Paths are unique, so that equal errors have an order, too.
  std::sort(ranked.begin(), ranked.end(), [](const Ranked& a, const Ranked& b) {
    return std::tie(b.errors.kl, b.errors.output, a.row.path) <
           std::tie(a.errors.kl, a.errors.output, b.row.path);
  });
  double total = 0.0, output = 0.0, kl = 0.0;
  for (const Ranked& entry : ranked) total += entry.errors.output;
  std::vector<SensitivityRow> rows;
  for (Ranked& entry : ranked) {
    SensitivityRow& row = entry.row;
    output += entry.errors.output;
    kl += entry.errors.kl;
    row.local_sqnr_db = relative_sqnr_db(entry.errors.local);
    row.output_sqnr_db = relative_sqnr_db(entry.errors.output);
    row.kl = entry.errors.kl;
    row.share = total > 0 ? entry.errors.output / total : 0.0;
    row.cumulative_sqnr_db = relative_sqnr_db(output);
    row.cumulative_kl = kl;
    rows.push_back(std::move(row));
  }
  return rows;
}

/// `bits` of the sites that have a choice; what has none is neither ranked nor averaged.
std::vector<SiteBits> bits_of_choices(const Choices& choices, std::vector<SiteBits> bits) {
  for (std::size_t i = 0; i < bits.size(); ++i) {
    const SiteChoices& site = choices.sites[i];
    if (site.weight_bits.empty() && site.activation_bits.empty()) bits[i].quantized = false;
  }
  return bits;
}

std::vector<SensitivityRow> rows_of(const std::vector<Site>& sites,
                                    const std::vector<SiteBits>& bits, const ErrorTable& table,
                                    const Allocation& allocation) {
  std::vector<Ranked> ranked;
  for (std::size_t i = 0; i < sites.size(); ++i) {
    if (!bits[i].quantized) continue;
    Ranked entry;
    entry.row.path = sites[i].path;
    entry.row.kind = name_of(kind_of(sites[i]));
    entry.row.macs = sites[i].macs;
    entry.row.activation_bits = bits[i].activation_bits;
    entry.row.chosen_activation_bits = allocation.bits[i].activation_bits;
    if (const at::Tensor weight = constant_of(sites[i]); weight.defined()) {
      entry.row.parameters = weight.numel();
      entry.row.weight_bits = bits[i].weight_bits;
      entry.row.chosen_weight_bits = allocation.bits[i].weight_bits;
      entry.errors.add(find_width(table.sites[i].weights, bits[i].weight_bits));
    }
    entry.errors.add(find_width(table.sites[i].activations, bits[i].activation_bits));
    ranked.push_back(std::move(entry));
  }
  return rank(std::move(ranked));
}

}  // namespace

AnalyzeReport analyze(const AnalyzeOptions& options, const Observer& observer) {
  const BitWidths own = options.recipe.bits;
  BitAllocationOptions bit_allocation{.target_bits = options.target_bits.value_or(8.0),
                                      .candidates = options.candidates};
  if (!own.weight_only()) bit_allocation.candidates.push_back(own);
  check_bit_allocation(bit_allocation, options.recipe);
  require_samples(options.calib);
  check_model_file(options.model, options.trust);
  if (!options.output.empty()) check_output(options.output, options.force);
  const OperatorThreads one_thread(1);
  const FastProducts fast_products;
  CalibrationCache cache;
  const PreparedRun run = prepare({.model = options.model,
                                   .samples = options.calib,
                                   .preset = options.preset,
                                   .threads = options.threads,
                                   .trust = options.trust},
                                  options.recipe, observer, cache);
  const std::vector<Site>& sites = run.search.sites;
  require_quantized(run.search, run.bits);
  check_run_fits(run, options.recipe.weights);

  begin_phase(observer, "rank", sites.size());
  const auto [choices, table] = rank_widths(
      run, run.calibration.batches, options.recipe, candidates_of(bit_allocation.candidates),
      spill_place("", options.output), options.threads, observer);
  // What the recipe states for single sites may be above its bits; then so is the least target.
  const std::vector<SiteBits> bits = bits_of_choices(choices, run.bits);
  TargetBits target = average_bits(sites, bits);
  if (options.target_bits) target = {*options.target_bits, *options.target_bits};
  const Allocation allocation = choose_bits(sites, choices, table, target);

  AnalyzeReport report;
  report.sites = rows_of(sites, bits, table, allocation);
  report.chosen = allocation_report(allocation, std::max(target.weights, target.activations));
  report.target_weight_bits = target.weights;
  report.target_activation_bits = target.activations;
  report.protocol = run.source.protocol;
  report.samples = run.calibration.samples;
  if (!options.output.empty()) {
    const Recipe recipe = with_bits(options.recipe, sites, allocation.bits);
    write_file(options.output, recipe_to_json(recipe), options.force);
    report.output = options.output;
  }
  report.seconds = seconds_since(run.start);
  return report;
}

}  // namespace repquant
