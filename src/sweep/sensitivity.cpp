#include "sweep/sensitivity.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/ir/ir.h>

#include <random>

#include "compute/parallel.h"
#include "repquant/error.h"
#include "sweep/blocks.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

/// The values whose gradients are wanted, with the axis that holds the channels.
std::unordered_map<const Value*, std::int64_t> wanted_values(const std::vector<Site>& sites) {
  std::unordered_map<const Value*, std::int64_t> wanted;
  for (const auto& site : sites) {
    if (site.weight.defined()) {
      wanted[site.node->output()] = -1;
    } else if (site.kind == SiteKind::kScores) {
      wanted[site.node->input(0)] = -1;
      wanted[site.node->input(1)] = -2;
    } else {
      wanted[site.node->input(1)] = -1;
    }
  }
  return wanted;
}

at::Tensor random_signs(at::IntArrayRef shape, std::mt19937_64& engine) {
  at::Tensor signs = at::empty(shape, at::kFloat);
  float* data = signs.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < signs.numel(); ++i) data[i] = (engine() >> 63) != 0 ? 1.0F : -1.0F;
  return signs;
}

struct Squares {
  at::Tensor tokens;    // float64 [rows]
  at::Tensor channels;  // float64 [N], sums
  double rows = 0;
};

Squares squares_of(const at::Tensor& gradient, std::int64_t channel_axis) {
  at::Tensor square = gradient.to(at::kDouble).square();
  if (channel_axis == -2) square = square.transpose(-2, -1);
  Squares result;
  result.channels = square.flatten(0, -2).sum(0);
  result.rows = static_cast<double>(square.numel()) / static_cast<double>(square.size(-1));
  at::Tensor tokens = square.mean(-1);
  if (gradient.dim() >= 4) tokens = tokens.mean(-2);  // heads
  result.tokens = tokens.flatten().contiguous();
  return result;
}

/// A batch on its way: what was alive at the beginning of each block of the graph.
class CheckpointedPass {
 public:
  CheckpointedPass(const torch::jit::Graph& graph, const Schedule& schedule,
                   const std::vector<Block>& blocks,
                   const std::unordered_map<const Value*, std::int64_t>& wanted)
      : graph_(graph), schedule_(schedule), blocks_(blocks), wanted_(wanted) {}

  /// Squared gradients by value; empty where nothing can be differentiated.
  std::unordered_map<const Value*, Squares> run(const std::vector<at::Tensor>& batch,
                                                std::uint64_t seed) {
    std::vector<c10::IValue> inputs;
    for (const auto& tensor : batch) inputs.emplace_back(tensor.clone());
    Values values = bind_inputs(graph_, inputs);
    std::vector<Values> begins;
    for (const Block& block : blocks_) {
      begins.push_back(values);  // shares tensors
      if (&block != &blocks_.back()) run_range(schedule_, block.begin, block.end, values);
    }
    std::unordered_map<const Value*, Squares> result;
    Gradients gradients;  // of what is alive at the end of the block
    for (std::size_t i = blocks_.size(); i-- > 0;) {
      gradients = backward(i, std::move(begins[i]), gradients, seed, result);
      begins.pop_back();
      if (gradients.empty() && i + 1 == blocks_.size()) break;  // the outputs depend on no site
    }
    return result;
  }

 private:
  using Gradients = std::unordered_map<const Value*, at::Tensor>;

  /// Runs block i with gradients, from its beginning `values`; takes the gradients at its end and
  /// returns those at its beginning.
  Gradients backward(std::size_t i, Values values, const Gradients& at_end, std::uint64_t seed,
                     std::unordered_map<const Value*, Squares>& result) const {
    const at::AutoGradMode with_gradients(true);
    std::vector<const Value*> order;
    std::vector<at::Tensor> seen;
    if (i > 0) {  // leaves: what comes from the blocks before
      for (auto& [value, content] : values) {
        if (!content.isTensor() || value->node()->kind() == c10::prim::Constant) continue;
        const at::Tensor tensor = content.toTensor();
        if (!tensor.defined() || !tensor.is_floating_point()) continue;
        order.push_back(value);
        seen.push_back(tensor.detach().requires_grad_(true));
        // The clone is no leaf, so operators that work in place may follow.
        content = seen.back().clone();
      }
    }
    const std::size_t leaves = seen.size();
    const NodeHook hook = [&](const Node* node, Values& alive) {
      run_node(node, alive);
      for (const Value* output : node->outputs()) {
        if (wanted_.count(output) == 0) continue;
        at::Tensor value = alive.at(output).toTensor();
        // A model whose first site this is has nothing to differentiate yet.
        if (!value.requires_grad()) value = value.detach().requires_grad_(true).clone();
        alive[output] = value;
        order.push_back(output);
        seen.push_back(value);
      }
      return true;
    };
    run_range(schedule_, blocks_[i].begin, blocks_[i].end, values, hook);
    std::vector<at::Tensor> ends, end_gradients;
    if (i + 1 == blocks_.size()) {
      add_outputs(values, seed, ends, end_gradients);
    } else {
      for (const auto& [value, gradient] : at_end) {
        const auto found = values.find(value);
        if (found == values.end() || !found->second.toTensor().requires_grad()) continue;
        ends.push_back(found->second.toTensor());
        end_gradients.push_back(gradient);
      }
    }
    if (ends.empty() || seen.empty()) return {};
    const auto gradients =
        torch::autograd::grad(ends, seen, end_gradients, std::nullopt, false, true);
    const at::NoGradGuard no_grad;
    Gradients at_begin;
    for (std::size_t k = 0; k < order.size(); ++k) {
      if (!gradients[k].defined()) continue;
      if (k < leaves) {
        at_begin[order[k]] = gradients[k];
      } else {
        result[order[k]] = squares_of(gradients[k], wanted_.at(order[k]));
      }
    }
    return at_begin;
  }

  /// The loss is a random projection of the outputs: its gradients are the signs.
  void add_outputs(const Values& values, std::uint64_t seed, std::vector<at::Tensor>& ends,
                   std::vector<at::Tensor>& gradients) const {
    std::vector<c10::IValue> outputs;
    for (const Value* value : graph_.outputs()) outputs.push_back(values.at(value));
    std::mt19937_64 engine(seed);
    for (const auto& output : output_tensors(outputs)) {
      if (!output.is_floating_point() || !output.requires_grad()) continue;
      ends.push_back(output);
      gradients.push_back(random_signs(output.sizes(), engine).to(output.scalar_type()));
    }
  }

  const torch::jit::Graph& graph_;
  const Schedule& schedule_;
  const std::vector<Block>& blocks_;
  const std::unordered_map<const Value*, std::int64_t>& wanted_;
};

}  // namespace

Sensitivities measure_sensitivity(const torch::jit::Graph& graph, const Schedule& schedule,
                                  const std::vector<Site>& sites,
                                  const std::vector<std::vector<at::Tensor>>& batches, int threads,
                                  const std::function<void()>& check_interrupt) {
  const auto wanted = wanted_values(sites);
  const std::vector<Block> blocks = find_blocks(schedule, sites);
  std::vector<std::unordered_map<const Value*, Squares>> parts(batches.size());
  try {
    parallel_for(static_cast<std::int64_t>(batches.size()), threads, [&](std::int64_t i) {
      if (check_interrupt) check_interrupt();
      const auto at = static_cast<std::size_t>(i);
      parts[at] = CheckpointedPass(graph, schedule, blocks, wanted)
                      .run(batches[at], static_cast<std::uint64_t>(i));
    });
  } catch (const c10::Error&) {
    return {};  // an operator without derivative
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::kInterrupted) throw;
    return {};
  }
  Sensitivities result;
  for (const auto& [value, axis] : wanted) {
    Sensitivity sensitivity;
    double rows = 0;
    for (const auto& part : parts) {
      const auto found = part.find(value);
      if (found == part.end()) break;
      const Squares& squares = found->second;
      sensitivity.tokens.push_back(squares.tokens);
      sensitivity.channels = sensitivity.channels.defined()
                                 ? sensitivity.channels + squares.channels
                                 : squares.channels;
      rows += squares.rows;
    }
    if (sensitivity.tokens.size() != batches.size()) continue;
    sensitivity.channels = sensitivity.channels / rows;
    result.emplace(value, std::move(sensitivity));
  }
  return result;
}

at::Tensor row_weights(const Sensitivity* sensitivity, double share) {
  if (sensitivity == nullptr || share == 0) return {};
  const at::Tensor tokens = at::cat(sensitivity->tokens);
  const double mean = tokens.mean().item<double>();
  if (!(mean > 0) || !std::isfinite(mean)) return {};
  return tokens * (share / mean) + (1 - share);
}

}  // namespace repquant
