#include "pipeline/try_samples.h"

#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>

#include "graph/dependence.h"
#include "graph/observe.h"
#include "graph/walker.h"
#include "pipeline/calibration.h"
#include "repquant/error.h"

namespace repquant {
namespace {

/// Elements of the largest value that depends on the inputs.
std::int64_t largest_value(const Model& model, const Observed& observed) {
  const auto inputs = model.graph->inputs();
  std::int64_t largest = 0;
  for (const torch::jit::Value* value :
       dependent_values(Schedule(*model.graph), {inputs.begin(), inputs.end()})) {
    const auto found = observed.shapes.find(value);
    if (found == observed.shapes.end()) continue;
    largest = std::max(largest, c10::multiply_integers(found->second));
  }
  return largest;
}

}  // namespace

Pass try_pass(const Model& model, const std::vector<at::Tensor>& batch) {
  Pass pass;
  try {
    const Observed observed = observe(model, batch).observed;
    for (const auto& [node, macs] : observed.macs) pass.macs += macs;
    pass.largest = largest_value(model, observed);
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::kResource) throw;
    pass.refused = e.parts().what;
  }
  return pass;
}

int chosen_batch_size(const Pass& one) {
  constexpr std::int64_t kMostElements = std::int64_t{1} << 24;
  if (one.refused) return kUsualBatch;
  return static_cast<int>(std::clamp<std::int64_t>(
      kMostElements / std::max<std::int64_t>(1, one.largest), 1, kUsualBatch));
}

}  // namespace repquant
