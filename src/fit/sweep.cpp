#include "fit/sweep.h"

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <c10/util/Exception.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <exception>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <sstream>
#include <unordered_set>

#include "base/clock.h"
#include "base/text_table.h"
#include "fit/attention.h"
#include "fit/checkpoint.h"
#include "fit/fold_check.h"
#include "fit/linear.h"
#include "fit/row_identity.h"
#include "fit/rows.h"
#include "fit/sensitivity.h"
#include "fit/shared_weights.h"
#include "fit/streams.h"
#include "graph/rewrite.h"
#include "plan/simulate.h"
#include "quantizer/metrics.h"
#include "repquant/error.h"
#include "tensor/parallel.h"

namespace repquant {
namespace {

using torch::jit::Node;

constexpr const char* kFolded = "folded into norm; ";

/// sqnr_db() of what is finite in the reference.
double sqnr_where_finite(const at::Tensor& reference, const at::Tensor& value) {
  if (is_finite(reference)) return sqnr_db(reference, value);
  const at::Tensor finite = reference.isfinite();
  return sqnr_db(reference.masked_select(finite), value.masked_select(finite));
}

class Sweep {
 public:
  Sweep(const Model& model, const SiteSearch& search,
        const std::vector<std::vector<at::Tensor>>& batches, const Recipe& recipe,
        const SweepOptions& options)
      : model_(model),
        sites_(search.sites),
        batches_(batches),
        recipe_(recipe),
        options_(options),
        bits_(resolve_bits(search.sites, recipe)),
        shared_weights_(round_shared_weights(search.sites, bits_, recipe.weights, options.threads)),
        streams_(model, batches, options.threads, options.check_interrupt),
        quantized_values_(quantized_values(streams_.schedule(), sites_)) {
    find_foldable_norms();
    if (!options.workdir.empty()) streams_.spill_to(options.workdir, options.spill_bytes);
  }

  SweepResult run() {
    const auto start = Clock::now();
    if (recipe_.weights.sensitivity > 0) {
      sensitivities_ = measure_sensitivity(*model_.graph, streams_.schedule(), sites_, batches_,
                                           options_.threads, options_.check_interrupt);
    }
    SweepState restored;
    if (options_.resume && !options_.workdir.empty()) {
      restored = read_checkpoint(options_.workdir, options_.fingerprint);
    }
    for (std::size_t i = 0; i < sites_.size(); ++i) {
      if (!bits_[i].quantized) {
        result_.excluded.push_back(sites_[i].path);
        continue;
      }
      if (options_.check_interrupt) options_.check_interrupt();
      report(i);
      const std::size_t index = plans_.size();
      if (index < restored.plans.size() && restored.plans[index].path == sites_[i].path) {
        keep(i, std::move(restored.plans[index]));
        continue;
      }
      if (auto plan = fit_or_leave(i)) {
        keep(i, std::move(*plan));
        save(index);
      }
    }
    report(sites_.size());
    if (plans_.empty() && failure_) std::rethrow_exception(failure_);
    finish_streams();
    result_.plans.assign(std::make_move_iterator(plans_.begin()),
                         std::make_move_iterator(plans_.end()));
    for (const SitePlan& plan : result_.plans) {
      result_.fold_deviation = std::max(result_.fold_deviation, plan.errors.fold_deviation);
    }
    result_.float_seconds = streams_.float_seconds();
    result_.seconds = seconds_since(start);
    return std::move(result_);
  }

 private:
  const Sensitivity* sensitivity_of(const torch::jit::Value* value) const {
    const auto found = sensitivities_.find(value);
    return found == sensitivities_.end() ? nullptr : &found->second;
  }

  at::Tensor weights_of(const torch::jit::Value* value) const {
    return row_weights(sensitivity_of(value), recipe_.weights.sensitivity);
  }

  /// W^T D W, D what the outputs of the site count.
  at::Tensor gram_of(const Site& site) const {
    const auto* sensitivity = sensitivity_of(site.node->output());
    if (sensitivity == nullptr) return at::matmul(site.weight.t(), site.weight);
    const auto scaled = site.weight * sensitivity->channels.to(at::kFloat).unsqueeze(1);
    return at::matmul(site.weight.t(), scaled);
  }

  /// Sum of W^T D W over the Linears that a norm feeds.
  at::Tensor norm_gram(const Node* norm) const {
    at::Tensor gram;
    for (const auto& site : sites_) {
      if (site.norm != norm) continue;
      gram = gram.defined() ? gram + gram_of(site) : gram_of(site);
    }
    return gram;
  }

  /// The residual with an error that the site's output is added to; null if there is none. What
  /// depends on no site, such as a learned position, has no error.
  const torch::jit::Value* residual_of(const Site& site) const {
    const auto& uses = site.node->output()->uses();
    if (uses.size() != 1) return nullptr;
    const Node* add = uses[0].user;
    if (!is_kind(add, "aten::add") || uses[0].offset > 1) return nullptr;
    if (add->owningBlock() != site.node->owningBlock() || !is_one(add->input(2))) return nullptr;
    const auto* residual = add->input(1 - uses[0].offset);
    if (quantized_values_.count(residual) == 0) return nullptr;
    const auto& schedule = streams_.schedule();
    if (schedule.index_of(residual->node()) > schedule.index_of(site.node)) return nullptr;
    return residual;
  }

  /// What the residual lacks, in one batch, for every element of the output; undefined if the sum
  /// has another shape than the output.
  at::Tensor residual_error(const Site& site, const torch::jit::Value* residual,
                            std::size_t batch) const {
    const auto floating = streams_.value(batch, residual, Stream::kFloat);
    const auto quantized = streams_.value(batch, residual, Stream::kQuantized);
    std::vector<std::int64_t> shape =
        streams_.value(batch, site.node->input(0), Stream::kQuantized).sizes().vec();
    shape.back() = site.weight.size(0);
    const bool fits =
        floating.sizes() == quantized.sizes() && at::is_expandable_to(floating.sizes(), shape);
    return fits ? (floating - quantized).expand(shape) : at::Tensor();
  }

  RowSource row_source(const Site& site, bool compensates) const {
    RowSource rows;
    rows.batches = streams_.batches();
    const auto* input = site.node->input(0);
    rows.x = [this, input](std::size_t i) { return streams_.value(i, input, Stream::kQuantized); };
    if (!compensates) return rows;
    rows.x_float = [this, input](std::size_t i) {
      return streams_.value(i, input, Stream::kFloat);
    };
    const auto* residual = residual_of(site);
    if (residual == nullptr || !residual_error(site, residual, 0).defined()) return rows;
    rows.residual_error = [this, &site, residual](std::size_t i) {
      return residual_error(site, residual, i);
    };
    return rows;
  }

  /// What readers of the same norm see that do not read what `site` does: other tokens of it.
  std::vector<ReaderRows> other_readers_of(const Site& site) const {
    std::vector<ReaderRows> others;
    std::set<const torch::jit::Value*> seen{site.node->input(0)};
    for (const Site& other : sites_) {
      if (other.norm != site.norm || !seen.insert(other.node->input(0)).second) continue;
      others.push_back({row_source(other, false), weights_of(other.node->output())});
    }
    return others;
  }

  /// Batches, evenly spaced, that hold as many values of an operand as its fit needs.
  std::vector<std::size_t> some_batches(const torch::jit::Value* value) const {
    const std::size_t batches = streams_.batches();
    const std::int64_t size =
        std::max<std::int64_t>(1, streams_.first_value(value, Stream::kQuantized).numel());
    const auto wanted = static_cast<std::size_t>(std::max<std::int64_t>(1, kOperandValues / size));
    const std::size_t stride = (batches + wanted - 1) / wanted;
    std::vector<std::size_t> chosen;
    for (std::size_t i = 0; i < batches; i += stride) chosen.push_back(i);
    return chosen;
  }

  std::vector<at::Tensor> values_in(const std::vector<std::size_t>& batches,
                                    const torch::jit::Value* value) const {
    std::vector<at::Tensor> result(batches.size());
    parallel_for(std::ssize(batches), options_.threads, [&](std::int64_t i) {
      const auto k = static_cast<std::size_t>(i);
      result[k] = streams_.value(batches[k], value, Stream::kQuantized);
      // Zero is on every grid, and what is not finite must not set one.
      if (!is_finite(result[k])) result[k] = at::nan_to_num(result[k], 0.0, 0.0, 0.0);
    });
    return result;
  }

  at::Tensor weights_in(const std::vector<std::size_t>& batches,
                        const torch::jit::Value* value) const {
    const auto* all = sensitivity_of(value);
    if (all == nullptr) return {};
    Sensitivity chosen;
    for (const std::size_t i : batches) {
      chosen.tokens.push_back(all->tokens[i]);
      chosen.used.push_back(all->used[i]);
    }
    return row_weights(&chosen, recipe_.weights.sensitivity);
  }

  /// A norm is folded only if all its consumers read the same codes.
  void find_foldable_norms() {
    std::map<const Node*, int> activation_bits;
    std::set<const Node*> refused;
    for (std::size_t i = 0; i < sites_.size(); ++i) {
      const Node* norm = sites_[i].norm;
      if (norm == nullptr) continue;
      const int bits = bits_[i].quantized ? bits_[i].activation_bits : kWeightOnlyBits;
      if (shared_weights_.count(i) > 0 || bits == kWeightOnlyBits ||
          activation_bits.emplace(norm, bits).first->second != bits) {
        refused.insert(norm);
      }
      foldable_.insert(norm);
    }
    for (const Node* norm : refused) foldable_.erase(norm);
  }

  /// Linears that read one value at the same bits share its codes.
  using SharedInput = std::pair<const torch::jit::Value*, int>;  // and its bits
  SharedInput input_of(std::size_t i) const {
    return {sites_[i].node->input(0), bits_[i].activation_bits};
  }

  /// Sum of W^T D W over the Linears that share the input of site i.
  at::Tensor gram_of(std::size_t i) const {
    at::Tensor gram = gram_of(sites_[i]);
    for (std::size_t j = i + 1; j < sites_.size(); ++j) {
      if (!sites_[j].weight.defined() || !bits_[j].quantized || input_of(j) != input_of(i))
        continue;
      gram += gram_of(sites_[j]);
    }
    return gram;
  }

  /// How much this fold changes what any reader of the norm computes, on the first batch.
  double fold_deviation_of(const Node* norm, const InputQuantizer& quantizer) const {
    double largest = 0.0;
    for (const Site& site : sites_) {
      if (site.norm != norm) continue;
      const auto x = streams_.first_value(site.node->input(0), Stream::kFloat);
      const double deviation = fold_deviation(site, quantizer, x);
      if (!(deviation <= largest)) largest = deviation;  // NaN stays
    }
    return largest;
  }

  /// From now on the quantized stream evaluates the site by `plan`.
  void keep(std::size_t i, SitePlan plan) {
    plans_.push_back(std::move(plan));
    if (const auto* linear = std::get_if<LinearPlan>(&plans_.back().plan);
        linear != nullptr && linear->quantized_input) {
      if (!linear->norm.empty()) {
        norm_inputs_.emplace(sites_[i].norm, &linear->input);
      } else if (linear->side.channels.empty()) {
        shared_inputs_.emplace(input_of(i), &linear->input);
      }
    }
    streams_.add_plan(sites_[i], plans_.back());
  }

  void save(std::size_t index) const {
    if (options_.workdir.empty()) return;
    append_checkpoint(options_.workdir, options_.fingerprint, index, plans_[index]);
  }

  void report(std::size_t site) const {
    if (!options_.on_progress) return;
    options_.on_progress(
        {site, sites_.size(), site < sites_.size() ? sites_[site].path : std::string("outputs")});
  }

  /// fit(), or nothing where that fails: the site stays in floating point, and the result says why.
  std::optional<SitePlan> fit_or_leave(std::size_t i) {
    const Site& site = sites_[i];
    if (site.weight.defined() || site.kind == SiteKind::kScores) streams_.advance_to(site.node);
    try {
      return fit(i);
    } catch (const Error& e) {
      const ErrorKind kind = e.kind();
      if (kind != ErrorKind::kNumerical && kind != ErrorKind::kUnsupported &&
          kind != ErrorKind::kInternal) {
        throw;
      }
      leave(i, e.parts().what);
    } catch (const c10::Error& e) {
      leave(i, e.what_without_backtrace());
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& e) {
      leave(i, e.what());
    }
    return std::nullopt;
  }

  void leave(std::size_t i, const std::string& reason) {
    if (!failure_) failure_ = std::current_exception();
    bits_[i].quantized = false;
    unfold(sites_[i].norm);
    result_.failed.push_back({sites_[i].path, reason.substr(0, reason.find('\n'))});
  }

  /// A norm with a reader in floating point carries no codes: other readers make them themselves.
  void unfold(const Node* norm) {
    foldable_.erase(norm);
    for (SitePlan& plan : plans_) {
      auto* linear = std::get_if<LinearPlan>(&plan.plan);
      if (linear == nullptr || norm == nullptr || linear->norm != output_of(norm)) continue;
      linear->norm.clear();
      plan.errors.fold_deviation = 0.0;
      plan.note = plan.note.substr(std::string(kFolded).size());
    }
  }

  static std::string output_of(const Node* norm) { return norm->outputs()[0]->debugName(); }

  SitePlan fit(std::size_t i) {
    const Site& site = sites_[i];
    SitePlan plan;
    plan.path = site.path;
    plan.kind = site.kind;
    if (site.weight.defined()) {
      plan.plan = fit_linear_site(i, plan);
    } else if (site.kind == SiteKind::kScores) {
      plan.plan = fit_scores_site(i, plan);
    } else if (site.kind == SiteKind::kEmbedding) {
      plan.plan = fit_embedding_site(i, plan);
    } else {
      // Not advanced to: V is fitted at the position of q k^T, before any [T, T] value exists.
      const auto batches = some_batches(site.node->input(1));
      plan.plan =
          fit_attend(values_in(batches, site.node->input(1)), site.heads, bits_[i].activation_bits,
                     recipe_.attention, weights_in(batches, site.node->input(1)));
      plan.note = describe(std::get<AttendPlan>(plan.plan));
      measure(site, std::get<AttendPlan>(plan.plan), plan.errors);
    }
    return plan;
  }

  EmbeddingPlan fit_embedding_site(std::size_t i, SitePlan& plan) const {
    const Site& site = sites_[i];
    WeightRecipe recipe = recipe_.weights;
    // A row is read by itself: there are no errors of other columns to make up for.
    recipe.rounding = WeightRounding::kNearest;
    recipe.group_size = 0;
    EmbeddingPlan embedding{
        quantize_weight(site.table, {}, bits_[i].weight_bits, recipe, options_.threads)};
    const auto indices = streams_.first_value(site.node->input(1), Stream::kQuantized);
    plan.errors.own_output_sqnr_db = sqnr_where_finite(at::embedding(site.table, indices),
                                                       simulate_embedding(embedding, indices));
    plan.errors.output_sqnr_db = plan.errors.own_output_sqnr_db;  // the indices carry no error
    return embedding;
  }

  /// The scores arrive as the product reads them: what lies between softmax and product only moves
  /// rows, and does so to scores as well.
  void measure(const Site& site, const AttendPlan& plan, SiteErrors& errors) const {
    const auto value = [&](std::size_t operand, Stream stream) {
      return streams_.first_value(site.node->input(operand), stream);
    };
    const at::Tensor right = value(1, Stream::kQuantized);
    const at::Tensor scores = streams_.first_scores(site, Stream::kQuantized);
    const auto got = simulate_attend(plan, scores, right);
    errors.own_output_sqnr_db = sqnr_where_finite(at::matmul(at::softmax(scores, -1), right), got);
    errors.output_sqnr_db =
        sqnr_where_finite(at::matmul(value(0, Stream::kFloat), value(1, Stream::kFloat)), got);
  }

  LinearPlan fit_linear_site(std::size_t i, SitePlan& plan) {
    const Site& site = sites_[i];
    streams_.advance_to(site.node);
    const bool weight_only = bits_[i].activation_bits == kWeightOnlyBits;
    LinearProblem problem;
    problem.site = &site;
    problem.routed = rows_depend_on_data(site.node->input(0), quantized_values_);
    problem.rows = row_source(site, !weight_only && !problem.routed &&
                                        recipe_.weights.compensation == Compensation::kStream);
    if (!problem.routed) problem.row_weights = weights_of(site.node->output());
    if (const auto rounded = shared_weights_.find(i); rounded != shared_weights_.end()) {
      problem.rounded = &rounded->second;
    }
    const bool foldable = foldable_.count(site.norm) > 0;
    Recipe recipe = recipe_;
    if (refused_folds_.count(site.norm) > 0) {
      recipe.norm.granularity = InputGranularity::kPerTensor;
    }
    if (const auto shared = norm_inputs_.find(site.norm);
        foldable && shared != norm_inputs_.end()) {
      problem.shared = shared->second;
    } else if (const auto same = shared_inputs_.find(input_of(i));
               !foldable && same != shared_inputs_.end()) {
      problem.shared = same->second;
    }
    if (problem.rounded != nullptr && problem.shared != nullptr && problem.shared->per_channel()) {
      problem.shared = nullptr;  // such a grid is folded into the weight
    }
    if (problem.shared == nullptr && !weight_only) {
      problem.gram = foldable ? norm_gram(site.norm) : gram_of(i);
      if (foldable) problem.other_readers = other_readers_of(site);
    }
    problem.weight_bits = bits_[i].weight_bits;
    problem.activation_bits = bits_[i].activation_bits;
    problem.threads = options_.threads;
    LinearPlan linear = fit_linear(problem, recipe, plan.note);
    if (foldable && linear.quantized_input && linear.input.per_channel()) {
      if (problem.shared == nullptr) {
        plan.errors.fold_deviation = fold_deviation_of(site.norm, linear.input);
        if (!(plan.errors.fold_deviation <= options_.largest_fold_deviation)) {
          foldable_.erase(site.norm);
          refused_folds_.emplace(site.norm, plan.errors.fold_deviation);
          plan.errors.fold_deviation = 0.0;
          return fit_linear_site(i, plan);
        }
      }
      linear.norm = output_of(site.norm);
      plan.note = kFolded + plan.note;
    } else if (const auto found = refused_folds_.find(site.norm); found != refused_folds_.end()) {
      plan.note = "not folded: its norm's readers would change by " +
                  format_scientific(found->second) + "; " + plan.note;
    }
    measure(site, linear, streams_.first_value(site.node->input(0), Stream::kQuantized),
            plan.errors);
    return linear;
  }

  /// Errors on the first batch: enough to name a bad site, and cheap.
  void measure(const Site& site, const LinearPlan& linear, const at::Tensor& x,
               SiteErrors& errors) const {
    const auto exact = at::linear(x, site.weight, site.bias);
    const auto got = simulate_linear(linear, x);
    errors.own_output_sqnr_db = sqnr_where_finite(exact, got);
    errors.output_sqnr_db = errors.own_output_sqnr_db;
    const auto floating = streams_.first_value(site.node->input(0), Stream::kFloat);
    if (floating.sizes() == x.sizes()) {  // else other rows were routed to it
      errors.output_sqnr_db = sqnr_where_finite(at::linear(floating, site.weight, site.bias), got);
    }
    const auto& weight = linear.weight;
    errors.weight_error_ratio = weight.error_rtn > 0 ? weight.error_gptq / weight.error_rtn : 1.0;
  }

  ScoresPlan fit_scores_site(std::size_t i, SitePlan& plan) {
    const Site& site = sites_[i];
    streams_.advance_to(site.node);
    const auto batches = some_batches(site.node->input(0));
    const auto left = values_in(batches, site.node->input(0));
    const auto right = values_in(batches, site.node->input(1));
    const auto scores = fit_scores(left, right, site.heads, bits_[i].activation_bits,
                                   recipe_.attention, weights_in(batches, site.node->input(0)),
                                   weights_in(batches, site.node->input(1)));
    const auto got = simulate_scores(scores, left[0], right[0]);
    plan.errors.own_output_sqnr_db = sqnr_where_finite(at::matmul(left[0], right[0]), got);
    plan.errors.output_sqnr_db =
        sqnr_where_finite(at::matmul(streams_.first_value(site.node->input(0), Stream::kFloat),
                                     streams_.first_value(site.node->input(1), Stream::kFloat)),
                          got);
    plan.note = scores.left.scale.numel() > 1 ? "per head" : "per tensor";
    return scores;
  }

  static std::string describe(const AttendPlan& plan) {
    std::ostringstream text;
    if (plan.uniform) {
      text << "uniform u8 softmax grid";
    } else {
      text << "log2 softmax grid, " << plan.grid.steps_per_octave << " steps per octave";
    }
    text << (plan.row_maximum ? ", row maximum" : ", per tensor");
    text << (plan.value.scale.numel() > 1 ? "; v per head" : "; v per tensor");
    return text.str();
  }

  /// Runs the streams to the end and measures the outputs batch by batch, holding none. What is not
  /// finite in the model's own outputs does not count.
  void finish_streams() {
    std::vector<double> signals(streams_.batches()), noises(streams_.batches());
    std::vector<std::int64_t> compared(streams_.batches());
    streams_.finish([&](std::size_t batch, const std::vector<at::Tensor>& reference,
                        const std::vector<at::Tensor>& got) {
      for (std::size_t k = 0; k < reference.size(); ++k) {
        if (!reference[k].is_floating_point()) continue;
        const at::Tensor finite = reference[k].isfinite();
        const at::Tensor exact = at::where(finite, reference[k], 0.0).to(at::kDouble);
        const double signal = exact.square().sum().item<double>();
        signals[batch] += signal;
        compared[batch] += at::count_nonzero(finite).item<std::int64_t>();
        noises[batch] +=
            got[k].sizes() != exact.sizes()
                ? signal  // as many rows as the data asks for: lost
                : (exact - at::where(finite, got[k], 0.0)).square().sum().item<double>();
      }
    });
    const double signal = std::accumulate(signals.begin(), signals.end(), 0.0);
    const double noise = std::accumulate(noises.begin(), noises.end(), 0.0);
    const bool any = std::accumulate(compared.begin(), compared.end(), std::int64_t{0}) > 0;
    if (!any || !std::isfinite(signal) || !std::isfinite(noise)) {
      throw Error(ErrorKind::kNumerical,
                  {.what = any ? "the quantized outputs hold NaN or infinite values"
                               : "the model's outputs hold nothing but NaN or infinite values",
                   .where = result_.failed.empty() ? "" : result_.failed.front().path,
                   .hint = "check the calibration data and that the model runs in float32"});
    }
    result_.output_sqnr_db = noise > 0 ? 10.0 * std::log10(signal / noise) : 200.0;
  }

  const Model& model_;
  const std::vector<Site>& sites_;
  const std::vector<std::vector<at::Tensor>>& batches_;
  const Recipe& recipe_;
  const SweepOptions& options_;
  std::vector<SiteBits> bits_;
  std::map<std::size_t, QuantizedWeight> shared_weights_;  // by site
  Sensitivities sensitivities_;
  std::set<const Node*> foldable_;               // norms
  std::map<const Node*, double> refused_folds_;  // by norm, how much its readers would change
  std::map<const Node*, const InputQuantizer*> norm_inputs_;
  std::map<SharedInput, const InputQuantizer*> shared_inputs_;
  std::deque<SitePlan> plans_;  // stable addresses: the streams point into it
  Streams streams_;
  std::unordered_set<const torch::jit::Value*> quantized_values_;
  std::exception_ptr failure_;  // of the first site that could not be fitted
  SweepResult result_;
};

}  // namespace

SweepResult run_sweep(const Model& model, const SiteSearch& search,
                      const std::vector<std::vector<at::Tensor>>& batches, const Recipe& recipe,
                      const SweepOptions& options) {
  if (batches.empty()) {
    throw Error(ErrorKind::kUsage, {.what = "there is no calibration data",
                                    .hint = "give `calib` a folder of images or an array file"});
  }
  at::NoGradGuard no_grad;
  return Sweep(model, search, batches, recipe, options).run();
}

}  // namespace repquant
