#include "bit_allocation/measure_errors.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <array>

#include "base/overloaded.h"
#include "bit_allocation/fit_candidates.h"
#include "fit/gradients.h"
#include "graph/walker.h"
#include "plan/simulate.h"
#include "repquant/error.h"
#include "tensor/current_error.h"
#include "tensor/parallel.h"

namespace repquant {
namespace {

using torch::jit::Value;

/// Sums over tokens of (g e)^2 by the outputs' and the logits' gradient.
using Pair = std::array<double, 2>;

struct Sums {
  std::vector<std::vector<Pair>> weights, activations;  // by site and width
  std::vector<std::vector<Pair>> groups;                // by group and width
  double signal = 0.0;
  double rows = 0.0;  // of logits
};

Sums empty_sums(const Choices& choices) {
  Sums sums;
  for (const SiteChoices& site : choices.sites) {
    sums.weights.emplace_back(site.weight_bits.size(), Pair{});
    sums.activations.emplace_back(site.activation_bits.size(), Pair{});
  }
  for (const auto& group : choices.groups) {
    sums.groups.emplace_back(choices.sites[group.front()].activation_bits.size(), Pair{});
  }
  return sums;
}

void add(std::vector<std::vector<Pair>>& sums, const std::vector<std::vector<Pair>>& part) {
  for (std::size_t i = 0; i < sums.size(); ++i) {
    for (std::size_t j = 0; j < sums[i].size(); ++j) {
      for (std::size_t k = 0; k < 2; ++k) sums[i][j][k] += part[i][j][k];
    }
  }
}

double squared(const at::Tensor& products) {
  return products.defined() ? products.square().sum(at::kDouble).item<double>() : 0.0;
}

/// g e of every token and width, by gradient: two lists of [n]; undefined without a gradient.
using Products = std::vector<std::array<at::Tensor, 2>>;

class Measurement {
 public:
  Measurement(const Model& model, const Schedule& schedule, const std::vector<Site>& sites,
              const std::vector<SiteCandidates>& candidates, const Choices& choices)
      : model_(model),
        schedule_(schedule),
        sites_(sites),
        candidates_(candidates),
        choices_(choices) {
    for (std::size_t i = 0; i < sites.size(); ++i) {
      const SiteChoices& site = choices.sites[i];
      if (site.weight_bits.empty() && site.activation_bits.empty()) continue;
      const auto* node = sites[i].node;
      std::visit(Overloaded{[&](const LinearSite&) { want(node->output(), node->input(0)); },
                            [&](const ScoresSite&) {
                              want(node->input(0), node->input(0));
                              want(node->input(1), node->input(1));
                            },
                            [&](const AttendSite& attend) {
                              want(node->output(), node->input(1));
                              options_.kept.insert(is_moved(*node, attend)
                                                       ? node->input(0)
                                                       : attend.softmax->input(0));
                            },
                            [](const EmbeddingSite&) {}, [](const GroupedConvolutionSite&) {}},
                 sites[i].kind);
    }
    options_.with_logits = true;
  }

  Sums run(const std::vector<at::Tensor>& batch, std::uint64_t seed) const {
    Sums sums = empty_sums(choices_);
    for_each_part(batch, seed, [&](const auto& part, std::uint64_t part_seed) {
      run_part(part, part_seed, sums);
    });
    return sums;
  }

 private:
  void want(const Value* gradient, const Value* kept) {
    options_.wanted.insert(gradient);
    options_.kept.insert(kept);
  }

  void run_part(const std::vector<at::Tensor>& batch, std::uint64_t seed, Sums& sums) const {
    DifferentiateOptions options = options_;
    options.seed = seed;
    const Differentiated at_values = differentiate(*model_.graph, schedule_, batch, options);
    const at::NoGradGuard no_grad;
    if (at_values.outputs_gradients.empty()) {
      throw Error(ErrorKind::kUnsupported,
                  {.what = "the model's outputs have no gradient, by which sites are ranked",
                   .hint = "export the model without its argmax or comparison, or "
                           "give bits by site (`overrides`)"});
    }
    for (const auto& output : at_values.outputs) {
      sums.signal += output.square().sum(at::kDouble).item<double>();
      sums.rows += static_cast<double>(output.numel()) /
                   static_cast<double>(output.dim() > 0 ? output.size(-1) : 1);
    }
    std::vector<Products> activations(sites_.size());
    for (std::size_t i = 0; i < sites_.size(); ++i) {
      if (const LinearSite* linear = linear_of(sites_[i])) {
        add_weights(i, *linear, at_values, sums.weights[i]);
      }
      activations[i] = std::visit(
          Overloaded{
              [&](const LinearSite& linear) { return input_products(i, linear, at_values); },
              [&](const ScoresSite& scores) { return scores_products(i, scores, at_values); },
              [&](const AttendSite& attend) { return attend_products(i, attend, at_values); },
              [](const EmbeddingSite&) { return Products(); },
              [](const GroupedConvolutionSite&) { return Products(); }},
          sites_[i].kind);
      for (std::size_t j = 0; j < activations[i].size(); ++j) {
        for (std::size_t k = 0; k < 2; ++k) {
          sums.activations[i][j][k] += squared(activations[i][j][k]);
        }
      }
    }
    for (std::size_t g = 0; g < choices_.groups.size(); ++g) {
      add_group(choices_.groups[g], activations, sums.groups[g]);
    }
  }

  /// The same error enters all sites of a group, so their effects add up before they are squared.
  static void add_group(const std::vector<std::size_t>& group,
                        const std::vector<Products>& activations, std::vector<Pair>& sums) {
    for (std::size_t j = 0; j < sums.size(); ++j) {
      for (std::size_t k = 0; k < 2; ++k) {
        at::Tensor together;
        for (const std::size_t i : group) {
          const at::Tensor& own = activations[i][j][k];
          if (!own.defined()) continue;
          if (!together.defined()) {
            together = own;
          } else if (together.sizes() == own.sizes()) {
            together = together + own;
          } else {
            sums[j][k] += squared(own);  // other rows, as with padding in between
          }
        }
        sums[j][k] += squared(together);
      }
    }
  }

  static std::array<at::Tensor, 2> gradients_of(const Differentiated& at_values,
                                                const Value* value) {
    std::array<at::Tensor, 2> result;
    const auto outputs = at_values.outputs_gradients.find(value);
    if (outputs != at_values.outputs_gradients.end()) result[0] = outputs->second;
    const auto logits = at_values.logits_gradients.find(value);
    if (logits != at_values.logits_gradients.end()) result[1] = logits->second;
    return result;
  }

  static at::Tensor rows_of(const at::Tensor& value) { return value.reshape({-1, value.size(-1)}); }

  void add_weights(std::size_t i, const LinearSite& site, const Differentiated& at_values,
                   std::vector<Pair>& sums) const {
    const SiteCandidates& fit = candidates_[i];
    if (fit.weights.empty()) return;
    const at::Tensor x = rows_of(at_values.kept.at(sites_[i].node->input(0))) - fit.mean;
    const auto gradients = gradients_of(at_values, sites_[i].node->output());
    for (std::size_t j = 0; j < fit.weights.size(); ++j) {
      const at::Tensor error = at::linear(x, weight_error(site, fit, j));
      for (std::size_t k = 0; k < 2; ++k) {
        if (gradients[k].defined()) sums[j][k] += squared((error * rows_of(gradients[k])).sum(-1));
      }
    }
  }

  Products input_products(std::size_t i, const LinearSite& site,
                          const Differentiated& at_values) const {
    const SiteCandidates& fit = candidates_[i];
    Products products(fit.inputs.size());
    if (fit.inputs.empty()) return products;
    const at::Tensor x = rows_of(at_values.kept.at(sites_[i].node->input(0)));
    auto gradients = gradients_of(at_values, sites_[i].node->output());
    for (at::Tensor& gradient : gradients) {
      if (gradient.defined()) gradient = at::matmul(rows_of(gradient), site.weight);
    }
    for (std::size_t j = 0; j < fit.inputs.size(); ++j) {
      const at::Tensor error = input_error(fit.inputs[j], x);
      for (std::size_t k = 0; k < 2; ++k) {
        if (gradients[k].defined()) products[j][k] = (error * gradients[k]).sum(-1);
      }
    }
    return products;
  }

  Products scores_products(std::size_t i, const ScoresSite& site,
                           const Differentiated& at_values) const {
    const SiteCandidates& fit = candidates_[i];
    Products products(fit.scores.size());
    if (fit.scores.empty()) return products;
    const auto* node = sites_[i].node;
    const at::Tensor& left = at_values.kept.at(node->input(0));
    const at::Tensor& right = at_values.kept.at(node->input(1));
    const auto by_left = gradients_of(at_values, node->input(0));
    const auto by_right = gradients_of(at_values, node->input(1));
    for (std::size_t j = 0; j < fit.scores.size(); ++j) {
      const ScoresOperands quantized = simulate_operands(fit.scores[j], left, right);
      const at::Tensor left_error = quantized.left - left;
      at::Tensor right_error = quantized.right - right;
      // Softmax does not see it.
      if (site.softmax) right_error -= right_error.mean(-1, /*keepdim=*/true);
      for (std::size_t k = 0; k < 2; ++k) {
        std::vector<at::Tensor> parts;
        if (by_left[k].defined()) parts.push_back((left_error * by_left[k]).sum(-1).flatten());
        if (by_right[k].defined()) parts.push_back((right_error * by_right[k]).sum(-2).flatten());
        if (!parts.empty()) products[j][k] = at::cat(parts);
      }
    }
    return products;
  }

  /// True if the product reads the softmax's rows in another shape or order.
  static bool is_moved(const torch::jit::Node& node, const AttendSite& site) {
    return node.input(0)->node() != site.softmax;
  }

  /// The scores, moved as the softmax's rows are: those of moved rows are their logarithms.
  static at::Tensor scores_of(const torch::jit::Node& node, const AttendSite& site,
                              const Differentiated& at_values) {
    if (!is_moved(node, site)) return at_values.kept.at(site.softmax->input(0));
    return at_values.kept.at(node.input(0)).nan_to_num(0.0).log();
  }

  Products attend_products(std::size_t i, const AttendSite& site,
                           const Differentiated& at_values) const {
    const SiteCandidates& fit = candidates_[i];
    Products products(fit.attends.size());
    if (fit.attends.empty()) return products;
    const at::Tensor scores = scores_of(*sites_[i].node, site, at_values);
    const at::Tensor& value = at_values.kept.at(sites_[i].node->input(1));
    // A row that is masked throughout has no softmax; the quantized one gives 0.
    const at::Tensor exact = at::matmul(at::softmax(scores, -1).nan_to_num(0.0), value);
    const auto gradients = gradients_of(at_values, sites_[i].node->output());
    for (std::size_t j = 0; j < fit.attends.size(); ++j) {
      at::Tensor error = simulate_attend(fit.attends[j], scores, value) - exact;
      error -= error.mean(-2, /*keepdim=*/true);  // mostly taken up by the next bias
      for (std::size_t k = 0; k < 2; ++k) {
        if (gradients[k].defined()) products[j][k] = (error * gradients[k]).sum(-1).flatten();
      }
    }
    return products;
  }

  const Model& model_;
  const Schedule& schedule_;
  const std::vector<Site>& sites_;
  const std::vector<SiteCandidates>& candidates_;
  const Choices& choices_;
  DifferentiateOptions options_;
};

Sums sum_of_batches(const Measurement& measurement, const Batches& batches, const Choices& choices,
                    const MeasureErrorsOptions& options) {
  std::vector<Sums> parts(batches.size());
  parallel_for(std::ssize(batches), options.threads, [&](std::int64_t i) {
    options.check_interrupt();
    const auto at = static_cast<std::size_t>(i);
    parts[at] = measurement.run(batches[at], static_cast<std::uint64_t>(i));
  });
  Sums sums = empty_sums(choices);
  for (const Sums& part : parts) {
    add(sums.weights, part.weights);
    add(sums.activations, part.activations);
    add(sums.groups, part.groups);
    sums.signal += part.signal;
    sums.rows += part.rows;
  }
  return sums;
}

std::vector<WidthError> width_errors(const std::vector<int>& bits, const std::vector<Pair>& sums,
                                     const std::vector<double>& noise, double signal,
                                     const Sums& total) {
  std::vector<WidthError> errors;
  for (std::size_t j = 0; j < bits.size(); ++j) {
    errors.push_back({.bits = bits[j],
                      .local_noise = noise.empty() || signal <= 0 ? 0.0 : noise[j] / signal,
                      .output_error = sums[j][0] / std::max(total.signal, 1e-300),
                      .kl = sums[j][1] / (2 * std::max(total.rows, 1.0))});
  }
  return errors;
}

}  // namespace

const WidthError* find_width(const std::vector<WidthError>& widths, int bits) {
  const auto found = std::find_if(widths.begin(), widths.end(),
                                  [bits](const WidthError& width) { return width.bits == bits; });
  return found == widths.end() ? nullptr : &*found;
}

ErrorTable measure_errors(const Model& model, const std::vector<Site>& sites,
                          const Batches& batches, const Recipe& recipe, const Choices& choices,
                          const MeasureErrorsOptions& options) {
  const auto candidates = fit_candidates(model, sites, batches, recipe, choices,
                                         {.threads = options.threads,
                                          .spill = options.spill,
                                          .on_site = options.on_site,
                                          .check_interrupt = options.check_interrupt});
  const Schedule schedule(*model.graph);
  const Measurement measurement(model, schedule, sites, candidates, choices);
  Sums sums;
  try {
    sums = sum_of_batches(measurement, batches, choices, options);
  } catch (const Error&) {
    throw;
  } catch (const std::exception&) {
    rethrow_if_out_of_memory(model.path);
    throw Error(ErrorKind::kUnsupported,
                {.what = "the model cannot be differentiated, so sites cannot be ranked",
                 .where = model.path,
                 .hint = "state bits of sites in the recipe (overrides)"});
  }
  ErrorTable table;
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const SiteCandidates& fit = candidates[i];
    table.sites.push_back(
        {.weights = width_errors(choices.sites[i].weight_bits, sums.weights[i], fit.weight_noise,
                                 fit.signal, sums),
         .activations = width_errors(choices.sites[i].activation_bits, sums.activations[i],
                                     fit.activation_noise, fit.signal, sums)});
  }
  for (std::size_t g = 0; g < choices.groups.size(); ++g) {
    const auto& bits = choices.sites[choices.groups[g].front()].activation_bits;
    table.groups.push_back(width_errors(bits, sums.groups[g], {}, 0.0, sums));
  }
  return table;
}

}  // namespace repquant
