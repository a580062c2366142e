#include "pipeline/coverage.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "base/overloaded.h"
#include "base/text_table.h"
#include "fit/shared_weights.h"
#include "repquant/error.h"

namespace repquant {
namespace {

constexpr double kFloatBits = 32.0;
constexpr std::size_t kNamedGaps = 5;
constexpr const char* kExcluded = "excluded by the recipe";

/// Why the recipe leaves a product of activations in floating point.
std::string reason_of_product(const Recipe& recipe) {
  if (recipe.bits.weight_only()) {
    return "weight-only recipe: products of activations stay in floating point";
  }
  return recipe.attention.quantize ? kExcluded : "attention.quantize is false";
}

/// Why a site of the model is not quantized.
CoverageGap excluded_gap(const Site& site, const Recipe& recipe, bool read_in_float) {
  const std::string reason =
      std::visit(Overloaded{[](const LinearSite&) -> std::string { return kExcluded; },
                            [](const GroupedConvolutionSite&) -> std::string { return kExcluded; },
                            [&](const ScoresSite&) { return reason_of_product(recipe); },
                            [&](const AttendSite&) { return reason_of_product(recipe); },
                            [&](const EmbeddingSite&) -> std::string {
                              if (read_in_float) {
                                return "a Linear that stays in floating point reads the same table";
                              }
                              return recipe.embedding.bits == 0 ? "embedding.bits is 0" : kExcluded;
                            }},
                 site.kind);
  const at::Tensor constant = constant_of(site);
  return {.path = site.path,
          .op = name_of(kind_of(site)),
          .reason = reason,
          .requested = true,
          .parameters = constant.defined() ? constant.numel() : 0,
          .macs = site.macs};
}

std::string shares_text(const Coverage& coverage) {
  std::string text = format_percent(coverage.parameter_share(), 2) + " of the parameters, ";
  if (coverage.macs > 0) {
    text += format_percent(coverage.mac_share(), 2) + " of the multiply-accumulates, ";
  }
  return text + format_percent(coverage.byte_share(), 2) + " of the bytes";
}

}  // namespace

Coverage coverage_of(const Model& model, const SiteSearch& search,
                     const std::vector<SiteBits>& given, const Recipe& recipe,
                     const std::vector<FailedSite>& failed) {
  std::map<std::string, std::string> reasons;
  for (const FailedSite& site : failed) reasons[site.path] = site.note();
  std::vector<SiteBits> bits = given;
  for (std::size_t i = 0; i < bits.size(); ++i) {
    if (reasons.count(search.sites[i].path) > 0) bits[i].quantized = false;
  }
  Coverage coverage;
  coverage.parameters = model.tensors.parameters - model.tensors.unread;
  coverage.unread_parameters = model.tensors.unread;
  coverage.other_bytes = model.tensors.others;
  coverage.notes = model.notes;
  std::map<std::tuple<int, int, int>, CoverageRow> rows;
  double bit_sum = 0.0;
  // What several sites share is stored once for each of them that is quantized, Linears with one
  // weight apart, and once more if others read it in floating point.
  std::set<const void*> stored, floating;
  const auto count_again = [&](const Site& site, bool quantized) {
    const at::Tensor constant = constant_of(site);
    if (!constant.defined()) return;
    const void* data = constant.const_data_ptr();
    if (!quantized && !floating.insert(data).second) return;
    if (!stored.insert(data).second) coverage.parameters += constant.numel();
  };
  std::set<std::size_t> repeated;  // Linears whose codes one before them stores
  for (const auto& sharing : sharing_linears(search.sites, bits, recipe.weights)) {
    repeated.insert(sharing.begin() + 1, sharing.end());
  }
  for (std::size_t i = 0; i < search.sites.size(); ++i) {
    const Site& site = search.sites[i];
    coverage.macs += site.macs;
    if (repeated.count(i) == 0) count_again(site, bits[i].quantized);
    if (!bits[i].quantized) {
      coverage.gaps.push_back(excluded_gap(site, recipe, is_read_in_float(search.sites, bits, i)));
      if (const auto found = reasons.find(site.path); found != reasons.end()) {
        coverage.gaps.back().reason = found->second;
        coverage.gaps.back().requested = false;
      }
      continue;
    }
    const at::Tensor constant = constant_of(site);
    const int weight_bits = constant.defined() ? bits[i].weight_bits : 0;
    auto& row = rows[{static_cast<int>(kind_of(site)), weight_bits, bits[i].activation_bits}];
    row.kind = name_of(kind_of(site));
    row.weight_bits = weight_bits;
    row.activation_bits = bits[i].activation_bits;
    ++row.sites;
    row.macs += site.macs;
    coverage.quantized_macs += site.macs;
    if (!constant.defined() || repeated.count(i) > 0) continue;
    const std::int64_t elements = constant.numel();
    row.parameters += elements;
    coverage.quantized_parameters += elements;
    bit_sum += static_cast<double>(weight_bits) * static_cast<double>(elements);
  }
  for (const auto& skipped : search.skipped) {
    coverage.macs += skipped.macs;
    coverage.gaps.push_back({.path = skipped.path,
                             .op = skipped.op,
                             .reason = skipped.reason,
                             .requested = false,
                             .parameters = skipped.parameters,
                             .macs = skipped.macs});
  }
  // A weight that the file holds once and operators read in several forms counts for each form.
  std::int64_t counted = coverage.quantized_parameters;
  for (const auto& gap : coverage.gaps) counted += gap.parameters;
  coverage.parameters = std::max(coverage.parameters, counted);
  for (auto& [key, row] : rows) coverage.rows.push_back(std::move(row));
  if (coverage.parameters > 0) {
    const auto rest = static_cast<double>(coverage.parameters - coverage.quantized_parameters);
    coverage.average_bits =
        (bit_sum + kFloatBits * rest) / static_cast<double>(coverage.parameters);
  }
  return coverage;
}

void check_coverage(const Coverage& coverage, bool strict, double minimum) {
  std::vector<CoverageGap> gaps;
  for (const auto& gap : coverage.gaps) {
    if (strict ? !gap.requested : true) gaps.push_back(gap);
  }
  const bool too_low = coverage.smallest_share() < minimum;
  if (!too_low && !(strict && !gaps.empty())) return;

  std::stable_sort(gaps.begin(), gaps.end(), [](const auto& a, const auto& b) {
    return std::pair(a.macs, a.parameters) > std::pair(b.macs, b.parameters);
  });
  std::string list;
  for (std::size_t i = 0; i < std::min(gaps.size(), kNamedGaps); ++i) {
    list += i > 0 ? "; " : "";
    list += gaps[i].path + " (" + gaps[i].op + "): " + gaps[i].reason;
  }
  if (gaps.size() > kNamedGaps) {
    list += "; and " + std::to_string(gaps.size() - kNamedGaps) + " more";
  }
  if (too_low) {
    throw Error(ErrorKind::kGate,
                {.what = "the coverage is below `min_coverage`",
                 .where = list,
                 .expected = "at least " + format_percent(minimum, 2) +
                             " of the parameters, the multiply-accumulates and the bytes",
                 .got = shares_text(coverage),
                 .hint = "repquant inspect MODEL shows every operator and the reason"});
  }
  throw Error(ErrorKind::kGate,
              {.what = "operators would stay in floating point (`strict`)",
               .where = list,
               .expected = "every multiply-accumulate operator quantized or excluded on purpose",
               .got = counted(gaps.size(), "operator") + " left",
               .hint = "without `strict` they are listed in the coverage table"});
}

}  // namespace repquant
