#include "verify/fold_claim.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/text_table.h"
#include "fit/fold_check.h"
#include "graph/normalize.h"
#include "graph/rewrite.h"
#include "graph/walker.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

/// y = norm(x) weight + bias for each channel, float64 [K].
struct Affine {
  at::Tensor weight, bias;
};

/// The weight and bias of a norm in a graph; undefined ones are 1 and 0.
Affine affine_of(const Node* norm, std::int64_t width) {
  const auto constant = [&](const char* name, double missing) {
    const Value* value = named_input(norm, name);
    const at::Tensor tensor = value != nullptr ? constant_tensor(value) : at::Tensor();
    return tensor.defined() ? tensor.flatten().to(at::kDouble)
                            : at::full({width}, missing, at::kDouble);
  };
  return {constant("weight", 1.0), constant("bias", 0.0)};
}

bool is_norm(const Node* node) { return named_input(node, "normalized_shape") != nullptr; }

/// What the grid of a row is found from, `rows`, as a norm with constants: the norm in front of it,
/// and what the graph multiplies by and adds on the way (an RMSNorm has no bias for the offset).
/// Operators that only move values are passed through. Nothing without a norm there.
std::optional<Affine> norm_before(const Value* rows, std::int64_t width) {
  at::Tensor multiplier = at::ones({width}, at::kDouble), offset = at::zeros({width}, at::kDouble);
  for (const Node* node = rows->node(); !node->inputs().empty(); node = node->input(0)->node()) {
    if (is_norm(node)) {
      const Affine norm = affine_of(node, width);
      if (norm.weight.numel() != width || norm.bias.numel() != width) return std::nullopt;
      return Affine{norm.weight * multiplier, norm.bias * multiplier + offset};
    }
    const bool add = node->kind() == c10::aten::add, mul = node->kind() == c10::aten::mul;
    if (!add && !mul) continue;
    const at::Tensor constant = constant_tensor(node->input(1));
    if (!constant.defined() || (constant.numel() != width && constant.numel() != 1)) continue;
    const at::Tensor wide = constant.flatten().to(at::kDouble);
    if (add) {
      offset = offset + multiplier * wide;
    } else {
      multiplier = multiplier * wide;
    }
  }
  return std::nullopt;
}

/// The multipliers and offsets that the artifact's norm has beyond the reference's. The layer-wise
/// scale is not stored by itself; the fold does not depend on it, so it is 1 here.
InputQuantizer fold_between(const Affine& got, const Node* reference, std::int64_t zero_point) {
  const std::int64_t width = got.weight.numel();
  const Affine own = affine_of(reference, width);
  if (own.weight.numel() != width || own.bias.numel() != width) {
    refute("a folded norm has " + counted(width, "channel") + ", another number than the model's");
  }
  const at::Tensor constant_channel = own.weight.eq(0.0);  // any multiplier does for such a one
  const at::Tensor multiplier =
      at::where(constant_channel, at::ones_like(own.weight),
                got.weight / own.weight.masked_fill(constant_channel, 1.0));
  InputQuantizer quantizer;
  quantizer.multiplier = multiplier.to(at::kFloat);
  quantizer.offset = (got.bias - own.bias * multiplier).to(at::kFloat);
  quantizer.zero_point = static_cast<int>(zero_point);
  return quantizer;
}

struct FoldedSite {
  const LinearSite* linear = nullptr;
  std::string path;
  InputQuantizer quantizer;
  bool per_token = false;
};

using FoldedSites = std::unordered_map<const Node*, FoldedSite>;  // by the Linear's node

/// What each submodule is called with, by its name.
std::map<std::string, const Value*> arguments_of_modules(torch::jit::Graph& graph) {
  std::map<std::string, const Value*> arguments;
  for (const Node* node : all_nodes(graph)) {
    if (node->kind() != c10::prim::CallMethod || node->inputs().size() < 2) continue;
    const Node* module = node->input(0)->node();
    if (module->kind() == c10::prim::GetAttr) {
      arguments.emplace(module->s(c10::attr::name), node->input(1));
    }
  }
  return arguments;
}

bool changes_nothing(const InputQuantizer& quantizer) {
  return quantizer.multiplier.eq(1.0F).all().item<bool>() &&
         quantizer.offset.eq(0.0F).all().item<bool>();
}

class FoldReader {
 public:
  FoldReader(const Subject& subject, const SiteSearch& search)
      : subject_(subject), arguments_(arguments_of_modules(*subject.forms.portable_graph)) {
    for (const Site& site : search.sites) sites_[site.path] = &site;
  }

  FoldedSites read() const {
    FoldedSites result;
    for (const ArtifactSite& row : subject_.info.sites) {
      const auto found = sites_.find(row.site.path);
      if (found == sites_.end()) continue;
      if (auto site = fold_of(row, *found->second)) result[found->second->node] = std::move(*site);
    }
    return result;
  }

 private:
  std::optional<FoldedSite> fold_of(const ArtifactSite& row, const Site& site) const {
    const auto input = subject_.stored.find(row.input_module);
    if (input == subject_.stored.end()) return std::nullopt;
    const Node* reference = norm_of(site);
    const bool codes = input->second.kind == "NormQuantize";
    if (codes && reference == nullptr) {
      refute("site " + row.site.path +
             " reads a folded norm, but the model has none there that can be folded");
    }
    std::optional<Affine> got;
    if (codes) {
      const StoredState& norm = input->second;
      got = Affine{norm.tensor("weight").flatten().to(at::kDouble),
                   norm.tensor("bias").flatten().to(at::kDouble)};
    } else if (reference != nullptr &&
               (input->second.kind == "TokenQuantize" || input->second.kind == "GroupQuantize")) {
      const auto rows = arguments_.find(row.input_module);
      if (rows != arguments_.end()) {
        got = norm_before(rows->second, linear_of(site)->weight.size(1));
      }
      if (!got) {
        refute("site " + row.site.path + " reads a norm of the model, but none in the artifact");
      }
    }
    if (!got) return std::nullopt;
    const std::int64_t zero = codes ? subject_.stored.at(row.module).integer("zero_point") : 0;
    FoldedSite folded{.linear = linear_of(site),
                      .path = row.site.path,
                      .quantizer = fold_between(*got, reference, zero),
                      .per_token = !codes};
    if (!codes && changes_nothing(folded.quantizer)) return std::nullopt;
    const auto& m = folded.quantizer.multiplier;
    if (!at::isfinite(m).all().item<bool>() || !m.gt(0).all().item<bool>()) {
      refute("the norm before site " + row.site.path +
             " is not the model's with positive multipliers");
    }
    return folded;
  }

  const Subject& subject_;
  std::map<std::string, const Value*> arguments_;
  std::map<std::string, const Site*> sites_;
};

std::string fold_sentence(const FoldedSites& folded, double largest) {
  const auto per_token = static_cast<std::int64_t>(std::count_if(
      folded.begin(), folded.end(), [](const auto& entry) { return entry.second.per_token; }));
  const auto all = std::ssize(folded);
  std::string text = "norms folded into " + counted(all, "Linear");
  if (per_token == all) {
    text = "folds of norms before grids per token, into " + counted(all, "Linear") + ",";
  } else if (per_token > 0) {
    text += " (" + std::to_string(per_token) + " of them before grids per token)";
  }
  return text + " change their outputs by at most " + format_scientific(largest) +
         " of the largest (limit " + format_scientific(kLargestFoldDeviation) + ")";
}

}  // namespace

std::string look_at_folds(const Subject& subject, const PreparedRun& run) {
  const at::NoGradGuard no_grad;
  const FoldedSites folded = FoldReader(subject, run.search).read();
  if (folded.empty()) return "no norm is folded";
  double largest = 0.0;
  const auto look = [&](const Node* node, Values& values) {
    const auto found = folded.find(node);
    if (found == folded.end()) return false;
    const FoldedSite& site = found->second;
    const double deviation =
        fold_deviation(*site.linear, site.quantizer, values.at(node->input(0)).toTensor());
    if (!(deviation <= kLargestFoldDeviation)) {
      refute("folding the norm before " + site.path + " changes its outputs by " +
             format_scientific(deviation) + " of the largest, more than " +
             format_scientific(kLargestFoldDeviation));
    }
    largest = std::max(largest, deviation);
    return false;  // the node runs as it is
  };
  run_graph(*run.model.graph, Schedule(*run.model.graph),
            copies_of(run.calibration.batches.front()), look);
  return fold_sentence(folded, largest);
}

}  // namespace repquant
