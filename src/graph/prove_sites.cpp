// Functional equivariance: a norm may be folded into its Linear consumers only if their inputs are
// the norm's output moved around, channel by channel. Seen by running, not by reading.
#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <map>
#include <random>
#include <set>
#include <string>

#include "graph/observe.h"
#include "graph/prove_attention.h"
#include "graph/site.h"
#include "graph/walker.h"
#include "repquant/error.h"
#include "tensor/samples.h"

namespace repquant {
namespace {

using torch::jit::Node;

/// Signed values of magnitude 0.5 to 1.5 in `shape`, the same on every machine.
at::Tensor random_signed(at::IntArrayRef shape, std::uint64_t seed) {
  at::Tensor values = at::empty(shape, at::kFloat);
  std::mt19937_64 engine(seed);
  float* data = values.data_ptr<float>();
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    const std::uint64_t bits = engine();
    const float magnitude = 0.5F + static_cast<float>(bits >> 40) / static_cast<float>(1 << 24);
    data[i] = (bits & 1) != 0 ? magnitude : -magnitude;
  }
  return values;
}

struct Marking {
  at::Tensor ratio, shift;  // [C]
};

/// One run with norm outputs replaced by markers; returns the inputs of the candidate sites.
std::map<const Node*, at::Tensor> run_marked(const Model& model, const Schedule& schedule,
                                             const std::vector<c10::IValue>& inputs,
                                             const std::map<const Node*, std::uint64_t>& norms,
                                             const std::set<const Node*>& linears,
                                             const std::map<const Node*, Marking>* markings,
                                             const std::set<const Node*>& scale_only) {
  std::map<const Node*, at::Tensor> seen;
  const NodeHook hook = [&](const Node* node, Values& values) {
    if (linears.count(node) > 0) seen[node] = values.at(node->input(0)).toTensor();
    const auto norm = norms.find(node);
    if (norm == norms.end()) return false;
    run_node(node, values);
    const at::Tensor out = values.at(node->outputs()[0]).toTensor();
    at::Tensor marked = random_signed(out.sizes(), norm->second);
    if (markings != nullptr) {
      const auto& marking = markings->at(node);
      marked = marked * marking.ratio;
      if (scale_only.count(node) == 0) marked = marked + marking.shift;
    }
    values[node->outputs()[0]] = marked;
    return true;
  };
  run_graph(*model.graph, schedule, inputs, hook);
  return seen;
}

/// Multiply-accumulates of each site and skipped product per sample.
void take_macs(const Observed& observed, SiteSearch& search) {
  const auto per_sample = [&](const Node* node) {
    const auto found = observed.macs.find(node);
    const std::int64_t samples = std::max<std::int64_t>(observed.samples, 1);
    return found == observed.macs.end() ? 0 : found->second / samples;
  };
  for (auto& site : search.sites) site.macs = is_lookup(site) ? 0 : per_sample(site.node);
  for (auto& skipped : search.skipped) skipped.macs = per_sample(skipped.node);
}

/// Why the product `node` has no grid: an operand is not float32. Empty if both are.
std::string other_numbers(const Observed& observed, const Node* node) {
  for (const torch::jit::Value* operand : {node->input(0), node->input(1)}) {
    const auto found = observed.types.find(operand);
    if (found == observed.types.end()) continue;
    if (at::isComplexType(found->second)) return "a product of complex numbers";
    return std::string("a product of numbers of type ") + c10::toString(found->second);
  }
  return "";
}

/// Products of numbers that have no grid stay as they are.
void skip_other_numbers(const Observed& observed, SiteSearch& search) {
  std::erase_if(search.sites, [&](const Site& site) {
    const bool product = std::holds_alternative<ScoresSite>(site.kind) ||
                         std::holds_alternative<AttendSite>(site.kind);
    const std::string reason = product ? other_numbers(observed, site.node) : "";
    if (reason.empty()) return false;
    search.skipped.push_back({.path = site.path,
                              .op = site.node->kind().toQualString(),
                              .reason = reason,
                              .node = site.node});
    return true;
  });
}

}  // namespace

void prove_sites(const Model& model, SiteSearch& search, const std::vector<at::Tensor>& inputs,
                 const Observed& observed) {
  at::NoGradGuard no_grad;
  const Schedule schedule(*model.graph);
  skip_other_numbers(observed, search);
  prove_attention(model, schedule, search, inputs);
  std::map<const Node*, std::uint64_t> norms;
  std::map<const Node*, Marking> markings;
  std::set<const Node*> linears, scale_only;
  for (const auto& site : search.sites) {
    if (norm_of(site) == nullptr) continue;
    const LinearSite* linear = linear_of(site);
    linears.insert(site.node);
    if (linear->scale_only_fold) scale_only.insert(linear->norm);
    const std::uint64_t seed = 1000 + norms.size();
    if (norms.emplace(linear->norm, seed).second) {
      const std::int64_t channels = linear->weight.size(1);
      markings[linear->norm] = {random_signed({channels}, seed + 500000).abs_(),
                                random_signed({channels}, seed + 900000)};
    }
  }
  take_macs(observed, search);

  std::set<const Node*> refuted;
  const auto refute = [&](std::int64_t count) {
    const std::vector<at::Tensor> part = samples_of(inputs, 0, count);
    const std::vector<c10::IValue> samples(part.begin(), part.end());
    const auto plain = run_marked(model, schedule, samples, norms, linears, nullptr, scale_only);
    const auto moved = run_marked(model, schedule, samples, norms, linears, &markings, scale_only);
    for (const auto& site : search.sites) {
      if (norm_of(site) == nullptr) continue;
      const LinearSite* linear = linear_of(site);
      const at::Tensor& before = plain.at(site.node);
      const auto& marking = markings.at(linear->norm);
      at::Tensor expected = before;
      if (before.size(-1) == marking.ratio.size(0)) {
        expected = before * marking.ratio;
        if (!linear->scale_only_fold) expected = expected + marking.shift;
      }
      if (!at::equal(expected, moved.at(site.node))) refuted.insert(linear->norm);
    }
  };
  for (const std::int64_t count :
       std::set<std::int64_t>{1, std::min<std::int64_t>(observed.samples, 2)}) {
    try {
      refute(count);
    } catch (const Error& e) {
      if (e.kind() != ErrorKind::kUnsupported || count == observed.samples) throw;
      refute(observed.samples);  // an export may take no other batch size
    }
  }
  for (auto& site : search.sites) {
    auto* linear = std::get_if<LinearSite>(&site.kind);
    if (linear == nullptr || refuted.count(linear->norm) == 0) continue;
    linear->norm = nullptr;
    site.note = "not folded: its input is not the norm's output, channel by channel";
  }
}

}  // namespace repquant
