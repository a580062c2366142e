// Equations of aten::einsum, such as "bhid,bhjd->bhij".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace repquant {

/// An equation with one letter for each dimension; those that "..." stands for are digits, '0' for
/// the last one.
struct Equation {
  std::vector<std::string> operands;
  std::string output;
};

/// Reads an equation, with or without "->" and "...". `ranks`: dimensions of each operand, needed
/// only where "..." occurs. Nothing if it is malformed or the ranks are missing.
std::optional<Equation> parse_equation(const std::string& text,
                                       const std::vector<std::optional<std::int64_t>>& ranks);

/// Multiply-accumulates of an einsum over operands of these shapes, taken two at a time from the
/// left as ATen does. 0 for a single operand or a malformed equation.
std::int64_t einsum_macs(const std::string& equation,
                         const std::vector<std::vector<std::int64_t>>& shapes);

}  // namespace repquant
