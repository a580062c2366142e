#include "artifact/check.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <cmath>
#include <limits>
#include <unordered_map>
#include <unordered_set>

#include "base/text_table.h"
#include "graph/archive.h"
#include "repquant/error.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

std::string text_of(double value) { return format_significant(value, 3); }

std::vector<at::Tensor> run_module(torch::jit::Module module, const std::vector<at::Tensor>& x) {
  std::vector<c10::IValue> outputs;
  outputs.push_back(module.forward(copies_of(x)));
  return output_tensors(outputs);
}

/// 10 log10 of the energy of `signal` over that of `signal - other`, over all outputs.
double sqnr_db(const std::vector<at::Tensor>& signal, const std::vector<at::Tensor>& other) {
  double energy = 0.0, noise = 0.0;
  for (std::size_t i = 0; i < signal.size(); ++i) {
    if (!at::isFloatingType(signal[i].scalar_type())) continue;
    const auto expected = signal[i].to(at::kDouble);
    // Masked outputs may hold infinities, which are equal or not but have no energy.
    const auto difference = at::where(expected.isfinite(), expected - other[i], 0.0);
    energy += at::where(expected.isfinite(), expected, 0.0).square().sum().item<double>();
    noise += difference.square().sum().item<double>();
  }
  if (noise == 0.0) return std::numeric_limits<double>::infinity();
  return 10.0 * std::log10(energy / noise);
}

/// Largest |difference| over largest |value|, ignoring what is infinite in both.
double relative_difference(const at::Tensor& got, const at::Tensor& expected) {
  if (expected.numel() == 0) return got.numel() == 0 ? 0.0 : 1.0;
  const auto finite = expected.isfinite();
  const double largest = at::where(finite, expected, 0.0).abs().max().item<double>();
  const double difference = at::where(finite, got - expected, 0.0).abs().max().item<double>();
  return largest > 0.0 ? difference / largest : difference;
}

/// The same without the rows that differ most, kChangedRowsLimit of all: a softmax code that falls
/// on the other side of a tie moves the whole row of the output.
double typical_difference(const at::Tensor& got, const at::Tensor& expected) {
  if (got.numel() == 0) return 0.0;
  const at::Tensor rows = (got - expected).abs().flatten(0, -2).amax(-1);
  const auto allowed =
      static_cast<std::int64_t>(std::ceil(kChangedRowsLimit * static_cast<double>(rows.numel())));
  const double largest = expected.abs().max().item<double>();
  const std::int64_t kept = rows.numel() - allowed;
  if (kept <= 0) return 0.0;
  const double difference = std::get<0>(at::kthvalue(rows, kept)).item<double>();
  return largest > 0.0 ? difference / largest : difference;
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
  kSharedTies,  // its own floating-point values, the simulation's codes
};

/// The simulation, run as far as somebody asks for its values.
class Simulation {
 public:
  Simulation(const Model& model, const NodeHook& simulate, const Lowered& lowered,
             const std::vector<at::Tensor>& inputs)
      : model_(model), simulate_(simulate), schedule_(*model.graph) {
    alive_ = bind_inputs(*model.graph, copies_of(inputs));
    for (const auto& emission : lowered.emissions) ++wanted_[emission.original];
    for (std::size_t i = 0; i < inputs.size(); ++i) {  // a Linear may read the model's input itself
      if (wanted_.count(model.graph->inputs()[i]) > 0) kept_[model.graph->inputs()[i]] = inputs[i];
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
    return output_tensors(*model_.graph, alive_);
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

  const Model& model_;
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
    if (node->kind() == c10::prim::GetAttr) {
      values[node->output()] =
          values.at(node->input(0)).toObjectRef().getAttr(node->s(c10::attr::name));
      return true;
    }
    if (node->kind() != c10::prim::CallMethod) return false;
    torch::jit::Module module(values.at(node->input(0)).toObject());
    std::vector<c10::IValue> arguments;
    for (std::size_t i = 1; i < node->inputs().size(); ++i) {
      arguments.push_back(values.at(node->input(i)));
      // A call may overwrite values that it alone reads; the comparison must not see that.
      if (arguments.back().isTensor()) arguments.back() = arguments.back().toTensor().clone();
    }
    const at::Tensor got =
        module.get_method(node->s(c10::attr::name))(std::move(arguments)).toTensor();
    values[node->output()] = compare(*node, got);
    return true;
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
        return compare_codes(*emission, got, emission->reference(simulated));
    }
  }

  at::Tensor compare_codes(const Emission& emission, const at::Tensor& got,
                           const at::Tensor& expected) {
    const auto plain = [&](const at::Tensor& codes) {
      const auto wide = codes.to(at::kFloat);
      return emission.squared ? wide.sqrt() : wide;
    };
    if (!got.sizes().equals(expected.sizes()) || got.scalar_type() != expected.scalar_type()) {
      throw Error(ErrorKind::kNumerical,
                  {.what = "self-check: codes of another shape or type", .where = emission.path});
    }
    CallDeviation deviation{.path = emission.path};
    if (got.numel() > 0) {
      const auto difference = (plain(got) - plain(expected)).abs();
      const auto changed = at::count_nonzero(difference).item<std::int64_t>();
      const auto elements = static_cast<double>(got.numel());
      deviation.changed_share = static_cast<double>(changed) / elements;
      deviation.largest = static_cast<std::int64_t>(difference.max().item<float>());
      if (deviation.largest > 1 || !few_changes(emission, difference, changed)) {
        throw Error(
            ErrorKind::kNumerical,
            {.what = "self-check: the lowered site computes other codes than the simulation",
             .where = emission.path,
             .expected = "codes differ by at most 1, on at most " + text_of(kChangedCodesLimit) +
                         " of the elements",
             .got = "by up to " + std::to_string(deviation.largest) + ", on " +
                    text_of(deviation.changed_share),
             .hint = "please report the model; --exclude leaves the site in floating point"});
      }
    }
    if (deviation.changed_share >= result.codes.changed_share) result.codes = deviation;
    return expected;
  }

  static bool few_changes(const Emission& emission, const at::Tensor& difference,
                          std::int64_t changed) {
    const auto elements = static_cast<double>(difference.numel());
    if (static_cast<double>(changed) <= 1.0 + kChangedCodesLimit * elements) return true;
    if (!emission.behind_softmax) return false;
    const auto rows = difference.flatten(0, -2).amax(-1);
    return static_cast<double>(at::count_nonzero(rows).item<std::int64_t>()) <=
           kChangedRowsLimit * static_cast<double>(rows.numel());
  }

  void note_float(const std::string& path, double relative) {
    if (!(relative <= kRelativeLimit)) {
      throw Error(ErrorKind::kNumerical,
                  {.what = "self-check: the lowered site computes other values than the simulation",
                   .where = path,
                   .expected = "at most " + text_of(kRelativeLimit) + " of the largest value",
                   .got = text_of(relative),
                   .hint = "please report the model; --exclude leaves the site in floating point"});
    }
    if (relative >= result.floating.relative) {
      result.floating = {.path = path, .relative = relative};
    }
  }

  Continue mode_;
  Simulation& simulation_;
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

std::vector<at::Tensor> run_model(const Model& model, const std::vector<at::Tensor>& inputs) {
  at::NoGradGuard no_grad;
  return output_tensors(run_graph(*model.graph, Schedule(*model.graph), copies_of(inputs)));
}

std::vector<at::Tensor> run_lowered(const Lowered& lowered, const std::vector<at::Tensor>& inputs) {
  at::NoGradGuard no_grad;
  return run_module(lowered.module, inputs);
}

LoweringCheck check_lowered(const Model& model, const NodeHook& simulate, const Lowered& lowered,
                            const std::vector<at::Tensor>& inputs,
                            const std::vector<at::Tensor>& reference) {
  at::NoGradGuard no_grad;
  LoweringCheck result;
  std::vector<at::Tensor> simulated;
  {
    Simulation simulation(model, simulate, lowered, inputs);
    LockStep judged(lowered, simulation, Continue::kSimulated);
    run_lock_step(lowered, judged, inputs);
    result = judged.result;
    simulated = simulation.outputs();
  }
  Simulation simulation(model, simulate, lowered, inputs);
  LockStep step(lowered, simulation, Continue::kSharedTies);
  const auto end_to_end = run_lock_step(lowered, step, inputs);
  result.simulated_db = sqnr_db(reference, simulated);
  result.lowered_db = sqnr_db(simulated, end_to_end);
  result.free_running_db = sqnr_db(simulated, run_module(lowered.module, inputs));
  if (!(result.lowered_db >= result.simulated_db + kMarginDb)) {
    throw Error(ErrorKind::kNumerical,
                {.what = "self-check: the lowered model is too far from the simulation",
                 .where = model.path,
                 .expected = "an error at least 10 dB below that of the simulation, which has " +
                             text_of(result.simulated_db) + " dB against FP32",
                 .got = text_of(result.lowered_db) + " dB against the simulation",
                 .hint = "please report the model"});
  }
  return result;
}

void check_reloaded(const std::string& path, const std::vector<at::Tensor>& expected,
                    const std::vector<at::Tensor>& inputs) {
  at::NoGradGuard no_grad;
  const auto got = run_module(load_archive(path), inputs);
  bool equal = got.size() == expected.size();
  for (std::size_t i = 0; equal && i < got.size(); ++i) {
    equal = got[i].scalar_type() == expected[i].scalar_type() && at::equal(got[i], expected[i]);
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
