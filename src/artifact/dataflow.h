// How elements travel through shape-only operators: where a value's elements end up, and in which
// order. Nothing is concluded from names; orders are read off markers that are sent through.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "graph/observe.h"
#include "graph/walker.h"

namespace torch::jit {
struct Node;
struct Value;
}  // namespace torch::jit

namespace repquant {

/// A use of a value's elements by an operator that is not shape-only.
struct Reader {
  torch::jit::Node* node = nullptr;
  std::size_t offset = 0;                    // which input of `node`
  const torch::jit::Value* value = nullptr;  // that input
  double factor = 1.0;                       // product of the constant factors met on the way
};

/// True for an operator whose answer is the same for codes as for the floating-point values that
/// these stand for: it reads the shape, and not the type.
bool reads_size_only(const torch::jit::Node* node);

/// All readers of `value`, through shape-only operators, paddings with zeros and, if
/// `through_scaling`, through multiplications by positive constants. Operators that read only the
/// shape do not count.
std::vector<Reader> readers_of(const torch::jit::Value* value, bool through_scaling);

/// The paddings with zeros among the operators that readers_of() passes through.
std::vector<torch::jit::Node*> paddings_after(const torch::jit::Value* value, bool through_scaling);

/// The multiplications by constants among the operators that readers_of() passes through.
std::vector<torch::jit::Node*> scalings_after(const torch::jit::Value* value);

/// The positive constant that `node` (aten::mul or aten::div) multiplies its tensor input by, and
/// which input that is; nothing for other nodes.
struct Scaling {
  double factor = 1.0;
  std::size_t operand = 0;
};
std::optional<Scaling> constant_scaling(const torch::jit::Node* node);

/// As constant_scaling, but the factor may also be a number that the model computes, for example
/// from a size. `number` is then the value that holds it; its factor was positive in `observed`,
/// and is negative for no input.
struct NumberScaling {
  std::size_t operand = 0;
  const torch::jit::Value* number = nullptr;
  bool divides = false;
};
std::optional<NumberScaling> number_scaling(const torch::jit::Node* node, const Values& numbers);

/// Sends `marker`, a tensor of the shape of `from`, through the shape-only operators and constant
/// multiplications (which leave it alone) between `from` and `to`. Nothing if an operator on the
/// way needs more than markers and numbers.
std::optional<at::Tensor> send_marker(const Observed& observed, const torch::jit::Value* from,
                                      const at::Tensor& marker, const torch::jit::Value* to);

}  // namespace repquant
