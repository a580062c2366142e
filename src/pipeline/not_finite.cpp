#include "pipeline/not_finite.h"

#include <ATen/ATen.h>

#include <iterator>
#include <string>
#include <utility>

#include "artifact/check.h"
#include "repquant/error.h"

namespace repquant {
namespace {

/// The sample whose output has NaN, or what is known of the batch.
std::string place_of_nan(const at::Tensor& output, const NotFinite& found) {
  if (output.dim() > 0 && output.size(0) == std::ssize(found.samples)) {
    const at::Tensor rows = at::isnan(output).reshape({output.size(0), -1}).any(1).nonzero();
    return found.samples[static_cast<std::size_t>(rows[0].item<std::int64_t>())];
  }
  return found.samples.size() == 1 ? found.where : found.where + ", or a sample of its batch";
}

}  // namespace

void check_not_finite(const Model& model, const Calibration& calibration,
                      const Observer& observer) {
  bool warned = false;
  for (const auto& [batch, found] : calibration.not_finite) {
    observer.check_interrupt();
    for (const at::Tensor& output : run_model(model, calibration.batches.at(batch))) {
      if (!at::isnan(output).any().item<bool>()) continue;
      throw Error(ErrorKind::kFile,
                  {.what = "the model makes NaN of data that is not finite",
                   .where = place_of_nan(output, found),
                   .expected = "finite numbers, or such as the model masks out",
                   .got = "values that are not finite, such as in " + found.where,
                   .hint = "check the data; a mask must leave each query one key at least"});
    }
    if (!found.only_low && !std::exchange(warned, true)) {
      observer.warn("the data has NaN or infinite values, such as " + found.where +
                    "; the model's outputs have no NaN");
    }
  }
}

void warn_of_nan(const std::vector<at::Tensor>& outputs, const Observer& observer) {
  for (const at::Tensor& output : outputs) {
    if (!at::isnan(output).any().item<bool>()) continue;
    observer.warn("outputs of the model are NaN in places, which no figure counts");
    return;
  }
}

}  // namespace repquant
