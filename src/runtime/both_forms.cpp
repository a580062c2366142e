#include "runtime/both_forms.h"

#include <ATen/ATen.h>

#include <unordered_map>

#include "base/text_table.h"
#include "graph/module_calls.h"
#include "graph/walker.h"
#include "ops/operators.h"
#include "repquant/error.h"
#include "tensor/deviation.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

std::string percent(double share) { return format_significant(100.0 * share, 3) + " %"; }

std::vector<c10::IValue> arguments_of(const torch::jit::Module& module,
                                      const std::vector<at::Tensor>& inputs) {
  std::vector<c10::IValue> arguments{module._ivalue()};
  for (const auto& input : copies_of(inputs)) arguments.push_back(input);
  return arguments;
}

/// The portable form, run as far as somebody asks for its values.
class PortableRun {
 public:
  PortableRun(const BothForms& forms, const std::vector<at::Tensor>& inputs)
      : schedule_(*forms.portable_graph),
        alive_(bind_inputs(*forms.portable_graph, arguments_of(forms.portable, inputs))) {
    for (const auto& replacement : forms.replaced) ++kept_[replacement.portable].readers;
  }

  /// Each value is asked for once for each replacement of it.
  at::Tensor take(const Value* value) {
    const std::size_t end = schedule_.index_of(value->node()) + 1;
    if (end > position_) {
      run_range(schedule_, position_, end, alive_, [this](const Node* node, Values& values) {
        if (!run_module_call(node, values)) run_node(node, values);
        for (const Value* output : node->outputs()) {
          const auto wanted = kept_.find(output);
          if (wanted != kept_.end()) wanted->second.tensor = values.at(output).toTensor().clone();
        }
        return true;
      });
      position_ = end;
    }
    const auto found = kept_.find(value);
    const at::Tensor result = found->second.tensor;
    if (--found->second.readers == 0) kept_.erase(found);
    return result;
  }

 private:
  Schedule schedule_;
  std::size_t position_ = 0;
  Values alive_;
  struct Kept {
    at::Tensor tensor;
    int readers = 0;
  };
  std::unordered_map<const Value*, Kept> kept_;
};

/// What a replacement should hold where the portable form has this value.
at::Tensor expected_from(const Replacement& replacement, const at::Tensor& portable) {
  if (const auto& grid = replacement.grid) {
    return ops::quantize_cpu(portable, grid->multiplier, grid->offset, grid->max_code,
                             /*quadratic=*/false, /*is_signed=*/false, /*shift=*/0);
  }
  if (const auto& groups = replacement.groups) {
    const auto levels =
        replacement.levels.defined() ? ops::OptionalTensor(replacement.levels) : std::nullopt;
    const auto [codes, grids] =
        ops::group_codes_cpu(portable, groups->group_size, groups->top, levels);
    return groups->grids ? grids : codes;
  }
  return portable;
}

/// What is wrong with `got`; without `measured` if nothing is.
FormDifference judge(const Replacement& replacement, const at::Tensor& got,
                     const at::Tensor& expected) {
  FormDifference difference{replacement.module, "", ""};
  if (!got.sizes().equals(expected.sizes()) || got.scalar_type() != expected.scalar_type()) {
    difference.measured = std::string(c10::toString(got.scalar_type())) + " " +
                          c10::str(got.sizes()) + " instead of " +
                          c10::toString(expected.scalar_type()) + " " + c10::str(expected.sizes());
    difference.limit = "the same type and shape";
  } else if (!expected.is_floating_point() && replacement.behind_softmax) {
    const double rows = changed_rows(got, expected);
    if (rows > kChangedRowsLimit) difference.measured = percent(rows) + " of the rows differ";
    difference.limit = percent(kChangedRowsLimit);
  } else if (!expected.is_floating_point()) {
    const CodeDifference codes = code_difference(got, expected, replacement.levels);
    if (codes.largest > 1 || !codes.few) {
      difference.measured =
          "codes differ by up to " + std::to_string(codes.largest) + ", on " + percent(codes.share);
    }
    difference.limit = "by 1 on " + percent(kChangedCodesLimit);
  } else {
    const double relative = replacement.behind_softmax ? typical_difference(got, expected)
                                                       : relative_difference(got, expected);
    if (!(relative <= replacement.relative_limit)) {
      difference.measured = "values differ by " + format_scientific(relative) + " of the largest";
    }
    difference.limit = format_scientific(replacement.relative_limit);
  }
  return difference;
}

}  // namespace

std::vector<FormDifference> differences(const BothForms& forms,
                                        const std::vector<at::Tensor>& inputs) {
  at::NoGradGuard no_grad;
  std::unordered_map<const Value*, const Replacement*> replaced;
  for (const auto& replacement : forms.replaced) replaced[replacement.fused] = &replacement;
  PortableRun portable(forms, inputs);
  std::vector<FormDifference> result;
  const auto compare = [&](const Node* node, Values& values) {
    if (run_module_call(node, values)) return true;
    bool ran = false;
    std::string failure;
    for (const Value* output : node->outputs()) {
      const auto found = replaced.find(output);
      if (found == replaced.end()) continue;
      const Replacement& replacement = *found->second;
      const at::Tensor expected = expected_from(replacement, portable.take(replacement.portable));
      FormDifference difference{replacement.module, failure, "to run"};
      try {
        if (!ran) run_node(node, values);
        if (failure.empty())
          difference = judge(replacement, values.at(output).toTensor(), expected);
      } catch (const Error& e) {
        difference.measured = failure = e.parts().got.empty() ? e.what() : e.parts().got;
      }
      ran = true;
      if (!difference.measured.empty()) result.push_back(difference);
      values[output] = expected;
    }
    return ran;
  };
  run_graph(*forms.fused_graph, Schedule(*forms.fused_graph), arguments_of(forms.fused, inputs),
            compare);
  return result;
}

}  // namespace repquant
