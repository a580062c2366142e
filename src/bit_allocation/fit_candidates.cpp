#include "bit_allocation/fit_candidates.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/overloaded.h"
#include "fit/attention.h"
#include "fit/consumers.h"
#include "fit/linear_input.h"
#include "fit/linear_problem.h"
#include "fit/linear_weight.h"
#include "fit/row_sample.h"
#include "fit/rows.h"
#include "fit/sensitivity.h"
#include "fit/streams.h"
#include "gptq/gptq.h"
#include "plan/simulate.h"
#include "quantizer/sample_rows.h"
#include "repquant/error.h"

namespace repquant {
namespace {

constexpr std::int64_t kNoiseRows = 512;  // enough for a table

at::Tensor without_mean(const at::Tensor& rows) { return rows - rows.mean(0); }

double energy(const at::Tensor& values) { return values.square().mean(at::kDouble).item<double>(); }

void require_finite(double signal, const std::string& path) {
  if (std::isfinite(signal)) return;
  throw Error(ErrorKind::kNumerical,
              {.what = "the output of a site holds NaN or infinite values",
               .where = path,
               .hint = "check the calibration data and that the model runs in float32"});
}

class Fit {
 public:
  Fit(const Model& model, const std::vector<Site>& sites, const Batches& batches,
      const Recipe& recipe, const Choices& choices, const FitCandidatesOptions& options)
      : model_(model),
        sites_(sites),
        batches_(batches),
        recipe_(recipe),
        choices_(choices),
        options_(options),
        streams_(model, batches, options.threads, options.check_interrupt),
        all_batches_(batches.size()),
        group_of_(sites.size(), nullptr) {
    streams_.spill_to(options.spill);
    std::iota(all_batches_.begin(), all_batches_.end(), std::size_t{0});
    recipe_.weights.compensation = Compensation::kNone;
    for (const auto& group : choices.groups) {
      for (const std::size_t i : group) group_of_[i] = &group;
    }
  }

  std::vector<SiteCandidates> run() {
    if (recipe_.weights.sensitivity > 0) {
      sensitivities_ = measure_sensitivity(*model_.graph, streams_.schedule(), sites_, batches_,
                                           options_.threads, options_.check_interrupt);
    }
    result_.resize(sites_.size());
    for (std::size_t i = 0; i < sites_.size(); ++i) {
      options_.check_interrupt();
      options_.on_site(i);
      const SiteChoices& choices = choices_.sites[i];
      if (choices.weight_bits.empty() && choices.activation_bits.empty()) continue;
      std::visit(Overloaded{[&](const LinearSite& linear) { fit_linear_site(i, linear); },
                            [&](const ScoresSite& scores) { fit_scores_site(i, scores); },
                            [&](const AttendSite& attend) { fit_attend_site(i, attend); },
                            [](const EmbeddingSite&) {}, [](const GroupedConvolutionSite&) {}},
                 sites_[i].kind);
      require_finite(result_[i].signal, sites_[i].path);
    }
    return std::move(result_);
  }

 private:
  at::Tensor weights_of(const torch::jit::Value* value) const {
    return row_weights(find_sensitivity(sensitivities_, value), recipe_.weights.sensitivity);
  }

  at::Tensor weights_of(const torch::jit::Value* operand, std::int64_t axis) const {
    return operand_weights(find_sensitivity(sensitivities_, operand),
                           streams_.first_value(operand, Stream::kFloat), axis, all_batches_,
                           recipe_.weights.sensitivity);
  }

  /// The rows of all readers of the codes of site i, whose own are `own`: as the fit has them.
  WeightedRows rows_of_readers(std::size_t i, const WeightedRows& own) const {
    std::vector<WeightedRows> readers{own};
    for (const std::size_t other : readers_of_other_rows(sites_, *group_of_[i], i)) {
      const auto* node = sites_[other].node;
      const SourceRows rows(row_source(node->input(0)), sites_[other].path, options_.threads);
      readers.push_back(
          sample_for_grid(rows, rows.kept_of(weights_of(node->output())), options_.threads));
    }
    return joined(readers);
  }

  std::vector<InputCandidate> fit_inputs(std::size_t i, const WeightedRows& rows) const {
    const WeightedRows readers = rows_of_readers(i, rows);
    LinearProblem in;
    in.path = sites_[i].path;
    in.site = linear_of(sites_[i]);
    in.readers = readers_of(sites_, *group_of_[i], sensitivities_);
    in.threads = options_.threads;
    std::vector<InputCandidate> inputs;
    for (const int bits : choices_.sites[i].activation_bits) {
      in.activation_bits = bits;
      in.weight_bits = bits;
      FittedInput fitted = fit_linear_input(readers, in, recipe_);
      InputCandidate candidate{.quantizer = std::move(fitted.quantizer),
                               .side_channels = std::move(fitted.side.channels),
                               .mean_error = {}};
      candidate.mean_error =
          weighted_mean(input_error(candidate, rows.x), rows.weights).to(at::kFloat);
      inputs.push_back(std::move(candidate));
    }
    return inputs;
  }

  RowSource row_source(const torch::jit::Value* input) const {
    RowSource rows;
    rows.batches = streams_.batches();
    rows.x = [this, input](std::size_t i) { return streams_.value(i, input, Stream::kFloat); };
    return rows;
  }

  void fit_linear_site(std::size_t i, const LinearSite& site) {
    const auto* node = sites_[i].node;
    SiteCandidates& fit = result_[i];
    streams_.advance_to(begin_of(sites_[i]));
    const SourceRows rows(row_source(node->input(0)), sites_[i].path, options_.threads);
    const at::Tensor weights = rows.kept_of(weights_of(node->output()));
    const WeightedRows used = sample_for_grid(rows, weights, options_.threads);
    fit.mean = weighted_mean(used.x, used.weights).to(at::kFloat);
    if (group_of_[i] != nullptr) {
      const std::size_t first = group_of_[i]->front();
      // The codes are those of the first site that reads them; a padded input has other rows.
      fit.inputs = first < i ? result_[first].inputs : fit_inputs(i, used);
    }
    const InputCandidate* widest = fit.inputs.empty() ? nullptr : &fit.inputs.back();
    fit.ratio = widest != nullptr ? fold_of(widest->quantizer).ratio : at::ones({1}, at::kFloat);
    const auto without_side = [&](const at::Tensor& x) {
      return widest != nullptr ? without_channels(x, widest->side_channels) : x;
    };
    const PreparedWeight prepared = prepare_weight(
        {.weight = without_side((site.weight * fit.ratio).contiguous()),
         .bias = at::zeros({site.weight.size(0)}, at::kFloat),
         .rows = &rows,
         .codes = [&](const at::Tensor& x) { return without_side(x / fit.ratio); },
         .target = {},
         .row_weights = weights,
         .threads = options_.threads},
        weight_recipe(recipe_.weights, widest != nullptr ? &widest->quantizer : nullptr));
    for (const int bits : choices_.sites[i].weight_bits) {
      fit.weights.push_back(quantize_weight(prepared.weight, prepared.hessian, bits,
                                            prepared.recipe, options_.threads));
    }
    const at::Tensor counted = used.weights.defined() ? used.weights.gt(0) : at::Tensor();
    const at::Tensor sample = sample_rows(used.x, kNoiseRows, counted);
    fit.signal = energy(at::linear(sample, site.weight, site.bias));
    for (std::size_t j = 0; j < fit.weights.size(); ++j) {
      fit.weight_noise.push_back(
          energy(without_mean(at::linear(sample, weight_error(site, fit, j)))));
    }
    for (const InputCandidate& input : fit.inputs) {
      fit.activation_noise.push_back(
          energy(without_mean(at::linear(input_error(input, sample), site.weight))));
    }
  }

  void fit_scores_site(std::size_t i, const ScoresSite& site) {
    const auto* node = sites_[i].node;
    SiteCandidates& fit = result_[i];
    streams_.advance_to(node);
    const auto left = streams_.values(node->input(0), Stream::kFloat);
    const auto right = streams_.values(node->input(1), Stream::kFloat);
    const at::Tensor exact = at::matmul(left[0], right[0]);
    fit.signal = energy(exact);
    for (const int bits : choices_.sites[i].activation_bits) {
      fit.scores.push_back(fit_scores(left, right, site, bits, recipe_.attention,
                                      may_go_by_token(node, bits, recipe_.attention),
                                      weights_of(node->input(0), -1),
                                      weights_of(node->input(1), -2)));
      const ScoresPlan& plan = fit.scores.back();
      fit.activation_noise.push_back(
          energy(comparable_scores(plan, simulate_scores(plan, left[0], right[0]) - exact)));
    }
  }

  void fit_attend_site(std::size_t i, const AttendSite& site) {
    const auto* node = sites_[i].node;
    SiteCandidates& fit = result_[i];
    const auto value = streams_.values(node->input(1), Stream::kFloat);
    const at::Tensor scores = streams_.first_scores(sites_[i], Stream::kFloat);
    const at::Tensor exact = at::matmul(at::softmax(scores, -1), value[0]);
    fit.signal = energy(exact);
    for (const int bits : choices_.sites[i].activation_bits) {
      fit.attends.push_back(fit_attend(value, site, bits, recipe_.attention,
                                       makes_up_for_means(recipe_.weights),
                                       weights_of(node->input(1), -1)));
      fit.activation_noise.push_back(
          energy(simulate_attend(fit.attends.back(), scores, value[0]) - exact));
    }
  }

  const Model& model_;
  const std::vector<Site>& sites_;
  const Batches& batches_;
  Recipe recipe_;
  const Choices& choices_;
  const FitCandidatesOptions& options_;
  Streams streams_;
  std::vector<std::size_t> all_batches_;
  std::vector<const std::vector<std::size_t>*> group_of_;
  Sensitivities sensitivities_;
  std::vector<SiteCandidates> result_;
};

}  // namespace

at::Tensor input_error(const InputCandidate& candidate, const at::Tensor& x) {
  at::Tensor error = fake_quantize(x, candidate.quantizer) - x;
  error = without_channels(error, candidate.side_channels);
  if (candidate.mean_error.defined()) error -= candidate.mean_error;
  return error;
}

at::Tensor weight_error(const LinearSite& site, const SiteCandidates& candidates, std::size_t j) {
  at::Tensor error = candidates.weights[j].dequantize() / candidates.ratio - site.weight;
  if (candidates.inputs.empty()) return error;
  return without_channels(error, candidates.inputs.back().side_channels);
}

std::vector<SiteCandidates> fit_candidates(const Model& model, const std::vector<Site>& sites,
                                           const Batches& batches, const Recipe& recipe,
                                           const Choices& choices,
                                           const FitCandidatesOptions& options) {
  const at::NoGradGuard no_grad;
  return Fit(model, sites, batches, recipe, choices, options).run();
}

}  // namespace repquant
