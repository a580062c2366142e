// The last step of the self-check: the file as users will load it, portable and fused, on several
// shapes.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "graph/model.h"
#include "repquant/quantize.h"
#include "runtime/both_forms.h"

namespace repquant {

/// A batch in one shape, and what the FP32 model gives on it.
struct FormCheckInput {
  std::string shape;  // in words: "4 samples", "length 8"
  std::vector<at::Tensor> inputs;
  std::vector<at::Tensor> reference;
};

/// `batch` as it is, a single sample (two, if it has one), and inputs of other sizes, each where
/// the FP32 model takes it. `reference`: the model's outputs on `batch`.
std::vector<FormCheckInput> form_check_inputs(const Model& model,
                                              const std::vector<at::Tensor>& batch,
                                              const std::vector<at::Tensor>& reference);

/// Loads the file in both forms and compares them on `inputs`: every fused operator on the portable
/// form's values (limits in tensor/deviation.h), and whole outputs. Returns the submodules whose
/// fused operator differs, with the reason: they must stay portable. Adds a line to
/// `report.checks`. `loaded`: the file, where it has been loaded already. `trusted`: as in
/// load_both().
/// Throws Error kNumerical, naming what differs, where leaving submodules portable does not help or
/// a form does not run.
PortableSites check_forms(const std::string& path, const std::vector<FormCheckInput>& inputs,
                          bool trusted, QuantizeReport& report,
                          std::optional<BothForms> loaded = {});

}  // namespace repquant
