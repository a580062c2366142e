#include "cli/lost_results.h"

#include <optional>

#include "base/sha256.h"
#include "base/text_table.h"
#include "cli/render.h"
#include "repquant/artifact.h"

namespace repquant::cli {
namespace {

constexpr double kLostDb = 3.0;          // half of the power of the outputs is error
constexpr double kLostKl = 0.5;          // nats; outputs may differ by what softmax does not see
constexpr double kLostCosine = 0.5;      // of embeddings
constexpr double kHardlyCovered = 0.01;  // share of multiply-adds

bool is_lost(const ModelEvaluation& model) {
  if (model.agreement) {
    const auto& kl = model.agreement->kl;
    return model.agreement->sqnr_db < kLostDb && (!kl || kl->value > kLostKl);
  }
  const auto& cosine = model.embedding   ? model.embedding->cosine
                       : model.retrieval ? model.retrieval->cosine
                                         : std::optional<Mean>();
  return cosine && cosine->value < kLostCosine;
}

std::string figures(const ModelEvaluation& model) {
  if (model.agreement) {
    const auto& [top1, kl, sqnr_db, difference] = *model.agreement;
    return (kl ? "KL " + format_number(kl->value, 2) + ", " : "") + "SQNR " +
           format_number(sqnr_db, 1) + " dB" +
           (top1 ? ", agreement " + format_percent(top1->value) : "");
  }
  const auto& cosine = model.embedding ? model.embedding->cosine : model.retrieval->cosine;
  return "cosine " + format_number(cosine->value, 2);
}

std::string reason(const ModelEvaluation& model, const std::string& reference) {
  if (model.form == Form::kFloat) return "are they the same model, with the same weights?";
  if (read_artifact(model.model).model_hash != sha256_of_file(reference)) {
    return "it was not made from that reference: give the file it was made from";
  }
  return "quantization has lost it: try more bits or other calibration data";
}

/// What gives a result more bits: all of them, or those of the site that loses most.
std::string more_bits(const QuantizeReport& report) {
  const SiteReport* worst = nullptr;
  for (const SiteReport& site : report.sites) {
    const auto fewer = [](int bits) { return bits > 0 && bits < 8; };
    if (fewer(site.weight_bits) || fewer(site.activation_bits)) {
      return "more bits (--bits w8a8, then fewer), --target-bits";
    }
    if (worst == nullptr || site.own_sqnr_db < worst->own_sqnr_db) worst = &site;
  }
  if (worst == nullptr) return "another recipe";
  return "to keep in floating point what loses most (--exclude '" + worst->path + "', " +
         format_number(worst->own_sqnr_db, 1) + " dB of its own)";
}

}  // namespace

std::vector<std::string> lost_results(const QuantizeReport& report) {
  std::vector<std::string> warnings;
  const double share = report.coverage.mac_share();
  if (report.coverage.macs > 0 && share < kHardlyCovered) {
    warnings.push_back(
        "only " + format_percent(share, 2) +
        " of the multiply-adds were quantized, so there is nothing to gain; repquant "
        "inspect MODEL --data DATA says what was left and why");
  }
  if (report.output_sqnr_db < kLostDb) {
    warnings.push_back("the result is lost: its outputs keep " +
                       format_number(report.output_sqnr_db, 1) + " dB of the FP32 model's; try " +
                       more_bits(report) + ", or calibration data like what the model will see");
  }
  return warnings;
}

std::vector<std::string> lost_results(const EvaluationReport& report) {
  std::vector<std::string> warnings;
  if (!report.reference) return warnings;
  for (const ModelEvaluation& model : report.models) {
    if (!is_lost(model)) continue;
    warnings.push_back(with_form(model.model, model.form) + " has little in common with " +
                       report.reference->model + " (" + figures(model) +
                       "): " + reason(model, report.reference->model));
  }
  return warnings;
}

}  // namespace repquant::cli
