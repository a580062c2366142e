#include "pipeline/judge.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/overloaded.h"
#include "base/text_table.h"
#include "evaluate/metrics.h"
#include "fit/plan_hook.h"
#include "graph/keep_codes.h"
#include "graph/results.h"
#include "graph/walker.h"
#include "plan/simulate.h"
#include "recipe/bit_width.h"
#include "repquant/error.h"
#include "tensor/deviation.h"
#include "tensor/parallel.h"
#include "tensor/samples.h"

namespace repquant {
namespace {

using torch::jit::Node;

/// What batches came to.
struct Sums {
  Energies outputs;
  std::int64_t rows = 0, same = 0;  // of logits, or of whole numbers

  void operator+=(const Sums& other) {
    outputs += other.outputs;
    rows += other.rows;
    same += other.same;
  }
  std::optional<double> agreement() const {
    if (rows == 0) return {};
    return static_cast<double>(same) / static_cast<double>(rows);
  }
};

Sums compare(const std::vector<at::Tensor>& reference, const std::vector<at::Tensor>& got) {
  Sums sums{.outputs = energies_of(reference, got)};
  if (whole_numbers(reference)) {
    sums.rows = static_cast<std::int64_t>(sums.outputs.signal);
    sums.same = sums.rows - static_cast<std::int64_t>(sums.outputs.noise);
    return sums;
  }
  const at::Tensor logits = logits_in(reference);
  for (std::size_t i = 0; i < reference.size(); ++i) {
    if (!logits.is_same(reference[i])) continue;
    sums.rows = logits.numel() / logits.size(-1);
    // Of as many rows as the quantized values ask for, none may be the same.
    if (got[i].sizes() == logits.sizes()) sums.same = count_same_top1(logits, got[i]);
  }
  return sums;
}

Sums run(const JudgedPlans& plans, const PlanHook& simulate, const Batches& batches) {
  const torch::jit::Graph& graph = *plans.model.graph;
  const Schedule schedule(graph);
  std::vector<Sums> parts(batches.size());
  parallel_for(std::ssize(batches), plans.threads, [&](std::int64_t i) {
    const auto& batch = batches[static_cast<std::size_t>(i)];
    const auto reference =
        result_tensors(graph, run_graph(graph, schedule, copies_of(batch), &pass_cache));
    const auto got = result_tensors(graph, run_graph(graph, schedule, copies_of(batch), simulate));
    parts[static_cast<std::size_t>(i)] = compare(reference, got);
  });
  Sums sums;
  for (const Sums& part : parts) sums += part;
  return sums;
}

/// The first `count` samples.
Batches first_batches(const Batches& batches, std::int64_t count) {
  Batches first;
  for (const auto& batch : batches) {
    const std::int64_t wanted = count - sample_count(first);
    if (wanted <= 0) break;
    first.push_back(samples_of(batch, 0, wanted));
  }
  return first;
}

/// What a site would give in floating point, on the inputs that it gets in the simulation.
at::Tensor exact_output(const Site& site, const Values& values) {
  const auto input = [&](std::size_t i) { return values.at(site.node->input(i)).toTensor(); };
  return std::visit(
      Overloaded{
          [&](const LinearSite& linear) {
            return at::linear(input(0), linear.weight, linear.bias);
          },
          [&](const ScoresSite&) { return at::matmul(input(0), input(1)); },
          [&](const AttendSite&) {  // the softmax is passed over
            return at::matmul(at::softmax(input(0), -1), input(1));
          },
          [&](const EmbeddingSite& embedding) { return at::embedding(embedding.table, input(1)); },
          [&](const GroupedConvolutionSite& convolution) {
            return convolve(input(0), convolution.weight, convolution.bias, convolution.shape);
          }},
      site.kind);
}

/// An output of the site, floating point or simulated, as both may be compared.
at::Tensor comparable(const SitePlan& plan, const at::Tensor& output) {
  const auto* scores = std::get_if<ScoresPlan>(&plan.plan);
  return scores == nullptr ? output : comparable_scores(*scores, output);
}

struct SiteLoss {
  std::string path;
  double own_sqnr_db = 0.0;
};

/// What each site adds on one batch, the worst first.
std::vector<SiteLoss> site_losses(const JudgedPlans& plans, const PlanHook& simulate) {
  struct JudgedSite {
    const Site* site;
    const SitePlan* plan;
  };
  std::map<const Node*, JudgedSite> planned;
  const std::vector<const Site*> sites = sites_of(plans.search.sites, plans.plans);
  for (std::size_t i = 0; i < sites.size(); ++i) {
    if (!is_lookup(*sites[i])) planned[sites[i]->node] = {sites[i], &plans.plans[i]};
  }
  std::map<std::string, Energies> energies;
  const torch::jit::Graph& graph = *plans.model.graph;
  run_graph(graph, Schedule(graph), copies_of(plans.held_back.front()),
            [&](const Node* node, Values& values) {
              const auto found = planned.find(node);
              if (found == planned.end()) return simulate(node, values);
              const auto& [site, plan] = found->second;
              const at::Tensor exact = exact_output(*site, values);
              simulate(node, values);
              const at::Tensor got = values.at(node->output()).toTensor();
              energies[site->path].add(comparable(*plan, exact), comparable(*plan, got));
              return true;
            });
  std::vector<SiteLoss> losses;
  for (const auto& [path, energy] : energies) losses.push_back({path, energy.sqnr_db()});
  std::stable_sort(losses.begin(), losses.end(), [](const SiteLoss& a, const SiteLoss& b) {
    return a.own_sqnr_db < b.own_sqnr_db;
  });
  return losses;
}

std::string db(double value) { return format_number(value, 1) + " dB"; }

void warn_below_floor(const JudgedPlans& plans, const PlanHook& simulate,
                      const HeldBackReport& judgement, double fitted_db, const Observer& observer) {
  constexpr std::size_t kNamed = 3;
  const std::vector<SiteLoss> losses = site_losses(plans, simulate);
  std::string names;
  for (std::size_t i = 0; i < std::min(kNamed, losses.size()); ++i) {
    names += (i > 0 ? ", " : "") + losses[i].path + " (" + db(losses[i].own_sqnr_db) + ")";
  }
  observer.warn(
      "the outputs keep " + db(judgement.sqnr_db) + " on " +
      counted(judgement.samples, "sample that was not fitted", "samples that were not fitted") +
      " (" + db(fitted_db) + " on those that were), below " + db(judgement.floor_db) +
      " for these bits; quantized alone, these sites lose most: " + names +
      "; try more and more varied calibration samples (`calibration.samples`), more bits for these "
      "sites (`target_bits`, or overrides in a recipe) or `exclude='" +
      (losses.empty() ? "" : losses.front().path) + "'`");
}

[[noreturn]] void fail_without_logits() {
  throw Error(ErrorKind::kUnsupported,
              {.what = "the model has no output that can be taken as logits",
               .where = "`min_agreement`",
               .expected = "a floating-point output of at least two values a row",
               .hint = "`min_sqnr` judges any output"});
}

void check_gates(const HeldBackReport& judgement, const QuantizeOptions& options) {
  const std::string samples = " on " + counted(judgement.samples, "held-back calibration sample");
  if (options.min_sqnr_db && !(judgement.sqnr_db >= *options.min_sqnr_db)) {
    throw Error(ErrorKind::kGate, {.what = "the quantized outputs are too far from FP32",
                                   .where = "`min_sqnr`",
                                   .expected = "at least " + db(*options.min_sqnr_db) + samples,
                                   .got = db(judgement.sqnr_db),
                                   .hint = "allow more bits, or calibrate on more samples"});
  }
  if (!(options.min_agreement > 0)) return;
  if (!judgement.agreement) fail_without_logits();
  if (*judgement.agreement >= options.min_agreement) return;
  throw Error(
      ErrorKind::kGate,
      {.what = "the quantized model chooses another class than FP32 too often",
       .where = "`min_agreement`",
       .expected = "the same on at least " + format_percent(options.min_agreement) + samples,
       .got = format_percent(*judgement.agreement),
       .hint = "allow more bits, or calibrate on more samples"});
}

/// The bits that the floor goes by: those of the recipe, or the average that was asked for.
BitWidths judged_bits(const QuantizeOptions& options, const QuantizeReport& report) {
  if (!report.bit_allocation) return options.recipe.bits;
  const int bits = static_cast<int>(std::floor(report.bit_allocation->target_bits));
  return {bits, bits};
}

}  // namespace

double floor_db(const BitWidths& bits) {
  const int inputs = bits.weight_only() ? kWeightOnlyBits : bits.activation_bits;
  if (bits.weight_bits >= 8 && inputs >= 8) return 15.0;
  if (bits.weight_bits >= 6 && inputs >= 6) return 10.0;
  if (bits.weight_bits >= 4 && inputs >= 8) return 7.0;
  if (bits.weight_bits >= 4 && inputs >= 4) return 3.0;
  return 0.0;
}

void check_judged_outputs(const Model& model, const std::vector<at::Tensor>& batch,
                          const QuantizeOptions& options) {
  if (!(options.min_agreement > 0)) return;
  const at::NoGradGuard no_grad;
  const torch::jit::Graph& graph = *model.graph;
  const auto outputs = result_tensors(graph, run_graph(graph, Schedule(graph), copies_of(batch)));
  if (!whole_numbers(outputs) && !logits_in(outputs).defined()) fail_without_logits();
}

HeldBackReport judge(const JudgedPlans& plans, const QuantizeOptions& options,
                     const QuantizeReport& report, const Observer& observer) {
  const at::NoGradGuard no_grad;
  const PlanHook simulate = plan_hook(plans.search.sites, plans.plans);
  const Sums held_back = run(plans, simulate, plans.held_back);
  const std::int64_t count = sample_count(plans.held_back);
  HeldBackReport judgement{.samples = static_cast<int>(count),
                           .sqnr_db = held_back.outputs.sqnr_db(),
                           .agreement = held_back.agreement()};
  if (judgement.agreement) {
    judgement.fitted_agreement =
        run(plans, simulate, first_batches(plans.fitted, count)).agreement();
  }
  const double floor = options.recipe.calibration.warn_below_db;
  judgement.floor_db = floor >= 0 ? floor : floor_db(judged_bits(options, report));
  if (judgement.sqnr_db < judgement.floor_db) {
    warn_below_floor(plans, simulate, judgement, report.output_sqnr_db, observer);
  }
  check_gates(judgement, options);
  return judgement;
}

}  // namespace repquant
