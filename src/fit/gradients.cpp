#include "fit/gradients.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <random>

#include "graph/keep_codes.h"
#include "graph/results.h"
#include "tensor/samples.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

at::Tensor random_signs(at::IntArrayRef shape, std::mt19937_64& engine) {
  at::Tensor signs = at::empty(shape, at::kFloat);
  float* data = signs.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < signs.numel(); ++i) data[i] = (engine() >> 63) != 0 ? 1.0F : -1.0F;
  return signs;
}

/// r = sqrt(p) z - p sum(sqrt(p) z) of random signs z: covariance diag(p) - p p^T.
at::Tensor logit_projection(const at::Tensor& logits, std::mt19937_64& engine) {
  const at::Tensor p = at::softmax(logits.detach(), -1);
  const at::Tensor scaled = p.sqrt() * random_signs(logits.sizes(), engine);
  return scaled - p * scaled.sum(-1, /*keepdim=*/true);
}

/// Values that depend on one of `wanted`, or are one.
std::unordered_set<const Value*> dependents(const Schedule& schedule,
                                            const std::unordered_set<const Value*>& wanted) {
  std::unordered_set<const Value*> result;
  for (const Node* node : schedule.nodes()) {
    bool depends = !node->blocks().empty();
    for (const Value* input : node->inputs()) depends = depends || result.count(input) > 0;
    for (const Value* output : node->outputs()) {
      if (depends || wanted.count(output) > 0) result.insert(output);
    }
  }
  return result;
}

bool can_differentiate(const c10::IValue& value) {
  return value.isTensor() && value.toTensor().defined() && value.toTensor().is_floating_point();
}

/// One batch on its way: forward block by block, then back.
class Differentiation {
 public:
  Differentiation(const torch::jit::Graph& graph, const Schedule& schedule,
                  const DifferentiateOptions& options)
      : graph_(graph),
        schedule_(schedule),
        options_(options),
        blocks_(options.blocks),
        dependents_(dependents(schedule, options.wanted)) {
    if (blocks_.empty()) {
      blocks_.push_back({.begin = 0, .end = schedule.nodes().size(), .sites = {}});
    }
  }

  Differentiated run(const std::vector<at::Tensor>& batch) {
    for (std::size_t i = 0; i < batch.size() && i < graph_.inputs().size(); ++i) {
      if (options_.kept.count(graph_.inputs()[i]) > 0) result_.kept[graph_.inputs()[i]] = batch[i];
    }
    Values values = bind_inputs(graph_, copies_of(batch));
    std::vector<Values> begins;  // share tensors
    {
      const at::NoGradGuard no_grad;
      for (std::size_t i = 0; i + 1 < blocks_.size(); ++i) {
        begins.push_back(values);
        run_range(schedule_, blocks_[i].begin, blocks_[i].end, values, &pass_cache);
      }
    }
    begins.push_back(std::move(values));
    Gradients at_end;
    for (std::size_t i = blocks_.size(); i-- > 0;) {
      at_end = run_back(i, std::move(begins[i]), at_end);
      begins.pop_back();
    }
    return std::move(result_);
  }

 private:
  /// Gradients of the outputs' and of the logits' projection.
  struct Gradients {
    TensorByValue outputs, logits;
  };

  /// Values that a block is differentiated by: first those that come from the blocks before.
  struct Leaves {
    std::vector<const Value*> order;
    std::vector<at::Tensor> seen;
    std::size_t from_before = 0;
  };

  /// Tensors at the end of a block, each with its gradient.
  struct Ends {
    std::vector<at::Tensor> tensors, gradients;

    void add(const at::Tensor& tensor, const at::Tensor& gradient) {
      tensors.push_back(tensor);
      gradients.push_back(gradient);
    }
  };

  /// Runs block i from its begin, with gradients; takes those at its end, returns those at its
  /// begin.
  Gradients run_back(std::size_t i, Values values, const Gradients& at_end) {
    const at::AutoGradMode with_gradients(true);
    Leaves leaves = i > 0 ? leaves_of(values) : Leaves{};
    const NodeHook hook = [&](const Node* node, Values& alive) {
      if (!pass_cache(node, alive)) run_node(node, alive);
      for (const Value* output : node->outputs()) watch(output, alive, leaves);
      return true;
    };
    run_range(schedule_, blocks_[i].begin, blocks_[i].end, values, hook);
    const bool last = i + 1 == blocks_.size();
    Ends outputs, logits;
    if (last) {
      project(values, outputs, logits);
    } else {
      outputs = ends_of(values, at_end.outputs);
      logits = ends_of(values, at_end.logits);
    }
    Gradients at_begin;
    const bool both = !logits.tensors.empty();
    differentiate(outputs, leaves, both, at_begin.outputs, [&](const Value* value, at::Tensor got) {
      if (options_.see_gradient) return options_.see_gradient(value, got);
      result_.outputs_gradients[value] = std::move(got);
    });
    differentiate(logits, leaves, false, at_begin.logits, [&](const Value* value, at::Tensor got) {
      result_.logits_gradients[value] = std::move(got);
    });
    return at_begin;
  }

  Leaves leaves_of(Values& values) const {
    Leaves leaves;
    for (auto& [value, content] : values) {
      if (dependents_.count(value) == 0 || !can_differentiate(content)) continue;
      leaves.order.push_back(value);
      leaves.seen.push_back(content.toTensor().detach().requires_grad_(true));
      content = leaves.seen.back().clone();  // no leaf: operators that work in place may follow
    }
    leaves.from_before = leaves.seen.size();
    return leaves;
  }

  void watch(const Value* output, Values& alive, Leaves& leaves) {
    if (options_.kept.count(output) > 0) {
      result_.kept[output] = alive.at(output).toTensor().detach();
    }
    if (options_.wanted.count(output) == 0) return;
    at::Tensor value = alive.at(output).toTensor();
    // A model whose first site this is has nothing to differentiate yet. The clone is no leaf, so
    // operators that work in place may follow.
    if (!value.requires_grad()) value = value.detach().requires_grad_(true).clone();
    alive[output] = value;
    leaves.order.push_back(output);
    leaves.seen.push_back(value);
  }

  static Ends ends_of(const Values& values, const TensorByValue& gradients) {
    std::vector<const Value*> order;  // that of the graph: sums depend on it
    for (const auto& entry : gradients) order.push_back(entry.first);
    std::sort(order.begin(), order.end(),
              [](const Value* a, const Value* b) { return a->unique() < b->unique(); });
    Ends ends;
    for (const Value* value : order) {
      const auto found = values.find(value);
      if (found == values.end() || !found->second.toTensor().requires_grad()) continue;
      ends.add(found->second.toTensor(), gradients.at(value));
    }
    return ends;
  }

  /// The gradient of a projection sum(output * r) is r.
  void project(const Values& values, Ends& outputs, Ends& logits) {
    std::mt19937_64 engine(options_.seed);
    const std::vector<at::Tensor> tensors = result_tensors(graph_, values);
    for (const auto& output : tensors) {
      if (!output.is_floating_point()) continue;
      result_.outputs.push_back(output.detach());
      if (!output.requires_grad()) continue;
      outputs.add(output, random_signs(output.sizes(), engine).to(output.scalar_type()));
    }
    if (!options_.with_logits) return;
    for (const auto& output : tensors) {
      if (!output.is_floating_point() || !output.requires_grad() || output.dim() == 0) continue;
      logits.add(output, logit_projection(output, engine));
    }
  }

  template <typename See>
  static void differentiate(const Ends& ends, const Leaves& leaves, bool keep_graph,
                            TensorByValue& at_begin, const See& see) {
    if (ends.tensors.empty() || leaves.seen.empty()) return;
    const auto gradients =
        torch::autograd::grad(ends.tensors, leaves.seen, ends.gradients, keep_graph, false, true);
    const at::NoGradGuard no_grad;
    for (std::size_t k = 0; k < leaves.order.size(); ++k) {
      if (!gradients[k].defined()) continue;
      if (k < leaves.from_before) {
        at_begin[leaves.order[k]] = gradients[k];
      } else {
        see(leaves.order[k], gradients[k]);
      }
    }
  }

  const torch::jit::Graph& graph_;
  const Schedule& schedule_;
  const DifferentiateOptions& options_;
  std::vector<GraphBlock> blocks_;
  std::unordered_set<const Value*> dependents_;
  Differentiated result_;
};

}  // namespace

Differentiated differentiate(const torch::jit::Graph& graph, const Schedule& schedule,
                             const std::vector<at::Tensor>& batch,
                             const DifferentiateOptions& options) {
  return Differentiation(graph, schedule, options).run(batch);
}

void for_each_part(const std::vector<at::Tensor>& batch, std::uint64_t seed,
                   const std::function<void(const std::vector<at::Tensor>&, std::uint64_t)>& run) {
  constexpr std::uint64_t kMostParts = 1024;
  const std::int64_t count = sample_count(batch);
  if (count <= kSamplesAtOnce) return run(batch, seed * kMostParts);
  for (std::int64_t from = 0; from < count; from += kSamplesAtOnce) {
    run(samples_of(batch, from, std::min(count, from + kSamplesAtOnce)),
        seed * kMostParts + static_cast<std::uint64_t>(from));
  }
}

}  // namespace repquant
