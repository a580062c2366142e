#include "artifact/check.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "base/text_table.h"
#include "graph/archive.h"
#include "graph/inputs.h"
#include "graph/module_calls.h"
#include "repquant/error.h"
#include "tensor/deviation.h"
#include "tensor/equal.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

std::string text_of(double value) { return format_significant(value, 3); }

/// Of the floating-point outputs alone, unlike energies_of(): of whole numbers, such as the classes
/// of a few samples, one that falls the other way at a tie would be a large error.
double floating_sqnr_db(const std::vector<at::Tensor>& expected,
                        const std::vector<at::Tensor>& got) {
  Energies energies;
  for (std::size_t i = 0; i < expected.size(); ++i) energies.add(expected[i], got[i]);
  return energies.sqnr_db();
}

/// Integers of a product times their scale, against the scores up to a constant per row.
double row_relative_difference(const at::Tensor& got, const at::Tensor& scale,
                               const at::Tensor& expected) {
  const auto product = got * scale;
  const auto centred = [](const at::Tensor& x) { return x - x.select(-1, 0).unsqueeze(-1); };
  return relative_difference(centred(product), centred(expected));
}

/// What the lowered graph goes on with after a call.
enum class Continue {
  kSimulated,   // the simulation's value: every call is judged on identical inputs
  kSharedTies,  // its own floating-point values, the simulation's codes: judged end to end alone
};

/// The simulation, run as far as somebody asks for its values.
class Simulation {
 public:
  Simulation(const Lowered& lowered, const NodeHook& simulate,
             const std::vector<at::Tensor>& inputs)
      : graph_(*lowered.model.graph), simulate_(simulate), schedule_(graph_) {
    alive_ = bind_inputs(graph_, copies_of(inputs));
    for (const auto& emission : lowered.emissions) ++wanted_[emission.original];
    for (const Value* input : graph_.inputs()) {  // a Linear may read the model's input
      if (wanted_.count(input) > 0) kept_[input] = alive_.at(input).toTensor();
    }
  }

  /// A value that an emission refers to; each emission asks once.
  at::Tensor take(const Value* value) {
    if (kept_.count(value) == 0) advance(schedule_.index_of(value->node()) + 1);
    at::Tensor result = kept_.at(value);
    if (--wanted_.at(value) == 0) kept_.erase(value);
    return result;
  }

  std::vector<at::Tensor> outputs() {
    advance(schedule_.nodes().size());
    return output_tensors(graph_, alive_);
  }

 private:
  void advance(std::size_t end) {
    if (end <= position_) return;
    run_range(schedule_, position_, end, alive_, [&](const Node* node, Values& values) {
      if (!simulate_(node, values)) run_node(node, values);
      for (const Value* output : node->outputs()) {
        if (wanted_.count(output) > 0) kept_[output] = values.at(output).toTensor().clone();
      }
      return true;
    });
    position_ = end;
  }

  torch::jit::Graph& graph_;
  const NodeHook& simulate_;
  Schedule schedule_;
  std::size_t position_ = 0;
  Values alive_;
  std::unordered_map<const Value*, int> wanted_;  // how many emissions still ask
  std::unordered_map<const Value*, at::Tensor> kept_;
};

class LockStep {
 public:
  LockStep(const Lowered& lowered, Simulation& simulation, Continue mode)
      : mode_(mode), simulation_(simulation) {
    for (const auto& emission : lowered.emissions) emissions_[emission.call] = &emission;
  }

  /// Evaluates a node of the lowered graph; after a call, puts the simulation's value in its place.
  bool operator()(const Node* node, Values& values) {
    if (!run_module_call(node, values)) return false;
    if (node->kind() != c10::prim::CallMethod) return true;
    const at::Tensor got = values.at(node->output()).toTensor();
    values[node->output()] = compare(*node, got);
    return true;
  }

  /// Throws SitesDiffer if any call exceeded a limit.
  void finish() {
    if (!failed_.empty()) throw SitesDiffer(std::move(failed_), std::move(first_));
  }

  LoweringCheck result;

 private:
  /// Notes the deviation of a call and returns what the graph goes on with.
  at::Tensor compare(const Node& node, const at::Tensor& got) {
    const auto found = emissions_.find(&node);
    if (found == emissions_.end()) return got;  // e.g. before its side columns are added
    const Emission* emission = found->second;
    const at::Tensor simulated = simulation_.take(emission->original);
    ++result.calls;
    switch (emission->kind) {
      case Emission::Kind::kFloat:
        if (mode_ == Continue::kSharedTies) return got;
        note_float(emission->path, relative_difference(got, simulated));
        return simulated.clone();
      case Emission::Kind::kRounded:
        if (mode_ == Continue::kSharedTies) return simulated.clone();
        note_float(emission->path, typical_difference(got, simulated));
        return simulated.clone();
      case Emission::Kind::kRowRelative:
        if (mode_ == Continue::kSharedTies) return got;
        note_float(emission->path, row_relative_difference(got, emission->scale, simulated));
        return got;  // the constants per row are unknown
      default:
        return compare_codes(*emission, got, simulated);
    }
  }

  at::Tensor compare_codes(const Emission& emission, const at::Tensor& got,
                           const at::Tensor& simulated) {
    at::Tensor expected = emission.reference(simulated);
    if (!got.sizes().equals(expected.sizes()) || got.scalar_type() != expected.scalar_type()) {
      fail({.what = "self-check: codes of another shape or type", .where = emission.path});
      return expected;
    }
    // What lies between is free to differ, and floating-point attention makes more of it than codes
    // that are judged on identical inputs may differ by; finish() has seen those.
    if (mode_ == Continue::kSharedTies) return expected;
    CallDeviation deviation{.path = emission.path};
    const CodeDifference difference = code_difference(got, expected, emission.levels);
    deviation.changed_share = difference.share;
    deviation.largest = difference.largest;
    const bool few =
        difference.few ||
        (emission.behind_softmax && changed_rows(got, expected) <= kChangedRowsLimit) ||
        few_changed(differ_beyond_rounding(emission.reference, got, simulated));
    if (difference.largest > 1 || !few) {
      fail({.what = "self-check: the lowered site computes other codes than the simulation",
            .where = emission.path,
            .expected = "codes differ by at most 1, on at most " + text_of(kChangedCodesLimit) +
                        " of the elements",
            .got = "by up to " + std::to_string(deviation.largest) + ", on " +
                   text_of(deviation.changed_share),
            .hint = "please report the model; `exclude` leaves the site in floating point"});
      return expected;
    }
    if (deviation.changed_share >= result.codes.changed_share) result.codes = deviation;
    return expected;
  }

  void note_float(const std::string& path, double relative) {
    if (!(relative <= kRelativeLimit)) {
      fail({.what = "self-check: the lowered site computes other values than the simulation",
            .where = path,
            .expected = "at most " + text_of(kRelativeLimit) + " of the largest value",
            .got = text_of(relative),
            .hint = "please report the model; `exclude` leaves the site in floating point"});
      return;
    }
    if (relative >= result.floating.relative) {
      result.floating = {.path = path, .relative = relative};
    }
  }

  /// Goes on to the end, so that all sites that differ are known after one run.
  void fail(ErrorParts parts) {
    const auto same = [&](const SitesDiffer::Site& site) { return site.path == parts.where; };
    if (std::any_of(failed_.begin(), failed_.end(), same)) return;
    failed_.push_back({parts.where, parts.what + (parts.got.empty() ? "" : ": " + parts.got)});
    if (failed_.size() == 1) first_ = std::move(parts);
  }

  Continue mode_;
  Simulation& simulation_;
  std::vector<SitesDiffer::Site> failed_;
  ErrorParts first_;
  std::unordered_map<const Node*, const Emission*> emissions_;
};

/// The outputs of the lowered graph in lock step with the simulation's values.
std::vector<at::Tensor> run_lock_step(const Lowered& lowered, LockStep& step,
                                      const std::vector<at::Tensor>& inputs) {
  const auto copies = copies_of(inputs);
  std::vector<c10::IValue> arguments{lowered.module._ivalue()};
  arguments.insert(arguments.end(), copies.begin(), copies.end());
  return output_tensors(
      run_graph(*lowered.graph, Schedule(*lowered.graph), arguments,
                [&](const Node* node, Values& values) { return step(node, values); }));
}

}  // namespace

std::vector<at::Tensor> run_module(const torch::jit::Module& module,
                                   const std::vector<at::Tensor>& inputs) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> copies;
  for (const at::Tensor& tensor : inputs) copies.push_back(tensor.clone());
  // A few calls are not worth the passes over the graph, which take longer than they do.
  const torch::jit::GraphOptimizerEnabledGuard as_written(false);
  torch::jit::Module callable = module;  // forward() is not const
  std::vector<c10::IValue> outputs{callable.forward(module_arguments(callable, copies))};
  return output_tensors(outputs);
}

std::vector<at::Tensor> run_model(const Model& model, const std::vector<at::Tensor>& inputs) {
  at::NoGradGuard no_grad;
  return output_tensors(run_graph(*model.graph, Schedule(*model.graph), copies_of(inputs)));
}

LoweringCheck check_lowered(const Lowered& lowered, const NodeHook& simulate,
                            const std::vector<at::Tensor>& inputs,
                            const std::vector<at::Tensor>& reference) {
  at::NoGradGuard no_grad;
  LoweringCheck result;
  std::vector<at::Tensor> simulated;
  {
    Simulation simulation(lowered, simulate, inputs);
    LockStep judged(lowered, simulation, Continue::kSimulated);
    run_lock_step(lowered, judged, inputs);
    judged.finish();
    result = judged.result;
    simulated = simulation.outputs();
  }
  Simulation simulation(lowered, simulate, inputs);
  LockStep step(lowered, simulation, Continue::kSharedTies);
  const auto end_to_end = run_lock_step(lowered, step, inputs);
  step.finish();
  result.simulated_db = floating_sqnr_db(reference, simulated);
  result.lowered_db = floating_sqnr_db(simulated, end_to_end);
  result.outputs = run_module(lowered.module, inputs);
  result.free_running_db = floating_sqnr_db(simulated, result.outputs);
  if (!(result.lowered_db >= std::min(result.simulated_db + kMarginDb, kExactDb))) {
    throw Error(ErrorKind::kNumerical,
                {.what = "self-check: the lowered model is too far from the simulation",
                 .where = lowered.model.path,
                 .expected = "an error at least " + text_of(kMarginDb) +
                             " dB below that of the simulation, which has " +
                             text_of(result.simulated_db) + " dB against FP32",
                 .got = text_of(result.lowered_db) + " dB against the simulation",
                 .hint = "please report the model"});
  }
  return result;
}

void check_reloaded(const std::string& path, const std::vector<at::Tensor>& expected,
                    const std::vector<at::Tensor>& inputs, bool trusted) {
  const auto got = run_module(load_archive(path, trusted), inputs);
  bool equal = got.size() == expected.size();
  for (std::size_t i = 0; equal && i < got.size(); ++i) {
    equal = same_values(got[i], expected[i]);
  }
  if (equal) return;
  throw Error(
      ErrorKind::kNumerical,
      {.what = "self-check: the written file computes something else than the module it was "
               "made from",
       .where = path,
       .expected = "bit-equal outputs",
       .hint = "please report the model"});
}

}  // namespace repquant
