// repquant::load as an operator, so that Python reaches it without bindings of its own.
#include <torch/csrc/jit/api/module.h>
#include <torch/library.h>

#include <string>
#include <tuple>
#include <vector>

#include "repquant/error.h"
#include "repquant/load.h"

namespace repquant {
namespace {

using Row = std::tuple<std::string, std::string, bool, std::string>;

/// What load() gives, or why it does not.
struct Loaded {
  c10::IValue module;
  std::string cpu_level;
  std::vector<Row> rows;           // submodules: name, operator, fused, reason
  std::vector<std::string> error;  // kind, what, where, expected, got, hint; or empty
};

Loaded load_with_report(const std::string& path, const LoadOptions& options) {
  try {
    LoadReport report;
    const torch::jit::Module module = load(path, options, &report);
    std::vector<Row> rows;
    for (const auto& site : report.sites) {
      rows.emplace_back(site.module, site.op, site.fused, site.reason);
    }
    return {module._ivalue(), report.cpu_level, std::move(rows), {}};
  } catch (const Error& e) {
    const ErrorParts& parts = e.parts();
    return {{},
            "",
            {},
            {name_of(e.kind()), parts.what, parts.where, parts.expected, parts.got, parts.hint}};
  }
}

void load_boxed(const c10::OperatorHandle&, torch::jit::Stack* stack) {
  LoadOptions options;
  options.trust = torch::jit::pop(*stack).toBool();
  options.fused = torch::jit::pop(*stack).toBool();
  const std::string path = torch::jit::pop(*stack).toStringRef();
  Loaded loaded = load_with_report(path, options);
  torch::jit::push(*stack, std::move(loaded.module), std::move(loaded.cpu_level),
                   std::move(loaded.rows), std::move(loaded.error));
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(repquant, m) {
  m.def(
      "load(str path, bool fused, bool trust=False) -> (Any module, str cpu_level, "
      "(str, str, bool, str)[] sites, str[] error)",
      torch::CppFunction::makeFromBoxedFunction<&load_boxed>());
}

}  // namespace repquant
