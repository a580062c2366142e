// Several functions as one, for std::visit.
#pragma once

namespace repquant {

/// std::visit(Overloaded{[](const A&) { .. }, [](const B&) { .. }}, value)
template <typename... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};
template <typename... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;

}  // namespace repquant
