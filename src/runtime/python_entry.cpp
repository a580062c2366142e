// repquant::load as an operator, so that Python reaches it without bindings of its own.
#include <torch/csrc/jit/api/module.h>
#include <torch/library.h>

#include <string>
#include <tuple>
#include <vector>

#include "repquant/load.h"

namespace repquant {
namespace {

using Row = std::tuple<std::string, std::string, bool, std::string>;

/// The module, the instruction set, and one row per submodule: name, operator, fused, reason.
std::tuple<c10::IValue, std::string, std::vector<Row>> load_with_report(const std::string& path,
                                                                        bool fused) {
  LoadReport report;
  const torch::jit::Module module = load(path, {fused}, &report);
  std::vector<Row> rows;
  for (const auto& site : report.sites) {
    rows.emplace_back(site.module, site.op, site.fused, site.reason);
  }
  return {module._ivalue(), report.cpu_level, std::move(rows)};
}

void load_boxed(const c10::OperatorHandle&, torch::jit::Stack* stack) {
  const bool fused = torch::jit::pop(*stack).toBool();
  const std::string path = torch::jit::pop(*stack).toStringRef();
  auto [module, level, rows] = load_with_report(path, fused);
  torch::jit::push(*stack, std::move(module), std::move(level), std::move(rows));
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(repquant, m) {
  m.def(
      "load(str path, bool fused) -> (Any module, str cpu_level, "
      "(str, str, bool, str)[] sites)",
      torch::CppFunction::makeFromBoxedFunction<&load_boxed>());
}

}  // namespace repquant
