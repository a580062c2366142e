#include "learn/learn.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <random>
#include <utility>

#include "fit/gradients.h"
#include "learn/soft_model.h"
#include "learn/state.h"
#include "learn/variation.h"
#include "quantizer/adam.h"
#include "repquant/error.h"
#include "tensor/current_error.h"
#include "tensor/parallel.h"
#include "tensor/samples.h"

namespace repquant {
namespace {

constexpr int kWarmUp = 20;        // steps
constexpr std::size_t kSeen = 32;  // samples that tell the variance of values
constexpr int kStepsToState = 50;  // between two states in the working folder
constexpr AdamOptions kAdam{.second_decay = 0.99, .epsilon = 1e-12};

using Inputs = std::vector<at::Tensor>;

/// Samples one by one; a batch that cannot be split stays whole.
Batches split(const Batches& batches) {
  Batches all;
  for (const Inputs& batch : batches) {
    const std::int64_t count = sample_count(batch);
    for (std::int64_t i = 0; i < count && count > 1; ++i) {
      all.push_back(samples_of(batch, i, i + 1));
    }
    if (count <= 1) all.push_back(batch);
  }
  return all;
}

class Learning {
 public:
  Learning(const Model& model, const std::vector<Site>& sites, const std::vector<SitePlan>& plans,
           const HeldBack& samples, const LearningRecipe& recipe, const LearnOptions& options)
      : recipe_(recipe),
        options_(options),
        plans_(plans),
        soft_(model, sites, options.start != nullptr ? *options.start : plans, recipe.rate),
        parameters_(soft_.parameters()),
        samples_(split(samples.fitted)),
        held_back_(split(samples.held_back)),
        objective_(seen(), samples_.size()),
        used_(samples_.size()) {
    if (options.images) return;  // every patch counts
    parallel_for(std::ssize(samples_), options.threads, [&](std::int64_t index) {
      const auto i = static_cast<std::size_t>(index);
      used_[i] = soft_.used_rows(samples_[i]);
    });
  }

  Learned run() {
    Learned result;
    result.loss_before = held_back_loss(plans_);
    for (int step = restore(); step < recipe_.steps; ++step) {
      options_.check_interrupt();
      options_.on_step(step);
      take_step(gradients(step), step);
      const bool last = step + 1 == recipe_.steps;
      if (last || (step + 1) % kStepsToState == 0) save(step + 1);
    }
    options_.on_step(recipe_.steps);
    std::vector<SitePlan> learned = soft_.harden();
    result.loss_after = held_back_loss(learned);
    if (result.loss_after < result.loss_before) result.plans = std::move(learned);
    return result;
  }

 private:
  /// What the floating-point model gives for some samples.
  std::vector<Results> seen() const {
    const std::size_t count = std::min(kSeen, samples_.size());
    std::vector<Results> results(count);
    parallel_for(std::ssize(results), options_.threads, [&](std::int64_t index) {
      const auto i = static_cast<std::size_t>(index);
      results[i] = soft_.run_float(samples_[i * samples_.size() / count]);
    });
    return results;
  }

  /// Steps that are done already.
  int restore() {
    for (const Parameter& parameter : parameters_) moments_.emplace_back(parameter.value, kAdam);
    if (!options_.resume || options_.workdir.empty()) return 0;
    std::vector<at::Tensor> values;
    for (const Parameter& parameter : parameters_) values.push_back(parameter.value);
    const auto state =
        read_learn_state(options_.workdir, options_.fingerprint, values, options_.warn);
    if (!state) return 0;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      at::Tensor value = parameters_[i].value.detach();
      value.copy_(state->values[i]);
      moments_[i] = Adam(state->moments[i], kAdam);
    }
    return std::min(state->steps, recipe_.steps);
  }

  void save(int steps) const {
    if (options_.workdir.empty()) return;
    LearnState state{.steps = steps, .values = {}, .moments = {}};
    for (const Parameter& parameter : parameters_) state.values.push_back(parameter.value);
    for (const Adam& adam : moments_) state.moments.push_back(adam.state());
    write_learn_state(options_.workdir, options_.fingerprint, state);
  }

  void take_step(const std::vector<at::Tensor>& gradients, int step) {
    const double done = static_cast<double>(step) / recipe_.steps;
    const double warm = std::min(1.0, (step + 1.0) / kWarmUp);
    const double factor = warm * 0.5 * (1 + std::cos(std::numbers::pi * done));
    parallel_for(std::ssize(parameters_), options_.threads, [&](std::int64_t index) {
      const auto i = static_cast<std::size_t>(index);
      if (!gradients[i].defined()) return;
      const Parameter& parameter = parameters_[i];
      at::Tensor value = parameter.value.detach();
      value.sub_(moments_[i].step(gradients[i]), parameter.rate * factor);
      value.clamp_(parameter.low, parameter.high);
    });
  }

  /// Samples of a step, in a seeded order that goes through all of them before any comes again.
  std::vector<std::size_t> draw(int step) const {
    std::vector<std::size_t> chosen, order(samples_.size());
    const auto count = static_cast<std::size_t>(recipe_.samples);
    for (std::size_t k = 0; k < count; ++k) {
      const std::size_t place = static_cast<std::size_t>(step) * count + k;
      std::mt19937_64 engine(place / order.size());
      std::iota(order.begin(), order.end(), 0);
      for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[engine() % i]);
      chosen.push_back(order[place % order.size()]);
    }
    return chosen;
  }

  Inputs varied(const Inputs& sample, std::uint64_t seed) const {
    if (!options_.images) return sample;
    std::mt19937_64 engine(seed);
    Inputs result;
    for (const at::Tensor& input : sample) {
      const bool images = input.dim() == 4 && input.scalar_type() == at::kFloat;
      result.push_back(images ? vary_images(input, engine) : input);
    }
    return result;
  }

  /// Gradients by all realized tensors of the loss of one sample. Sums over samples run in their
  /// order, so items of parallel work are single samples whatever the number of threads.
  std::vector<at::Tensor> gradients_of(const Inputs& sample, const std::vector<at::Tensor>& used,
                                       const SoftModel::Realized& realized) const {
    Results expected = soft_.run_float(sample);
    expected.used = used;
    const at::AutoGradMode with_gradients(true);
    SoftModel::Realized leaves;
    std::vector<at::Tensor> list;
    for (const auto& site : realized) {
      leaves.emplace_back();
      for (const at::Tensor& tensor : site) {
        leaves.back().push_back(tensor.detach().set_requires_grad(true));
        list.push_back(leaves.back().back());
      }
    }
    const at::Tensor loss = objective_(soft_.run_soft(sample, leaves), expected);
    if (!loss.defined() || !loss.requires_grad()) return std::vector<at::Tensor>(list.size());
    return torch::autograd::grad({loss}, list, {}, std::nullopt, false, true);
  }

  /// By parameter; undefined where the loss does not depend on one.
  std::vector<at::Tensor> gradients(int step) const {
    const std::vector<std::size_t> chosen = draw(step);
    SoftModel::Realized realized;
    {
      const at::AutoGradMode with_gradients(true);
      realized = soft_.realize();
    }
    std::vector<at::Tensor> flat;
    for (const auto& site : realized) flat.insert(flat.end(), site.begin(), site.end());
    std::vector<at::Tensor> sums(flat.size());
    const auto at_once = static_cast<std::size_t>(std::max(1, options_.threads));
    for (std::size_t from = 0; from < chosen.size(); from += at_once) {
      std::vector<std::vector<at::Tensor>> parts(std::min(at_once, chosen.size() - from));
      parallel_for(std::ssize(parts), options_.threads, [&](std::int64_t index) {
        const auto i = static_cast<std::size_t>(index);
        const std::uint64_t item = static_cast<std::uint64_t>(step) * chosen.size() + from + i;
        const std::size_t sample = chosen[from + i];
        parts[i] = gradients_of(varied(samples_[sample], item), used_[sample], realized);
      });
      for (const auto& part : parts) {
        for (std::size_t k = 0; k < flat.size(); ++k) {
          if (!part[k].defined()) continue;
          sums[k] = sums[k].defined() ? sums[k].add_(part[k]) : part[k].clone();
        }
      }
    }
    return by_parameter(flat, sums, static_cast<double>(chosen.size()));
  }

  std::vector<at::Tensor> by_parameter(const std::vector<at::Tensor>& realized,
                                       const std::vector<at::Tensor>& sums, double count) const {
    std::vector<at::Tensor> outer, slopes, leaves;
    for (std::size_t k = 0; k < realized.size(); ++k) {
      if (!sums[k].defined()) continue;
      if (!at::isfinite(sums[k]).all().item<bool>()) {
        throw Error(ErrorKind::kNumerical, {.what = "a gradient is not finite"});
      }
      outer.push_back(realized[k]);
      slopes.push_back(sums[k] / count);
    }
    if (outer.empty()) {
      throw Error(ErrorKind::kUnsupported, {.what = "the outputs do not depend on any weight"});
    }
    for (const Parameter& parameter : parameters_) leaves.push_back(parameter.value);
    const at::AutoGradMode with_gradients(true);
    return torch::autograd::grad(outer, leaves, slopes, std::nullopt, false, true);
  }

  double held_back_loss(const std::vector<SitePlan>& plans) const {
    std::vector<double> losses(held_back_.size());
    parallel_for(std::ssize(held_back_), options_.threads, [&](std::int64_t index) {
      const auto i = static_cast<std::size_t>(index);
      losses[i] = objective_.of_outputs(soft_.run_hard(held_back_[i], plans),
                                        soft_.run_float(held_back_[i]));
    });
    return std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(losses.size());
  }

  const LearningRecipe& recipe_;
  const LearnOptions& options_;
  const std::vector<SitePlan>& plans_;
  SoftModel soft_;
  std::vector<Parameter> parameters_;
  std::vector<Adam> moments_;
  Batches samples_, held_back_;
  Objective objective_;
  std::vector<std::vector<at::Tensor>> used_;  // by sample, see SoftModel::used_rows()
};

}  // namespace

Learned learn(const Model& model, const std::vector<Site>& sites,
              const std::vector<SitePlan>& plans, const HeldBack& samples,
              const LearningRecipe& recipe, const LearnOptions& options) {
  const at::NoGradGuard no_grad;
  Learned result;
  if (samples.held_back.empty()) {
    result.problem = "no samples are held back to judge it by";
    return result;
  }
  try {
    return Learning(model, sites, plans, samples, recipe, options).run();
  } catch (const c10::Error& e) {
    rethrow_if_out_of_memory("learning");
    result.problem =
        std::string("the model cannot be differentiated: ") + e.what_without_backtrace();
  } catch (const Error& e) {
    const ErrorKind kind = e.kind();
    if (kind != ErrorKind::kNumerical && kind != ErrorKind::kUnsupported) throw;
    result.problem = e.parts().what;
  }
  return result;
}

}  // namespace repquant
