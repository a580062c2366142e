// From a model and its site plans to a TorchScript module that computes with integer codes.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/api/module.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "graph/model.h"
#include "graph/observe.h"
#include "graph/site.h"
#include "plan/site_plan.h"
#include "repquant/artifact.h"

namespace repquant {

/// How a lowered site is realised: for the site table and for the self-check.
struct LoweredSite : SiteModules {
  std::string path{};
};

/// One call of a submodule in the lowered graph, and what it should give: a function of a value of
/// the original graph. Codes of the simulation and of the lowered form are compared here.
struct Emission {
  enum class Kind {
    kFloat,
    kCodes,
    kRowRelative,
    kRounded,  // floating point, but behind codes of its own (softmax): a tie changes a whole row
  };
  torch::jit::Node* call = nullptr;             // prim::CallMethod in Lowered::graph
  const torch::jit::Value* original = nullptr;  // value in Model::graph
  std::string path;                             // site to name when it fails
  Kind kind = Kind::kFloat;
  bool behind_softmax = false;  // kCodes: a softmax code at a tie moves a row
  at::Tensor levels;            // what product codes stand for; undefined: codes
  at::Tensor scale;  // kRowRelative: the call's integers times this equal `original` up to a
                     // constant per row
  std::function<at::Tensor(const at::Tensor&)> reference;  // kCodes: the expected codes
};

struct Lowered {
  Model model;  // what was lowered; without the float weights it can be simulated, not run
  torch::jit::Module module;
  std::shared_ptr<torch::jit::Graph> graph;  // of the module's forward; its first input is self
  std::vector<LoweredSite> sites;            // in the order of the plans
  std::vector<Emission> emissions;
};

struct LowerOptions {
  /// Of a run on the graph as it is. Orders of elements are read off it.
  Observed observed;
  /// Defaults of the kept inputs, in order; shorter or empty: none.
  std::vector<std::optional<c10::IValue>> defaults;
};

/// Replaces every planned site by a call of a submodule with integer weights. Sites without a plan
/// stay in floating point. The module's forward() has the model's inputs and output.
/// Consumes the model: each float weight goes from its graph as soon as its integer form is made,
/// so that the two are not in memory together. A graph that is shared, because the caller has kept
/// a copy of the model, is left as it is. Throws Error kInternal if a plan fits no site,
/// kUnsupported for a plan that has no integer form.
Lowered lower(Model model, const std::vector<Site>& sites, const std::vector<SitePlan>& plans,
              const LowerOptions& options);

/// The code that int8 storage of attention operands subtracts: 128 for 8 bits, else 0.
std::int64_t operand_shift(const OperandQuantizer& operand);

}  // namespace repquant
