#include "sweep/learn.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <random>
#include <utility>

#include "compute/parallel.h"
#include "repquant/error.h"
#include "sweep/augment.h"
#include "sweep/blocks.h"
#include "sweep/gradients.h"
#include "sweep/plan_hook.h"
#include "sweep/soft_model.h"

namespace repquant {
namespace {

constexpr int kWarmUp = 20;  // steps
constexpr int kLooks = 8;    // at the held-back samples, in the course of the steps

/// Adam on a list of parameters, each with its own rate.
class Adam {
 public:
  explicit Adam(std::vector<Parameter> parameters) : parameters_(std::move(parameters)) {
    for (const auto& parameter : parameters_) {
      first_.push_back(at::zeros_like(parameter.value));
      second_.push_back(at::zeros_like(parameter.value));
    }
  }

  void step(const std::vector<at::Tensor>& gradients, double factor, int threads) {
    constexpr double kBeta1 = 0.9, kBeta2 = 0.99, kEpsilon = 1e-12;
    ++steps_;
    const double correction1 = 1 - std::pow(kBeta1, steps_);
    const double correction2 = 1 - std::pow(kBeta2, steps_);
    parallel_for(std::ssize(parameters_), threads, [&](std::int64_t index) {
      const auto i = static_cast<std::size_t>(index);
      if (!gradients[i].defined()) return;
      const Parameter& parameter = parameters_[i];
      first_[i].mul_(kBeta1).add_(gradients[i], 1 - kBeta1);
      second_[i].mul_(kBeta2).addcmul_(gradients[i], gradients[i], 1 - kBeta2);
      const at::Tensor root = (second_[i] / correction2).sqrt_().add_(kEpsilon);
      at::Tensor value = parameter.value.detach();
      value.addcdiv_(first_[i], root, -parameter.rate * factor / correction1);
    });
  }

 private:
  std::vector<Parameter> parameters_;
  std::vector<at::Tensor> first_, second_;
  int steps_ = 0;
};

/// Squared error relative to the variance of the channels, rows weighted (or `weights` undefined).
at::Tensor relative_error(const at::Tensor& got, const at::Tensor& expected,
                          const at::Tensor& weights) {
  constexpr double kFloor = 1e-3;  // of the mean square, for values that hardly vary
  const at::Tensor rows = expected.dim() > 1 ? expected.flatten(0, -2) : expected.reshape({-1, 1});
  const at::Tensor variance = (rows - rows.mean(0)).square().mean();
  at::Tensor error = (got - expected).square();
  if (weights.defined()) error = error * weights;
  return error.mean() / (variance + expected.square().mean() * kFloor + 1e-20);
}

/// The mean over the blocks; undefined where there is nothing to compare.
at::Tensor loss_of(const std::vector<at::Tensor>& carried, const Expected& expected) {
  at::Tensor sum;
  double count = 0;
  for (std::size_t i = 0; i < carried.size(); ++i) {
    if (!carried[i].defined() || !expected.carried[i].defined()) continue;
    const at::Tensor part = relative_error(carried[i], expected.carried[i], expected.weights[i]);
    sum = sum.defined() ? sum + part : part;
    ++count;
  }
  return count > 0 ? sum / count : sum;
}

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// Samples one by one; a batch that cannot be split stays whole.
Batches split(const Batches& batches) {
  Batches all;
  for (const auto& batch : batches) {
    const std::int64_t count = sample_count(batch);
    for (std::int64_t i = 0; i < count && count > 1; ++i) {
      all.push_back(samples_of(batch, i, i + 1));
    }
    if (count <= 1) all.push_back(batch);
  }
  return all;
}

/// The plans of all sites before the last block.
std::vector<SitePlan> plans_before_last_block(const Model& model, const std::vector<Site>& sites,
                                              const std::vector<SitePlan>& plans) {
  const std::vector<GraphBlock> blocks = find_blocks(Schedule(*model.graph), sites);
  if (blocks.size() < 2 || blocks.back().sites.empty()) return {};
  const Site* last = &sites[blocks.back().sites.front()];
  const std::vector<const Site*> planned = sites_of(sites, plans);
  const auto count =
      std::find_if(planned.begin(), planned.end(), [&](const Site* site) { return site >= last; }) -
      planned.begin();
  return {plans.begin(), plans.begin() + count};
}

class Learning {
 public:
  Learning(const Model& model, const std::vector<Site>& sites, const HeldBack& samples,
           const LearningRecipe& recipe, const LearnOptions& options, std::vector<SitePlan> plans)
      : recipe_(recipe),
        options_(options),
        plans_(std::move(plans)),
        soft_(model, sites, plans_),
        samples_(split(samples.fitted)),
        held_back_(split(samples.held_back)) {}

  LearnResult run() {
    LearnResult result;
    const bool judged = !held_back_.empty();
    if (judged) result.loss_before = result.loss_after = held_back_loss(plans_);
    const auto parameters = soft_.parameters();
    Adam adam(parameters);
    const int interval = std::max(1, recipe_.steps / kLooks);
    for (int step = 0; step < recipe_.steps; ++step) {
      if (options_.check_interrupt) options_.check_interrupt();
      if (options_.on_step) options_.on_step(step);
      const double done = static_cast<double>(step) / recipe_.steps;
      const double warm = std::min(1.0, (step + 1.0) / kWarmUp);
      adam.step(gradients(step, parameters), warm * 0.5 * (1 + std::cos(std::numbers::pi * done)),
                options_.threads);
      const bool last = step + 1 == recipe_.steps;
      if (!last && (!judged || (step + 1) % interval != 0)) continue;
      std::vector<SitePlan> learned = soft_.harden();
      if (judged) {
        const double loss = held_back_loss(learned);
        if (!(loss < result.loss_after)) continue;
        result.loss_after = loss;
      }
      result.steps = step + 1;
      result.plans = std::move(learned);
    }
    for (SitePlan& plan : result.plans) plan.note += "; learned";
    return result;
  }

 private:
  std::uint64_t seed_of(std::uint64_t item) const { return recipe_.seed * 1000003 + item; }

  /// Samples of a step, in a seeded order that goes through all of them before any comes again.
  std::vector<std::size_t> draw(int step) const {
    std::vector<std::size_t> chosen, order(samples_.size());
    const auto count = static_cast<std::size_t>(recipe_.samples);
    for (std::size_t k = 0; k < count; ++k) {
      const std::size_t place = static_cast<std::size_t>(step) * count + k;
      std::mt19937_64 engine(seed_of(place / order.size()));
      for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
      for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[engine() % i]);
      chosen.push_back(order[place % order.size()]);
    }
    return chosen;
  }

  std::vector<at::Tensor> augmented(const std::vector<at::Tensor>& sample,
                                    std::uint64_t seed) const {
    if (!options_.images || !recipe_.augment) return sample;
    std::mt19937_64 engine(seed);
    std::vector<at::Tensor> result;
    for (const at::Tensor& input : sample) {
      const bool images = input.dim() == 4 && input.scalar_type() == at::kFloat;
      result.push_back(images ? augment_images(input, engine) : input);
    }
    return result;
  }

  /// Gradients by `list` of the loss of one sample. Sums over samples run in their order, so items
  /// of parallel work are single samples whatever the number of threads.
  std::vector<at::Tensor> gradients_of(const std::vector<at::Tensor>& sample, std::uint64_t seed,
                                       const SoftModel::Realized& realized) const {
    const Expected expected = soft_.run_float(sample, seed);
    const at::AutoGradMode with_gradients(true);
    SoftModel::Realized leaves;
    std::vector<at::Tensor> list;
    for (const auto& site : realized) {
      leaves.emplace_back();
      for (const auto& tensor : site) {
        leaves.back().push_back(tensor.detach().set_requires_grad(true));
        list.push_back(leaves.back().back());
      }
    }
    const at::Tensor loss = loss_of(soft_.run_soft(sample, leaves), expected);
    return torch::autograd::grad({loss}, list, {}, std::nullopt, false, true);
  }

  std::vector<at::Tensor> gradients(int step, const std::vector<Parameter>& parameters) const {
    constexpr std::size_t kAtOnce = 4;  // gradients of single samples that are held
    const std::vector<std::size_t> chosen = draw(step);
    SoftModel::Realized realized;
    {
      const at::AutoGradMode with_gradients(true);
      realized = soft_.realize();
    }
    std::vector<at::Tensor> flat;
    for (const auto& site : realized) flat.insert(flat.end(), site.begin(), site.end());
    std::vector<at::Tensor> sums(flat.size());
    for (std::size_t from = 0; from < chosen.size(); from += kAtOnce) {
      std::vector<std::vector<at::Tensor>> parts(std::min(kAtOnce, chosen.size() - from));
      parallel_for(std::ssize(parts), options_.threads, [&](std::int64_t index) {
        const auto i = static_cast<std::size_t>(index);
        const std::uint64_t seed =
            seed_of(static_cast<std::uint64_t>(step) * chosen.size() + from + i);
        parts[i] = gradients_of(augmented(samples_[chosen[from + i]], seed), seed, realized);
      });
      for (const auto& part : parts) {
        for (std::size_t k = 0; k < flat.size(); ++k) {
          if (!part[k].defined()) continue;
          sums[k] = sums[k].defined() ? sums[k].add_(part[k]) : part[k].clone();
        }
      }
    }
    std::vector<at::Tensor> outer, slopes, leaves;
    for (std::size_t k = 0; k < flat.size(); ++k) {
      if (!sums[k].defined() || !flat[k].requires_grad()) continue;
      outer.push_back(flat[k]);
      slopes.push_back(sums[k] / static_cast<double>(chosen.size()));
    }
    for (const auto& parameter : parameters) leaves.push_back(parameter.value);
    if (outer.empty()) return std::vector<at::Tensor>(leaves.size());
    const at::AutoGradMode with_gradients(true);
    return torch::autograd::grad(outer, leaves, slopes, std::nullopt, false, true);
  }

  double held_back_loss(const std::vector<SitePlan>& plans) const {
    std::vector<double> losses(held_back_.size());
    parallel_for(std::ssize(held_back_), options_.threads, [&](std::int64_t index) {
      const auto i = static_cast<std::size_t>(index);
      const Expected expected = soft_.run_float(held_back_[i], i);
      losses[i] = loss_of(soft_.run_hard(held_back_[i], plans), expected).item<double>();
    });
    return mean_of(losses);
  }

  const LearningRecipe& recipe_;
  const LearnOptions& options_;
  std::vector<SitePlan> plans_;
  SoftModel soft_;
  Batches samples_, held_back_;
};

}  // namespace

LearnResult learn(const Model& model, const std::vector<Site>& sites, const HeldBack& samples,
                  const LearningRecipe& recipe, const LearnOptions& options,
                  const std::vector<SitePlan>& plans) {
  const at::NoGradGuard no_grad;
  LearnResult result;
  std::vector<SitePlan> before = plans_before_last_block(model, sites, plans);
  if (before.empty()) {
    result.problem = "the model has no value between two blocks to learn from";
    return result;
  }
  try {
    return Learning(model, sites, samples, recipe, options, std::move(before)).run();
  } catch (const c10::Error& e) {
    result.problem =
        std::string("the model cannot be differentiated: ") + e.what_without_backtrace();
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::kInterrupted) throw;
    result.problem = std::string("the model cannot be differentiated: ") + e.what();
  }
  return result;
}

double output_loss(const Model& model, const std::vector<Site>& sites,
                   const std::vector<SitePlan>& plans, const Batches& samples, int threads) {
  const at::NoGradGuard no_grad;
  const Schedule schedule(*model.graph);
  const PlanHook hook = plan_hook(sites, plans);
  const Batches single = split(samples);
  std::vector<double> losses(single.size());
  parallel_for(std::ssize(single), threads, [&](std::int64_t index) {
    const auto i = static_cast<std::size_t>(index);
    const auto run = [&](const NodeHook& by) {
      return output_tensors(run_graph(*model.graph, schedule, copies_of(single[i]), by));
    };
    const std::vector<at::Tensor> got = run(hook), expected = run(nullptr);
    for (std::size_t k = 0; k < got.size(); ++k) {
      if (!got[k].is_floating_point()) continue;
      const at::Tensor exact = expected[k].to(at::kDouble);
      losses[i] +=
          ((got[k] - exact).square().sum() / (exact.square().sum() + 1e-20)).item<double>();
    }
  });
  return mean_of(losses);
}

}  // namespace repquant
