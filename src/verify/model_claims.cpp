#include "verify/model_claims.h"

#include <ATen/ATen.h>

#include "artifact/check.h"
#include "base/sha256.h"
#include "base/text_table.h"
#include "pipeline/check_forms.h"

namespace repquant {
namespace {

/// The batch without a reference: what the portable form gives takes its place.
std::string compare_operators(const BothForms& forms, const std::vector<at::Tensor>& batch) {
  const std::vector<FormDifference> found = differences(forms, batch);
  if (!found.empty()) {
    refute("the fused operator of " + found.front().module +
           " computes something else than the portable one: " + found.front().measured +
           " (limit: " + found.front().limit + ")");
  }
  return counted(std::ssize(forms.replaced), "fused operator equals its portable form",
                 "fused operators equal their portable forms") +
         " on " + counted(batch.front().size(0), "sample");
}

}  // namespace

std::string look_at_model(const Subject& subject, const std::string& reference) {
  const std::string hash = sha256_of_file(reference);
  if (hash != subject.info.model_hash) {
    refute("the artifact was made from a model with SHA-256 " + subject.info.model_hash + ", but " +
           reference + " has " + hash);
  }
  return "made from this file, SHA-256 " + hash;
}

std::string look_at_forms(const Subject& subject, const std::vector<at::Tensor>& batch,
                          const PreparedRun* run) {
  const at::NoGradGuard no_grad;
  if (run == nullptr) return compare_operators(subject.forms, batch);
  QuantizeReport report;
  const auto inputs = form_check_inputs(run->model, batch, run_model(run->model, batch));
  const PortableSites different =
      check_forms(subject.path, inputs, subject.trusted, report, subject.forms);
  if (!different.empty()) {
    refute("the fused operator of " + different.begin()->first +
           " computes something else than the portable one: " + different.begin()->second);
  }
  return report.checks.back().measured;
}

}  // namespace repquant
