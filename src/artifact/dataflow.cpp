#include "artifact/dataflow.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <cmath>
#include <functional>
#include <set>
#include <string>

#include "graph/operator_kinds.h"
#include "graph/rewrite.h"
#include "graph/site.h"
#include "graph/value_facts.h"
#include "repquant/error.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

/// Calls `pass` for each operator that is passed through and `stop` for each reader.
void follow(const Value* value, double factor, bool through_scaling,
            const std::function<void(Node*)>& pass, const std::function<void(Reader)>& stop) {
  for (const auto& use : value->uses()) {
    Node* user = use.user;
    if (reads_size_only(user)) continue;
    if (use.offset == 0 && (is_shape_only(user) || is_zero_padding(user))) {
      pass(user);
      for (const Value* output : user->outputs()) {
        follow(output, factor, through_scaling, pass, stop);
      }
      continue;
    }
    const auto scaling = through_scaling ? constant_scaling(user) : std::nullopt;
    if (scaling && scaling->operand == use.offset) {
      pass(user);
      follow(user->output(), factor * scaling->factor, through_scaling, pass, stop);
    } else {
      stop({user, use.offset, value, factor});
    }
  }
}

}  // namespace

bool reads_size_only(const Node* node) {
  static const std::set<std::string> kinds{"aten::size",  "aten::dim",    "aten::len",
                                           "aten::numel", "prim::device", "aten::sym_size"};
  return kinds.count(kind_name(node)) > 0;
}

std::optional<Scaling> constant_scaling(const Node* node) {
  const bool multiplies = kind_name(node) == "aten::mul";
  if ((!multiplies && kind_name(node) != "aten::div") || node->inputs().size() != 2) return {};
  for (const std::size_t operand : {std::size_t{0}, std::size_t{1}}) {
    if (!multiplies && operand == 1) break;
    if (!node->input(operand)->type()->isSubtypeOf(*c10::TensorType::get())) continue;
    const auto number = constant_number(node->input(1 - operand));
    if (!number || !(*number > 0.0) || !std::isfinite(*number)) continue;
    // A one-element constant of higher rank could add dimensions.
    const auto tensor = torch::jit::toIValue(node->input(1 - operand));
    if (tensor->isTensor() && tensor->toTensor().dim() > 1) continue;
    return Scaling{multiplies ? *number : 1.0 / *number, operand};
  }
  return {};
}

std::optional<NumberScaling> number_scaling(const Node* node, const Values& numbers) {
  if ((kind_name(node) != "aten::mul" && kind_name(node) != "aten::div") ||
      node->inputs().size() != 2) {
    return {};
  }
  const Value* number = node->input(1);
  const auto found = numbers.find(number);
  if (found == numbers.end() || !(found->second.isDouble() || found->second.isInt())) return {};
  // It may be another one for other inputs.
  if (!(found->second.toScalar().toDouble() > 0.0) || !is_never_negative(number)) return {};
  return NumberScaling{0, number, kind_name(node) == "aten::div"};
}

std::vector<Reader> readers_of(const Value* value, bool through_scaling) {
  std::vector<Reader> readers;
  follow(
      value, 1.0, through_scaling, [](Node*) {}, [&](Reader reader) { readers.push_back(reader); });
  return readers;
}

std::vector<Node*> scalings_after(const Value* value) {
  std::vector<Node*> nodes;
  follow(
      value, 1.0, true,
      [&](Node* node) {
        if (constant_scaling(node)) nodes.push_back(node);
      },
      [](const Reader&) {});
  return nodes;
}

std::vector<Node*> paddings_after(const Value* value, bool through_scaling) {
  std::vector<Node*> nodes;
  follow(
      value, 1.0, through_scaling,
      [&](Node* node) {
        if (is_zero_padding(node)) nodes.push_back(node);
      },
      [](const Reader&) {});
  return nodes;
}

std::optional<at::Tensor> send_marker(const Observed& observed, const Value* from,
                                      const at::Tensor& marker, const Value* to) {
  at::NoGradGuard no_grad;
  Values values;
  values[from] = marker;
  // Backwards from `to`, so that only what lies between is evaluated.
  const std::function<bool(const Value*)> evaluate = [&](const Value* value) -> bool {
    if (values.count(value) > 0) return true;
    const Node* node = value->node();
    if (const auto scaling = constant_scaling(node)) {
      if (!evaluate(node->input(scaling->operand))) return false;
      values[value] = values.at(node->input(scaling->operand));
      return true;
    }
    if (!is_shape_only(node) || !evaluate(node->input(0))) return false;
    for (std::size_t i = 1; i < node->inputs().size(); ++i) {
      const Value* input = node->input(i);
      if (const auto constant = torch::jit::toIValue(input)) {
        values[input] = *constant;
      } else if (const auto found = observed.numbers.find(input); found != observed.numbers.end()) {
        values[input] = found->second;
      } else {
        return false;
      }
    }
    run_node(node, values);
    return values.count(value) > 0;
  };
  try {
    if (!evaluate(to) || !values.at(to).isTensor()) return std::nullopt;
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::kResource) throw;
    return std::nullopt;  // not runnable on markers: the caller keeps the floating-point form
  }
  return values.at(to).toTensor();
}

}  // namespace repquant
