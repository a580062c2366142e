#include "pipeline/check_forms.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <torch/csrc/jit/api/module.h>

#include <algorithm>
#include <utility>

#include "artifact/check.h"
#include "base/text_table.h"
#include "graph/resized_inputs.h"
#include "graph/walker.h"
#include "pipeline/after_tokens.h"
#include "repquant/error.h"
#include "tensor/current_error.h"
#include "tensor/deviation.h"
#include "tensor/samples.h"

namespace repquant {
namespace {

/// Fused outputs may be this much farther from FP32 than portable ones: ties that fall apart early
/// in a deep model move everything behind them, by as much as quantization itself.
constexpr double kFormMarginDb = 6.0;
/// Or as near as this to the portable ones.
constexpr double kSameFormDb = 40.0;

std::string text_of_check(const std::vector<FormCheckInput>& inputs) {
  std::string text;
  for (const auto& input : inputs) text += (text.empty() ? "" : ", ") + input.shape;
  return text;
}

struct OutputErrors {
  Energies portable, fused;  // against FP32
  Energies between;
};

/// Whole outputs, each form by itself. Throws where shapes or types differ.
OutputErrors compare_outputs(const BothForms& forms, const std::vector<FormCheckInput>& inputs,
                             const std::string& path) {
  OutputErrors errors;
  for (const auto& input : inputs) {
    const auto portable = run_module(forms.portable, input.inputs);
    const auto fused = run_module(forms.fused, input.inputs);
    for (std::size_t i = 0; i < portable.size(); ++i) {
      const at::Tensor& expected = input.reference.at(i);
      for (const at::Tensor& got : {portable[i], fused.at(i)}) {
        if (got.sizes().equals(expected.sizes())) continue;
        throw Error(ErrorKind::kNumerical,
                    {.what = "self-check: the artifact's output has another shape than the model's",
                     .where = path,
                     .expected = c10::str(expected.sizes()) + " for " + input.shape,
                     .got = c10::str(got.sizes()),
                     .hint = "please report the model"});
      }
    }
    errors.portable += energies_of(input.reference, portable);
    errors.fused += energies_of(input.reference, fused);
    errors.between += energies_of(portable, fused);
  }
  return errors;
}

/// The submodules that differ on any input, beside `kept`; each once, with the first reason.
PortableSites differing(const BothForms& forms, const std::vector<FormCheckInput>& inputs) {
  PortableSites found;
  for (const auto& input : inputs) {
    for (const auto& difference : differences(forms, input.inputs)) {
      found.try_emplace(difference.module, "self-check: " + difference.measured + " (limit: " +
                                               difference.limit + ") for " + input.shape);
    }
  }
  return found;
}

/// The statement that failed, from a trace of the TorchScript interpreter: what its last mark
/// points at.
std::string failed_statement(const std::string& trace) {
  const auto mark = trace.rfind("<--- HERE");
  if (mark == std::string::npos) return "";
  const auto marks = trace.rfind('\n', mark);
  if (marks == std::string::npos || marks == 0) return "";
  const auto begin = trace.rfind('\n', marks - 1);
  const std::string line = trace.substr(begin + 1, marks - begin - 1);
  const auto first = line.find_first_not_of(' ');
  return first == std::string::npos ? "" : line.substr(first, 200);
}

std::string db(const Energies& energies) { return format_number(energies.sqnr_db(), 1) + " dB"; }

PortableSites compare_forms(const std::string& path, const std::vector<FormCheckInput>& inputs,
                            bool trusted, QuantizeReport& report, std::optional<BothForms> loaded) {
  PortableSites kept;
  for (;;) {  // a fused operator that is taken out gives way to others
    const BothForms forms =
        loaded ? *std::exchange(loaded, std::nullopt) : load_both(path, kept, trusted);
    const PortableSites found = differing(forms, inputs);
    if (found.empty()) {
      const OutputErrors errors = compare_outputs(forms, inputs, path);
      const bool close = errors.between.sqnr_db() >= kSameFormDb ||
                         errors.fused.sqnr_db() >= errors.portable.sqnr_db() - kFormMarginDb;
      if (!close) {
        throw Error(
            ErrorKind::kNumerical,
            {.what = "self-check: the fused form's outputs are too far from the portable "
                     "form's, although every operator agrees",
             .where = path,
             .expected = "at most " + format_number(kFormMarginDb, 0) +
                         " dB farther from FP32 than the portable form, which has " +
                         db(errors.portable),
             .got = db(errors.fused) + ", and " + db(errors.between) + " against the portable form",
             .hint = "please report the model"});
      }
      report.checks.push_back(
          {.name = "forms",
           .measured =
               counted(std::ssize(forms.replaced), "fused operator equals its portable form",
                       "fused operators equal their portable forms") +
               " (" + text_of_check(inputs) + "); outputs: fused " + db(errors.fused) +
               ", portable " + db(errors.portable) + " against FP32, " + db(errors.between) +
               " apart" +
               (kept.empty() ? ""
                             : "; " + counted(std::ssize(kept), "stays", "stay") +
                                   " portable, such as " + kept.begin()->first),
           .limit = "as above"});
      return kept;
    }
    const std::size_t before = kept.size();
    kept.insert(found.begin(), found.end());
    if (kept.size() == before) {
      throw Error(ErrorKind::kNumerical,
                  {.what = "self-check: the fused form differs from the portable one",
                   .where = found.begin()->first,
                   .got = found.begin()->second,
                   .hint = "please report the model; `exclude` leaves the site in floating point"});
    }
  }
}

}  // namespace

std::vector<FormCheckInput> form_check_inputs(const Model& model,
                                              const std::vector<at::Tensor>& batch,
                                              const std::vector<at::Tensor>& reference) {
  const std::int64_t count = batch.empty() || batch[0].dim() == 0 ? 1 : batch[0].size(0);
  std::vector<FormCheckInput> inputs{{counted(count, "sample"), batch, reference}};
  const auto add = [&](const std::string& shape, const std::vector<at::Tensor>& changed) {
    try {
      inputs.push_back({shape, changed, run_model(model, changed)});
      return true;
    } catch (const Error& e) {
      if (e.kind() == ErrorKind::kResource) throw;
      return false;  // the model itself does not take this shape
    }
  };
  const bool batched = std::all_of(batch.begin(), batch.end(), [&](const at::Tensor& tensor) {
    return tensor.dim() > 0 && tensor.size(0) == count;
  });
  if (batched)
    add(counted(count == 1 ? 2 : 1, "sample"), repeated_samples(batch, count == 1 ? 2 : 1));
  try_other_sizes(batch,
                  [&](const ResizedInputs& resized) { return add(resized.shape, resized.inputs); });
  const std::int64_t length = batch.empty() || batch[0].dim() < 2 ? 0 : batch[0].size(1);
  const auto run = [&](const std::vector<at::Tensor>& part) { return run_model(model, part); };
  for (const std::int64_t begin : {length / 3, length - 1}) {
    if (const auto later = after_tokens(batch, begin, run)) {
      add("tokens behind " + std::to_string(begin) + " kept ones", *later);
    }
  }
  return inputs;
}

PortableSites check_forms(const std::string& path, const std::vector<FormCheckInput>& inputs,
                          bool trusted, QuantizeReport& report, std::optional<BothForms> loaded) {
  const at::NoGradGuard no_grad;
  const auto fail = [&](const std::string& message) {
    rethrow_if_out_of_memory(path);
    throw Error(ErrorKind::kNumerical,
                {.what = "self-check: the artifact does not run in a shape that the model takes",
                 .where = failed_statement(message),
                 .expected = text_of_check(inputs),
                 .got = interpreter_message(message),
                 .hint = "please report the model"});
  };
  try {
    return compare_forms(path, inputs, trusted, report, std::move(loaded));
  } catch (const Error&) {
    throw;
  } catch (const c10::Error& e) {
    fail(e.what_without_backtrace());
  } catch (const std::exception& e) {
    fail(e.what());
  }
  return {};
}

}  // namespace repquant
