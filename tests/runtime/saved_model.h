// Models of the fixtures as artifacts: written, loaded in both forms, their outputs compared.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <filesystem>
#include <string>
#include <vector>

#include "artifact/lower.h"
#include "artifact/min_max_plans.h"
#include "artifact/save.h"
#include "base/atomic_file.h"
#include "format/description.h"
#include "graph/model.h"
#include "graph/observe.h"
#include "graph/site.h"
#include "repquant/load.h"
#include "support/fixtures.h"
#include "support/load.h"
#include "support/sqnr.h"

namespace repquant::testing {

inline std::string description(const PortableSites& portable = {}) {
  ArtifactInfo info;
  info.recipe = "{}";
  info.portable = portable;
  return artifact_to_json(info);
}

inline void save(const torch::jit::Module& module, const std::filesystem::path& path,
                 const std::string& text = description()) {
  AtomicFile file(path, true);
  save_artifact(module, {{"repquant.json", text}}, file);
  file.commit();
}

inline Lowered lowered(const std::string& name, const std::string& form,
                       const MinMaxOptions& options) {
  const auto data = fixture_data(name);
  const Model model = load_for(fixture_path(name, form), data.inputs);
  SiteSearch search = find_sites(model);
  const Observed observed = observe(model, data.inputs).observed;
  prove_sites(model, search, data.inputs, observed);
  const auto plans = min_max_plans(model, search.sites, data.inputs, options);
  return lower(model, search.sites, plans, {observed, {}});
}

inline std::vector<at::Tensor> outputs(torch::jit::Module module,
                                       const std::vector<at::Tensor>& inputs) {
  at::NoGradGuard no_grad;
  const c10::IValue value = module.forward(std::vector<c10::IValue>(inputs.begin(), inputs.end()));
  std::vector<at::Tensor> tensors;
  if (value.isTensor()) tensors = {value.toTensor()};
  if (value.isTuple()) {
    for (const auto& element : value.toTupleRef().elements()) tensors.push_back(element.toTensor());
  }
  if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) tensors.push_back(entry.value().toTensor());
  }
  return tensors;
}

inline const LoadedSite* find(const LoadReport& report, const std::string& module) {
  for (const auto& site : report.sites) {
    if (site.module == module) return &site;
  }
  return nullptr;
}

inline MinMaxOptions bits(int weight_bits, int activation_bits) {
  MinMaxOptions options;
  options.weight_bits = weight_bits;
  options.activation_bits = activation_bits;
  return options;
}

}  // namespace repquant::testing
