#include "sweep/reconstruct.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>
#include <unordered_map>

#include "compute/parallel.h"
#include "sweep/plan_hook.h"
#include "sweep/soft_plan.h"

namespace repquant {
namespace {

using torch::jit::Node;

/// Adam on a list of parameters, each with its own rate.
class Adam {
 public:
  explicit Adam(std::vector<Parameter> parameters) : parameters_(std::move(parameters)) {
    for (const auto& parameter : parameters_) {
      first_.push_back(at::zeros_like(parameter.value));
      second_.push_back(at::zeros_like(parameter.value));
    }
  }

  void step(const std::vector<at::Tensor>& gradients, double factor) {
    constexpr double kBeta1 = 0.9, kBeta2 = 0.99;
    ++steps_;
    const double correction1 = 1 - std::pow(kBeta1, steps_);
    const double correction2 = 1 - std::pow(kBeta2, steps_);
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (!gradients[i].defined()) continue;
      first_[i].mul_(kBeta1).add_(gradients[i], 1 - kBeta1);
      second_[i].mul_(kBeta2).addcmul_(gradients[i], gradients[i], 1 - kBeta2);
      const at::Tensor root = (second_[i] / correction2).sqrt_().add_(1e-20);
      parameters_[i].value.detach().addcdiv_(first_[i] / correction1, root,
                                             -parameters_[i].rate * factor);
    }
  }

 private:
  std::vector<Parameter> parameters_;
  std::vector<at::Tensor> first_, second_;
  int steps_ = 0;
};

class Reconstruction {
 public:
  explicit Reconstruction(const ReconstructionProblem& problem) : problem_(problem) {
    for (std::size_t i = 0; i < problem.sites.size(); ++i) {
      soft_.emplace_back(*problem.plans[i], problem.frozen_inputs[i]);
      const Site* site = problem.sites[i];
      index_[site->node] = i;
      if (site->softmax != nullptr) softmaxes_[site->softmax] = i;
    }
  }

  std::vector<Parameter> parameters() const {
    std::vector<Parameter> all;
    for (const auto& soft : soft_) {
      all.insert(all.end(), soft.parameters().begin(), soft.parameters().end());
    }
    return all;
  }

  /// Gradients of the error of one batch.
  std::vector<at::Tensor> gradients(std::size_t batch,
                                    const std::vector<Parameter>& parameters) const {
    const at::AutoGradMode with_gradients(true);
    const NodeHook hook = [this](const Node* node, Values& values) {
      return run_soft(node, values);
    };
    const at::Tensor loss = error(batch, hook);
    std::vector<at::Tensor> leaves;
    for (const auto& parameter : parameters) leaves.push_back(parameter.value);
    return torch::autograd::grad({loss}, leaves, {}, std::nullopt, false, true);
  }

  /// Error over all batches under `plans`.
  double error_of(const std::vector<SitePlan>& plans) const {
    PlanHook hook;
    for (std::size_t i = 0; i < plans.size(); ++i) hook.add(*problem_.sites[i], plans[i]);
    std::vector<double> errors(problem_.inputs.size());
    parallel_for(std::ssize(errors), problem_.threads, [&](std::int64_t i) {
      const auto batch = static_cast<std::size_t>(i);
      errors[batch] = error(batch, hook).item<double>();
    });
    double sum = 0.0;
    for (const double value : errors) sum += value;
    return sum / static_cast<double>(errors.size());
  }

  std::vector<SitePlan> harden() const {
    std::vector<SitePlan> plans;
    for (const auto& soft : soft_) plans.push_back(soft.harden());
    return plans;
  }

 private:
  bool run_soft(const Node* node, Values& values) const {
    const auto operand = [&](std::size_t i) { return values.at(node->input(i)).toTensor(); };
    if (softmaxes_.count(node) > 0) {
      values[node->output()] = operand(0);
      return true;
    }
    const auto found = index_.find(node);
    if (found == index_.end()) return false;
    std::vector<at::Tensor> operands{operand(0)};
    if (!problem_.sites[found->second]->weight.defined()) operands.push_back(operand(1));
    values[node->output()] = soft_[found->second].evaluate(operands);
    return true;
  }

  /// Weighted mean squared error of the block's floating-point outputs.
  at::Tensor error(std::size_t batch, const NodeHook& hook) const {
    Values values = problem_.inputs[batch];
    run_range(*problem_.schedule, problem_.block.begin, problem_.block.end, values, hook);
    at::Tensor sum;
    for (const auto& [value, target] : problem_.targets[batch]) {
      const auto found = values.find(value);
      if (found == values.end() || !found->second.isTensor()) continue;
      const at::Tensor& output = found->second.toTensor();
      if (!output.is_floating_point() || output.is_same(target.toTensor())) continue;
      at::Tensor square = (output - target.toTensor()).square().flatten(0, -2);
      const auto& channels = problem_.channel_weights;
      if (channels.defined() && channels.size(0) == square.size(-1)) {
        square = square * channels.to(at::kFloat);
      }
      if (!problem_.row_weights.empty() && problem_.row_weights[batch].size(0) == square.size(0)) {
        square = square * problem_.row_weights[batch].to(at::kFloat).unsqueeze(1);
      }
      const at::Tensor part = square.mean();
      sum = sum.defined() ? sum + part : part;
    }
    return sum.defined() ? sum : at::zeros({});
  }

  const ReconstructionProblem& problem_;
  std::vector<SoftPlan> soft_;
  std::unordered_map<const Node*, std::size_t> index_, softmaxes_;
};

}  // namespace

ReconstructionResult reconstruct(const ReconstructionProblem& problem,
                                 const ReconstructionRecipe& recipe) {
  constexpr std::size_t kBatchesPerStep = 2;  // fixed, so that results do not depend on threads
  const Reconstruction reconstruction(problem);
  const auto parameters = reconstruction.parameters();
  Adam adam(parameters);
  std::vector<SitePlan> before;
  for (const SitePlan* plan : problem.plans) before.push_back(*plan);
  ReconstructionResult result;
  result.error_before = result.error_after = reconstruction.error_of(before);

  std::mt19937_64 engine(recipe.seed + problem.block.begin);
  std::vector<std::size_t> order;
  for (int step = 0; step < recipe.steps; ++step) {
    if (problem.check_interrupt) problem.check_interrupt();
    std::vector<std::size_t> batches;
    while (batches.size() < std::min(kBatchesPerStep, problem.inputs.size())) {
      if (order.empty()) {  // a new round over all batches
        for (std::size_t i = 0; i < problem.inputs.size(); ++i) order.push_back(i);
        for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[engine() % i]);
      }
      batches.push_back(order.back());
      order.pop_back();
    }
    std::vector<std::vector<at::Tensor>> parts(batches.size());
    parallel_for(std::ssize(batches), problem.threads, [&](std::int64_t i) {
      const auto at = static_cast<std::size_t>(i);
      parts[at] = reconstruction.gradients(batches[at], parameters);
    });
    for (std::size_t i = 1; i < parts.size(); ++i) {
      for (std::size_t k = 0; k < parts[0].size(); ++k) {
        if (parts[0][k].defined() && parts[i][k].defined()) parts[0][k] = parts[0][k] + parts[i][k];
      }
    }
    const double done = static_cast<double>(step) / recipe.steps;
    adam.step(parts[0], 0.5 * (1 + std::cos(std::numbers::pi * done)));
  }
  const std::vector<SitePlan> learned = reconstruction.harden();
  const double error = reconstruction.error_of(learned);
  if (error < result.error_before) {
    result.error_after = error;
    for (std::size_t i = 0; i < learned.size(); ++i) *problem.plans[i] = learned[i];
  }
  return result;
}

}  // namespace repquant
