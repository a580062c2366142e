#include "verify/model_claims.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <map>
#include <unordered_map>

#include "artifact/check.h"
#include "base/sha256.h"
#include "base/text_table.h"
#include "fit/fold_check.h"
#include "graph/normalize.h"
#include "graph/rewrite.h"
#include "graph/walker.h"
#include "pipeline/check_forms.h"
#include "runtime/both_forms.h"

namespace repquant {
namespace {

using torch::jit::Node;

/// The multipliers and offsets that the artifact's norm has beyond the reference's. The layer-wise
/// scale is not stored by itself; the fold does not depend on it, so it is 1 here.
InputQuantizer fold_of_norm(const StoredState& norm, const Node* reference,
                            std::int64_t zero_point) {
  const auto constant = [&](const char* name) {
    const torch::jit::Value* value = named_input(reference, name);
    return value != nullptr ? constant_tensor(value) : at::Tensor();
  };
  const at::Tensor weight = norm.tensor("weight").flatten().to(at::kDouble);
  at::Tensor gamma = constant("weight"), beta = constant("bias");
  if ((gamma.defined() && gamma.numel() != weight.numel()) ||
      (beta.defined() && beta.numel() != weight.numel())) {
    refute("a folded norm has " + std::to_string(weight.numel()) +
           " channels, another number than the model's");
  }
  gamma = gamma.defined() ? gamma.flatten().to(at::kDouble) : at::ones_like(weight);
  const at::Tensor constant_channel = gamma.eq(0.0);  // any multiplier does for such a one
  const at::Tensor multiplier = at::where(constant_channel, at::ones_like(weight),
                                          weight / gamma.masked_fill(constant_channel, 1.0));
  at::Tensor offset = norm.tensor("bias").flatten().to(at::kDouble);
  if (beta.defined()) offset = offset - beta.flatten().to(at::kDouble) * multiplier;
  InputQuantizer quantizer;
  quantizer.multiplier = multiplier.to(at::kFloat);
  quantizer.offset = offset.to(at::kFloat);
  quantizer.zero_point = static_cast<int>(zero_point);
  return quantizer;
}

struct FoldedSite {
  const LinearSite* linear = nullptr;
  std::string path;
  InputQuantizer quantizer;
};

using FoldedSites = std::unordered_map<const Node*, FoldedSite>;  // by the Linear's node

FoldedSites folded_sites(const Subject& subject, const SiteSearch& search) {
  std::map<std::string, const Site*> by_path;
  for (const Site& site : search.sites) by_path[site.path] = &site;
  FoldedSites result;
  for (const ArtifactSite& row : subject.info.sites) {
    const auto norm = subject.stored.find(row.input_module);
    if (norm == subject.stored.end() || norm->second.kind != "NormQuantize") continue;
    const auto found = by_path.find(row.site.path);
    const Node* reference = found != by_path.end() ? norm_of(*found->second) : nullptr;
    if (reference == nullptr) {
      refute("site " + row.site.path +
             " reads a folded norm, but the model has none there that can be folded");
    }
    const StoredState& linear = subject.stored.at(row.module);
    const FoldedSite site{
        .linear = linear_of(*found->second),
        .path = row.site.path,
        .quantizer = fold_of_norm(norm->second, reference, linear.integer("zero_point"))};
    const auto& m = site.quantizer.multiplier;
    if (!at::isfinite(m).all().item<bool>() || !m.gt(0).all().item<bool>()) {
      refute("the norm before site " + row.site.path +
             " is not the model's with positive multipliers");
    }
    result[found->second->node] = site;
  }
  return result;
}

/// The batch without a reference: what the portable form gives takes its place.
std::string compare_operators(const BothForms& forms, const std::vector<at::Tensor>& batch) {
  const std::vector<FormDifference> found = differences(forms, batch);
  if (!found.empty()) {
    refute("the fused operator of " + found.front().module +
           " computes something else than the portable one: " + found.front().measured +
           " (limit: " + found.front().limit + ")");
  }
  return counted(forms.replaced.size(), "fused operator") + " equal portable ones on " +
         counted(static_cast<std::size_t>(batch.front().size(0)), "sample");
}

}  // namespace

std::string look_at_model(const Subject& subject, const std::string& reference) {
  const std::string hash = sha256_of_file(reference);
  if (hash != subject.info.model_hash) {
    refute("the artifact was made from a model with SHA-256 " + subject.info.model_hash + ", but " +
           reference + " has " + hash);
  }
  return "made from this file, SHA-256 " + hash;
}

std::string look_at_folds(const Subject& subject, const PreparedRun& run) {
  const at::NoGradGuard no_grad;
  const FoldedSites folded = folded_sites(subject, run.search);
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
  return "norms folded into " + counted(folded.size(), "Linear") +
         " change their outputs by at most " + format_scientific(largest) +
         " of the largest (limit " + format_scientific(kLargestFoldDeviation) + ")";
}

std::string look_at_forms(const Subject& subject, const std::vector<at::Tensor>& batch,
                          const PreparedRun* run) {
  const at::NoGradGuard no_grad;
  if (run == nullptr) return compare_operators(load_both(subject.path, {}), batch);
  QuantizeReport report;
  const auto inputs = form_check_inputs(run->model, batch, run_model(run->model, batch));
  const PortableSites different = check_forms(subject.path, inputs, report);
  if (!different.empty()) {
    refute("the fused operator of " + different.begin()->first +
           " computes something else than the portable one: " + different.begin()->second);
  }
  return report.checks.back().measured;
}

}  // namespace repquant
