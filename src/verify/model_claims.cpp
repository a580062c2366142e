#include "verify/model_claims.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "artifact/check.h"
#include "base/sha256.h"
#include "base/text_table.h"
#include "pipeline/check_forms.h"
#include "tensor/deviation.h"

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

struct StatedOutputs {
  double sqnr_db = 0.0;
  std::string samples;  // on which
};

/// The less of what it states: of a few samples held back, with one number each, a figure may be
/// far too good by chance.
StatedOutputs stated_outputs(const ArtifactInfo& info) {
  if (info.judgement && info.judgement->sqnr_db <= info.output_sqnr_db) {
    return {info.judgement->sqnr_db, "samples held back"};
  }
  return {info.output_sqnr_db, "the samples that were fitted"};
}

/// What outputs of an artifact that states `stated` dB keep on other samples, at least. Negated
/// outputs keep -6 dB, outputs that do not hang on the input about 0; samples unlike those of the
/// calibration cost a few.
double least_sqnr_db(double stated, bool whole_numbers) {
  constexpr double kMargin = 6.0, kMostAsked = 20.0;
  constexpr double kHalfEqual = 3.0;  // of whole numbers, of which a few samples have few
  return std::min({stated / 2, stated - kMargin, whole_numbers ? kHalfEqual : kMostAsked});
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

std::string look_at_outputs(const Subject& subject, const std::vector<at::Tensor>& batch,
                            const PreparedRun& run) {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> reference = run_model(run.model, batch);
  const double measured =
      energies_of(reference, run_module(subject.forms.portable, batch)).sqnr_db();
  const StatedOutputs stated = stated_outputs(subject.info);
  const double least = least_sqnr_db(stated.sqnr_db, whole_numbers(reference));
  const std::string seen = "its outputs keep " + format_number(measured, 1) +
                           " dB of the model's on these " +
                           counted(batch.front().size(0), "sample") + ", where it states " +
                           format_number(stated.sqnr_db, 1) + " dB on " + stated.samples;
  const std::string limit = format_number(least, 1) + " dB";
  if (!(measured >= least)) refute(seen + "; less than " + limit + " is another computation");
  return seen + " (limit " + limit + ")";
}

}  // namespace repquant
