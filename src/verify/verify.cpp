#include "repquant/verify.h"

#include <ATen/ATen.h>

#include <functional>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "graph/archive.h"
#include "pipeline/calibration.h"
#include "pipeline/prepare.h"
#include "recipe/json.h"
#include "repquant/error.h"
#include "runtime/lazy_archive.h"
#include "tensor/parallel.h"
#include "verify/file_claims.h"
#include "verify/fold_claim.h"
#include "verify/log_claim.h"
#include "verify/model_claims.h"
#include "verify/reproduce.h"
#include "verify/subject.h"
#include "verify/table_claims.h"

namespace repquant {
namespace {

constexpr int kSamples = 8;  // enough to run everything once

/// What an Error says, as one sentence.
std::string sentence_of(const ErrorParts& parts) {
  std::string text = parts.what;
  if (!parts.where.empty()) text += " (" + parts.where + ")";
  if (!parts.expected.empty()) text += "; expected: " + parts.expected;
  if (!parts.got.empty()) text += "; got: " + parts.got;
  for (char& c : text) {
    if (c == '\n') c = ' ';
  }
  return text;
}

/// What a claim looks at: the artifact alone, or other files of the user, too.
enum class LooksAt { kArtifact, kOtherFiles };

/// Whether an Error says something of the artifact. Those of options, of other files, of the caller
/// and of this program do not.
bool refutes(ErrorKind kind, LooksAt what) {
  if (kind == ErrorKind::kGate || kind == ErrorKind::kNumerical) return true;
  return what == LooksAt::kArtifact &&
         (kind == ErrorKind::kFile || kind == ErrorKind::kUsage || kind == ErrorKind::kUnsupported);
}

/// Notes what `look` says; false if the claim does not hold.
bool holds(VerifyReport& report, const Observer& observer, const char* name, LooksAt what,
           const std::function<std::string()>& look) {
  observer.check_interrupt();
  observer.on_phase(name, 0);
  try {
    report.claims.push_back({name, true, look()});
    return true;
  } catch (const Error& e) {
    if (!refutes(e.kind(), what)) throw;
    report.claims.push_back({name, false, sentence_of(e.parts())});
    return false;
  }
}

/// What the artifact's sites and its coverage are, and its codes.
bool file_holds(Subject& subject, VerifyReport& report, const Observer& observer) {
  const auto look = [&](const char* name, const std::function<std::string()>& claim) {
    return holds(report, observer, name, LooksAt::kArtifact, claim);
  };
  return look("archive", [&] { return look_at_archive(subject.path, subject.trusted); }) &&
         look("format",
              [&] {
                subject.info = read_artifact(subject.path);
                return look_at_format(subject.info);
              }) &&
         look("table",
              [&] {
                subject.archive = read_validated(subject.path);
                subject.stored = subject.archive.stored;
                return look_at_table(subject);
              }) &&
         look("codes", [&] { return look_at_codes(subject.stored); }) &&
         look("coverage", [&] { return look_at_coverage(subject); }) &&
         look("integers",
              [&] {
                subject.forms = both_forms(std::move(subject.archive), subject.path, {});
                return look_at_integers(subject);
              }) &&
         look("log grid", [&] { return look_at_log_grids(subject); });
}

CalibrationRecipe few_samples(CalibrationRecipe recipe) {
  recipe.samples = recipe.batch_size = kSamples;
  return recipe;
}

/// The batch that the forms run on, in the order of the artifact's inputs.
std::vector<at::Tensor> batch_for(const Subject& subject, const VerifyOptions& options) {
  const CalibrationSource source = open_calibration({.samples = *options.data,
                                                     .preset_file = options.preset,
                                                     .model = subject.path,
                                                     .threads = options.threads});
  const ModelSignature signature{subject.info.inputs, subject.info.inputs.size(),
                                 find_past(subject.path)};
  return load_calibration(source, few_samples({}), signature).batches.front();
}

PreparedRun prepare_reference(const Subject& subject, const VerifyOptions& options,
                              const Observer& observer) {
  Recipe recipe = parse_recipe(subject.info.recipe, "recipe of the artifact").recipe;
  recipe.calibration = few_samples(recipe.calibration);
  CalibrationCache cache;
  return prepare({.model = options.reference,
                  .samples = options.data,
                  .preset = options.preset,
                  .threads = options.threads,
                  .trust = options.trust},
                 recipe, observer, cache);
}

/// What both forms and the model compute.
bool runs_hold(const Subject& subject, const VerifyOptions& options, VerifyReport& report,
               const Observer& observer) {
  const auto look = [&](const char* name, const std::function<std::string()>& claim) {
    return holds(report, observer, name, LooksAt::kOtherFiles, claim);
  };
  const bool reference = !options.reference.empty();
  if (!reference) {
    report.left_out.push_back("whether it was made from a model and its folds: `reference`");
  } else if (!look("model", [&] { return look_at_model(subject, options.reference); })) {
    return false;
  }
  if (!options.data) {
    report.left_out.push_back("what its forms compute, its folds and its outputs: `data`");
    return true;
  }
  std::optional<PreparedRun> run;
  if (reference) run = prepare_reference(subject, options, observer);
  const std::vector<at::Tensor> batch =
      run ? run->calibration.batches.front() : batch_for(subject, options);
  if (run && !look("fold", [&] { return look_at_folds(subject, *run); })) return false;
  if (!look("forms", [&] { return look_at_forms(subject, batch, run ? &*run : nullptr); })) {
    return false;
  }
  if (!run || std::holds_alternative<Synthetic>(*options.data)) {
    report.left_out.push_back("whether its outputs are as close to the model's as it states: " +
                              std::string(run ? "`data` that is not random" : "`reference`"));
    return true;
  }
  return look("outputs", [&] { return look_at_outputs(subject, batch, *run); });
}

}  // namespace

VerifyReport verify(const VerifyOptions& options, const Observer& observer) {
  const Clock::time_point start = Clock::now();
  const OperatorThreads one_thread(1);  // as quantize(), whose figures these are
  check_archive(options.artifact);
  if (!is_artifact(options.artifact)) read_artifact(options.artifact);  // says what it is instead
  if (!options.reference.empty()) check_archive(options.reference);
  Subject subject{.path = options.artifact, .trusted = options.trust};
  VerifyReport report;
  bool good = file_holds(subject, report, observer);
  if (good && options.reproduce) check_reproducible(subject, options);
  good = good && runs_hold(subject, options, report, observer);
  if (!options.reproduce) {
    report.left_out.push_back("whether it can be made again byte for byte: `reproduce`");
  } else if (good) {
    holds(report, observer, "reproduction", LooksAt::kOtherFiles,
          [&] { return look_at_reproduction(subject, options, observer); });
  }
  report.seconds = seconds_since(start);
  return report;
}

}  // namespace repquant
