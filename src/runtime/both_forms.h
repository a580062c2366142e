// One artifact as portable and as fused module, to be run side by side.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <memory>
#include <string>
#include <vector>

#include "repquant/load.h"
#include "runtime/fuse.h"
#include "runtime/lazy_archive.h"

namespace repquant {

struct BothForms {
  torch::jit::Module portable, fused;
  std::shared_ptr<torch::jit::Graph> portable_graph, fused_graph;  // of forward()
  std::vector<Replacement> replaced;  // in the order of the fused graph
  LoadReport report;                  // of the fused form
};

/// Loads the artifact in both forms; the fused one leaves `kept`, and what the artifact says,
/// portable. `trusted`: as LoadOptions::trust. Throws Error as load().
BothForms load_both(const std::string& path, const PortableSites& kept, bool trusted = false);

/// The same of an archive that is read already.
BothForms both_forms(LazyArchive archive, const std::string& path, const PortableSites& kept);

/// A fused operator that computes something else than the portable form does on the same inputs.
struct FormDifference {
  std::string module;
  std::string measured;
  std::string limit;
};

/// Runs both forms beside each other on one batch; each operator of the fused form gets the
/// portable form's values, so that deviations do not add up. Limits as in tensor/deviation.h.
std::vector<FormDifference> differences(const BothForms& forms,
                                        const std::vector<at::Tensor>& inputs);

}  // namespace repquant
