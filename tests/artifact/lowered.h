// A model that was fitted and lowered, for the tests of the artifact.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "artifact/check.h"
#include "artifact/lower.h"
#include "artifact/save.h"
#include "base/atomic_file.h"
#include "fit/fit_sites.h"
#include "fit/plan_hook.h"
#include "support/prepared.h"

namespace repquant::testing {

inline std::vector<SitePlan> plans_of(const Prepared& prepared, const Recipe& recipe) {
  return fit_sites(prepared.model, prepared.search, prepared.batches, recipe, {}).plans;
}

inline Lowered lowered(const Prepared& prepared, const std::vector<SitePlan>& plans) {
  return lower(prepared.model, prepared.search.sites, plans,
               {.observed = observe(prepared.model, prepared.batches[0]).observed, .defaults = {}});
}

/// The self-check of a module lowered from some plans against the simulation of others.
inline LoweringCheck check(const Prepared& prepared, const Lowered& module,
                           const std::vector<SitePlan>& simulated) {
  const PlanHook hook = plan_hook(prepared.search.sites, simulated);
  return check_lowered(module, hook, prepared.batches[0],
                       run_model(prepared.model, prepared.batches[0]));
}

inline void save(const Lowered& module, const std::filesystem::path& path) {
  AtomicFile file(path, /*force=*/true);
  save_artifact(module.module, {{"repquant.json", "{}"}}, file);
  file.commit();
}

inline std::vector<at::Tensor> outputs_of(torch::jit::Module module,
                                          const std::vector<at::Tensor>& inputs) {
  at::NoGradGuard no_grad;
  std::vector<c10::IValue> copies;
  for (const auto& input : inputs) copies.emplace_back(input.clone());
  std::vector<c10::IValue> outputs;
  outputs.push_back(module.forward(std::move(copies)));
  return output_tensors(outputs);
}

}  // namespace repquant::testing
