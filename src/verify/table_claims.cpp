#include "verify/table_claims.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/text_table.h"
#include "format/class_source.h"
#include "format/codes.h"
#include "gptq/codebook.h"
#include "graph/rewrite.h"
#include "pipeline/form_reports.h"
#include "plan/site_kind.h"
#include "repquant/recipe.h"
#include "tensor/equal.h"

namespace repquant {
namespace {

std::int64_t max_code(int bits) { return (std::int64_t{1} << bits) - 1; }

/// The class that a site's own submodule has.
ClassKind class_of(const ArtifactSite& row, const StoredStates& stored) {
  const SiteReport& site = row.site;
  const std::optional<SiteKind> kind = find_site_kind(site.kind);
  if (!kind) refute("site " + site.path + " is of the kind " + site.kind + ", which there is not");
  switch (*kind) {
    case SiteKind::kScores:
    case SiteKind::kProduct:
      return ClassKind::kScores;
    case SiteKind::kAttend:
      return ClassKind::kAttend;
    case SiteKind::kEmbedding:
      return ClassKind::kEmbedding;
    case SiteKind::kGroupedConvolution:
      return ClassKind::kConvolution;
    case SiteKind::kLinear:
    case SiteKind::kPatchEmbedding:
    case SiteKind::kWindowedLinear:
      break;
  }
  const auto input = stored.find(row.input_module);
  const bool groups = input != stored.end() && input->second.kind == "GroupQuantize";
  return groups || site.activation_bits == kWeightOnlyBits ? ClassKind::kWeightOnlyLinear
                                                           : ClassKind::kLinear;
}

/// The state of a submodule that the table names for a site.
const StoredState& state_of(const Subject& subject, const std::string& path,
                            const std::string& module, const std::vector<std::string>& classes) {
  const auto found = subject.stored.find(module);
  if (found == subject.stored.end()) {
    refute("site " + path + " names the submodule " + module + ", which the file does not have");
  }
  const std::string& kind = found->second.kind;
  if (std::find(classes.begin(), classes.end(), kind) == classes.end()) {
    refute("the submodule " + module + " of site " + path + " is a " + kind + ", not a " +
           classes.front());
  }
  return found->second;
}

void check_most(const std::string& path, const std::string& what, std::int64_t got,
                std::int64_t most, int bits) {
  if (got <= most) return;
  refute("site " + path + " states " + std::to_string(bits) + " bits, but " + what + " is " +
         std::to_string(got) + ", more than " + std::to_string(most));
}

void check_bits(const ArtifactSite& row, ClassKind kind, const StoredState& state) {
  const SiteReport& site = row.site;
  const int bits = site.activation_bits;
  if (site.weight_bits > 0 && state.integer("bits") != site.weight_bits) {
    refute("site " + site.path + " states " + std::to_string(site.weight_bits) +
           "-bit weights, but stores codes of " + std::to_string(state.integer("bits")) + " bits");
  }
  switch (kind) {
    case ClassKind::kLinear: {
      const std::int64_t largest = max_code(bits);
      const bool square = bits <= 4 && state.integer("max_product_code") == largest * largest;
      // Codes of a grid per token stand for levels: check_input() counts those.
      if (!square && row.scale_module.empty()) {
        check_most(site.path, "the largest code of its input", state.integer("max_product_code"),
                   largest, bits);
      }
      break;
    }
    case ClassKind::kScores:
      for (const char* name : {"left_bits", "right_bits"}) {
        check_most(site.path, name, state.integer(name), bits, bits);
      }
      break;
    case ClassKind::kAttend:
      check_most(site.path, "the width of its softmax codes", state.integer("bits"), bits, bits);
      break;
    case ClassKind::kConvolution:
      check_most(site.path, "the largest code of its input", state.integer("max_code"),
                 bits == kWeightOnlyBits ? 0 : max_code(bits), bits);
      break;
    // The first two read floating point (check_input() counts the levels of groups), the others are
    // of no site.
    case ClassKind::kWeightOnlyLinear:
    case ClassKind::kEmbedding:
    case ClassKind::kNormQuantize:
    case ClassKind::kQuantize:
    case ClassKind::kSideColumns:
    case ClassKind::kTokenRange:
    case ClassKind::kTokenQuantize:
    case ClassKind::kTokenScale:
    case ClassKind::kCacheQuantize:
    case ClassKind::kCacheDequantize:
    case ClassKind::kRowScale:
    case ClassKind::kRowQuantize:
    case ClassKind::kGroupQuantize:
      break;
  }
}

void check_input(const Subject& subject, const ArtifactSite& row) {
  if (row.input_module.empty()) return;
  const StoredState& state =
      state_of(subject, row.site.path, row.input_module,
               {"Quantize", "NormQuantize", "TokenQuantize", "GroupQuantize"});
  const int bits = row.site.activation_bits;
  if (state.values.count("levels") > 0) {
    check_most(row.site.path, "the number of levels that its input gets",
               state.tensor("levels").numel(), max_code(bits) + 1, bits);
  } else {
    check_most(row.site.path, "the largest code that its input gets", state.integer("max_code"),
               max_code(bits), bits);
  }
}

/// Which values the bytes of a tensor have: int8 codes, or two nibbles (code + 8) a byte.
std::array<bool, 256> values_of(const at::Tensor& codes, bool packed) {
  std::array<bool, 256> seen{};  // at code + 128
  const at::Tensor flat = codes.contiguous();
  const auto* bytes = static_cast<const std::uint8_t*>(flat.const_data_ptr());
  for (std::int64_t i = 0; i < flat.numel(); ++i) {
    if (packed) {
      seen[120U + bytes[i] % 16U] = true;
      seen[120U + bytes[i] / 16U] = true;
    } else {
      seen[static_cast<std::uint8_t>(bytes[i] + 128U)] = true;
    }
  }
  return seen;
}

bool has_weight_levels(const StoredState& state) {
  return state.kind == "Linear" || state.kind == "WeightOnlyLinear";
}

/// How many different codes a submodule has.
int distinct_codes(const std::string& module, const StoredState& state, int bits) {
  const std::array<bool, 256> seen = values_of(state.tensor("codes"), bits <= 4);
  // Above 4 bits a Linear's codes are stored as their levels.
  const bool levels = has_weight_levels(state) && bits > 4 && bits <= kMostCodebookBits;
  const int half = 1 << (bits - 1), bound = max_weight_level(bits);
  const int low = levels ? -bound : -half, high = levels ? bound : half - 1;
  int count = 0;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    if (!seen[i]) continue;
    const int code = static_cast<int>(i) - 128;
    ++count;
    if (code < low || code > high) {
      refute("the submodule " + module + " has " + std::to_string(bits) +
             "-bit codes, but one of them is " + std::to_string(code));
    }
  }
  if (count > 1 << bits) {
    refute("the submodule " + module + " has " + std::to_string(bits) + "-bit codes, but " +
           std::to_string(count) + " different ones");
  }
  return count;
}

/// Throws unless each level is above the one before it: of equal ones, codes would stand for the
/// same value, and of falling ones the nearest would not be found.
void check_rising(const std::string& module, const at::Tensor& levels) {
  const at::Tensor values = levels.to(at::kInt);
  const std::int64_t steps = values.numel() - 1;
  if (values.narrow(0, 1, steps).gt(values.narrow(0, 0, steps)).all().item<bool>()) return;
  refute("the levels of the submodule " + module + " do not rise from each to the next");
}

/// Levels of a weight: all whole numbers, or those of its bits in the middle and their ends beside
/// them, up to 16.
void check_weight_levels(const std::string& module, const StoredState& state) {
  const std::int64_t bits = state.integer("bits");
  if (bits > 4) return;  // the codes themselves
  const at::Tensor all = state.tensor("levels");
  if (at::equal(all, nibble_levels({}))) return;
  const at::Tensor levels = all.narrow(0, 8 - (1 << (bits - 1)), 1 << bits);
  check_rising(module, levels);
  if (!at::equal(all, nibble_levels(levels))) {
    refute("the submodule " + module + " has other levels than those of " + std::to_string(bits) +
           " bits");
  }
}

void check_levels(const std::string& module, const StoredState& state) {
  if (state.values.count("levels") == 0) return;
  if (has_weight_levels(state)) {
    check_weight_levels(module, state);
    return;
  }
  const at::Tensor levels = state.tensor("levels");
  check_rising(module, levels);
  const std::int64_t largest = levels[-1].item<std::int64_t>(), top = state.integer("top");
  if (largest > top) {
    refute("the levels of the submodule " + module + " reach " + std::to_string(largest) +
           ", beyond " + std::to_string(top));
  }
}

void check_finite(const std::string& module, const StoredState& state) {
  for (const char* name :
       {"scale", "weight_scale", "bias", "weight", "multiplier", "offset", "zero_point"}) {
    const auto found = state.values.find(name);
    if (found == state.values.end() || !found->second.isTensor()) continue;
    if (at::isfinite(found->second.toTensor()).all().item<bool>()) continue;
    refute("the submodule " + module + " holds a " + name + " that is not finite");
  }
}

struct Sums {
  std::size_t sites = 0;
  std::int64_t parameters = 0, macs = 0;
  std::int64_t stored = 0;  // parameters, of codes that several sites share once
};

/// Calls of one layer count once, sites whose codes are equal by chance each.
bool agree(const Sums& stated, const Sums& found) {
  return stated.sites == found.sites && stated.macs == found.macs &&
         stated.parameters >= found.stored && stated.parameters <= found.parameters;
}

/// Elements of the codes that a site's submodule stores, or nothing for a product.
std::int64_t stored_elements(const StoredState& state) {
  if (state.values.count("columns") == 0) return 0;
  const char* rows = state.kind == "Embedding" ? "scale" : "bias";
  return state.tensor(rows).size(0) * state.integer("columns");
}

std::set<std::string> attributes_in(const torch::jit::Module& root) {
  std::set<std::string> names;
  const auto graph = torch::jit::toGraphFunction(root.get_method("forward").function()).graph();
  for (const auto* node : all_nodes(*graph)) {
    if (node->kind() == c10::prim::GetAttr) names.insert(node->s(c10::attr::name));
  }
  return names;
}

}  // namespace

std::string look_at_table(const Subject& subject) {
  std::size_t quantized = 0;
  for (const ArtifactSite& row : subject.info.sites) {
    if (row.module.empty()) {
      if (row.site.weight_bits == 0 && row.site.activation_bits == 0) continue;
      refute("site " + row.site.path + " states bits, but has no submodule");
    }
    ++quantized;
    const ClassKind kind = class_of(row, subject.stored);
    check_bits(row, kind, state_of(subject, row.site.path, row.module, {class_source(kind).name}));
    check_input(subject, row);
    if (!row.side_module.empty()) {
      state_of(subject, row.site.path, row.side_module, {"SideColumns"});
    }
    if (!row.scale_module.empty()) {
      state_of(subject, row.site.path, row.scale_module, {"TokenScale"});
    }
  }
  return counted(subject.info.sites.size(), "site") + ", " + std::to_string(quantized) +
         " of them quantized, each with its submodules, of the right class and with the bits "
         "stated";
}

std::string look_at_codes(const StoredStates& stored) {
  struct Width {
    std::size_t tensors = 0;
    int most = 0;
  };
  std::map<int, Width> widths;
  for (const auto& [module, state] : stored) {
    check_finite(module, state);
    check_levels(module, state);
    if (state.values.count("codes") == 0) continue;
    // The bits of side columns are those of their input; their weights have eight.
    const int bits = state.kind == "SideColumns" ? 8 : static_cast<int>(state.integer("bits"));
    Width& width = widths[bits];
    ++width.tensors;
    width.most = std::max(width.most, distinct_codes(module, state, bits));
  }
  std::string text;
  for (const auto& [bits, width] : widths) {
    text += (text.empty() ? "" : "; ") + std::to_string(bits) + " bits: at most " +
            counted(width.most, "different code") + " in each of " +
            counted(width.tensors, "tensor");
  }
  return text.empty() ? "no weight is stored as codes" : text;
}

std::string look_at_coverage(const Subject& subject) {
  const Coverage& coverage = subject.info.coverage;
  std::map<std::string, Sums> stated, found;
  for (const CoverageRow& row : coverage.rows) {
    Sums& sums = stated[row.kind];
    sums.sites += static_cast<std::size_t>(row.sites);
    sums.parameters += row.parameters;
    sums.macs += row.macs;
  }
  Sums all;
  EqualTensors codes;
  std::set<const void*> seen;
  for (const ArtifactSite& row : subject.info.sites) {
    if (row.module.empty()) continue;
    const StoredState& state = subject.stored.at(row.module);
    const std::int64_t elements = stored_elements(state);
    const bool first =
        elements > 0 && seen.insert(codes.first_of(state.tensor("codes")).const_data_ptr()).second;
    for (Sums* sums : {&found[row.site.kind], &all}) {
      ++sums->sites;
      sums->parameters += row.site.parameters;
      sums->macs += row.site.macs;
      sums->stored += first ? elements : 0;
    }
    if (elements != row.site.parameters) {
      refute("site " + row.site.path + " states " + counted(row.site.parameters, "parameter") +
             ", but stores " + counted(elements, "code"));
    }
  }
  const Sums whole{.sites = all.sites,
                   .parameters = coverage.quantized_parameters,
                   .macs = coverage.quantized_macs};
  bool holds = agree(whole, all) && stated.size() == found.size();
  for (const auto& [kind, sums] : stated) holds = holds && agree(sums, found[kind]);
  if (!holds) {
    refute("the coverage states " + counted(coverage.quantized_parameters, "quantized parameter") +
           ", but its table of sites sums to " + std::to_string(all.parameters) +
           ", or differs from it for a kind of sites");
  }
  return format_percent(coverage.parameter_share()) + " of the parameters, " +
         format_percent(coverage.mac_share()) + " of the multiply-accumulates and " +
         format_percent(coverage.byte_share()) + " of the bytes are quantized";
}

std::string look_at_integers(const Subject& subject) {
  const std::set<std::string> called = attributes_in(subject.forms.portable);
  for (const ArtifactSite& row : subject.info.sites) {
    for (const auto& module : {row.module, row.input_module, row.side_module, row.scale_module}) {
      if (module.empty() || called.count(module) > 0) continue;
      refute("forward() never calls the submodule " + module + " of site " + row.site.path);
    }
  }
  const ArtifactReport portable{
      subject.info, portable_report(subject.forms.portable, subject.info, subject.path)};
  const auto& products = portable.runtime.float_products;
  if (!products.empty() && subject.info.coverage.gaps.empty()) {
    refute("the coverage names nothing that is left in floating point, but forward() has " +
           products.front());
  }
  const FusedReport fused = fused_report(subject.forms.report, portable);
  return "in integers here: " + format_percent(portable.runtime.integer_share) +
         " of the quantized multiply-accumulates in the portable form, " +
         format_percent(fused.integer_share) + " in the fused one (" + fused.cpu_level + "); " +
         counted(products.size(), "product") + " left in floating point";
}

}  // namespace repquant
