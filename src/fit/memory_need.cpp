#include "fit/memory_need.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "fit/column_pairs.h"
#include "graph/rewrite.h"
#include "graph/walker.h"

namespace repquant {
namespace {

using Memory = std::unordered_set<const void*>;

void add_constants(const Schedule& schedule, Memory& memory) {
  for (const torch::jit::Node* node : schedule.nodes()) {
    if (node->kind() != c10::prim::Constant) continue;
    const at::Tensor constant = constant_tensor(node->output());
    if (constant.defined() && constant.has_storage()) memory.insert(constant.storage().data());
  }
}

/// Bytes of the tensors among `values` whose memory is not in `known`.
std::int64_t bytes_of(const Values& values, const Memory& known) {
  Memory seen;
  std::int64_t sum = 0;
  for (const auto& [name, value] : values) {
    if (!value.isTensor()) continue;
    const at::Tensor& tensor = value.toTensor();
    if (!tensor.defined() || !tensor.has_storage()) continue;
    const void* memory = tensor.storage().data();
    if (known.count(memory) > 0 || !seen.insert(memory).second) continue;
    sum += static_cast<std::int64_t>(tensor.storage().nbytes());
  }
  return sum;
}

/// The sums over both halves of the rows (fit/weight_sums.h) and the folded weight.
std::int64_t fit_bytes(const at::Tensor& weight, bool pairs) {
  constexpr std::int64_t kHalves = 2, kDouble = 8, kFloat = 4;
  const std::int64_t columns = weight.numel() / weight.size(0);
  return kHalves * kDouble * columns * (pairs ? columns : 1) + kFloat * weight.numel();
}

/// Rows [.., K] of the input that a Linear reads.
std::int64_t rows_read(const torch::jit::Node* node, const Values& values) {
  const auto found = values.find(node->input(0));
  if (found == values.end() || !found->second.isTensor()) return 0;
  const at::Tensor& x = found->second.toTensor();
  return x.dim() > 0 ? x.numel() / std::max<std::int64_t>(1, x.size(-1)) : 0;
}

}  // namespace

MemoryNeed least_memory(const Model& model, const std::vector<Site>& sites,
                        const std::vector<SiteBits>& bits, const WeightRecipe& recipe,
                        const std::vector<at::Tensor>& sample, const SampleTimes& times) {
  const at::NoGradGuard no_grad;
  const Schedule schedule(*model.graph);
  Memory known;
  const std::vector<c10::IValue> inputs = copies_of(sample);
  for (const c10::IValue& input : inputs) known.insert(input.toTensor().storage().data());
  add_constants(schedule, known);
  std::unordered_map<const torch::jit::Node*, std::size_t> linears;
  for (std::size_t i = 0; i < sites.size(); ++i) {
    if (bits[i].quantized && linear_of(sites[i]) != nullptr) linears.emplace(sites[i].node, i);
  }

  MemoryNeed need;
  std::int64_t codes = 0;  // a byte for each weight so far
  const auto see = [&](std::int64_t bytes, const std::string& what) {
    if (codes + bytes > need.bytes) need = {codes + bytes, what};
  };
  const NodeHook hook = [&](const torch::jit::Node* node, Values& values) {
    see(times.in_batch * bytes_of(values, known), "the activations of one batch");
    if (const auto found = linears.find(node); found != linears.end()) {
      const at::Tensor& weight = linear_of(sites[found->second])->weight;
      const bool pairs =
          measures_pairs(weight.numel() / weight.size(0), rows_read(node, values) * times.in_all,
                         needs_pairs(recipe, /*with_target=*/true));
      see(fit_bytes(weight, pairs), "the fit of " + sites[found->second].path);
      codes += weight.numel();
    }
    return false;
  };
  run_graph(*model.graph, schedule, inputs, hook);
  return need;
}

}  // namespace repquant
