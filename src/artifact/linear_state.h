// What a lowered Linear stores, from its plan and what its neighbours decided.
#pragma once

#include <optional>
#include <string>

#include "artifact/classes.h"
#include "artifact/decide.h"
#include "plan/site_plan.h"

namespace repquant {

/// Throws Error kInternal for codes that are not among the weight's levels.
WeightOnlyState weight_only_state(const LinearPlan& plan, const std::string& path);

/// With float output; of a site with a grid per token without bias, which TokenScale adds. Throws
/// Error kUnsupported, naming `path`, for codes beyond eight bits.
LinearState linear_state(const LinearPlan& plan, const std::string& path);

/// What follows the product under a grid per token, with float output.
TokenScaleState token_scale_state(const LinearPlan& plan);

/// Both together write the codes of attention operands.
void write_operands(const OperandCodes& operands, LinearState& product, TokenScaleState& state);

/// From now on it writes the codes of attention operands: their grids go into scale and bias.
void write_operands(const OperandCodes& operands, LinearState& state);

/// From now on it applies the activation function and, with `product`, writes the next Linear's
/// codes.
void write_activation(const torch::jit::Node& activation,
                      const std::optional<ProductCodes>& product, LinearState& state);

}  // namespace repquant
