#include "evaluate/loaded_model.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/frontend/error_report.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "evaluate/explain_failure.h"
#include "graph/archive.h"
#include "graph/walker.h"
#include "repquant/error.h"
#include "repquant/load.h"
#include "tensor/current_error.h"
#include "tensor/deviation.h"
#include "tensor/shape_text.h"

namespace repquant {
namespace {

ModelSignature signature_of(const std::vector<InputForm>& forms, const std::string& path) {
  ModelSignature signature;
  for (const InputForm& form : forms) {
    for (auto& leaf : leaves_of(form)) signature.names.push_back(std::move(leaf));
    if (!form.has_default) signature.required = signature.names.size();
  }
  signature.past = find_past(path);
  return signature;
}

std::string shapes_of(const std::vector<at::Tensor>& tensors) {
  std::string text;
  for (const auto& tensor : tensors) {
    text += (text.empty() ? "" : ", ") + std::string(c10::toString(tensor.scalar_type())) + " " +
            shape_text(tensor.sizes());
  }
  return text;
}

bool has_numbers(const at::Tensor& tensor) {
  return (tensor.is_floating_point() || tensor.is_complex()) && tensor.numel() > 0;
}

/// [.., n] complex numbers as [.., 2 n] real ones.
at::Tensor flat_reals(const at::Tensor& tensor) {
  const at::Tensor reals = as_reals(tensor);
  return tensor.is_complex() && tensor.dim() > 0 ? reals.flatten(-2) : reals;
}

/// What else to do where the output at a position has no scores.
std::string hint_of(const std::vector<at::Tensor>& tensors) {
  const auto other = std::find_if(tensors.begin(), tensors.end(), has_numbers);
  if (other != tensors.end()) {
    const std::string position = std::to_string(other - tensors.begin());
    return "output " + position + " is one: `outputs=" + position + "`";
  }
  return "metrics need scores: export the model without its argmax or comparison";
}

/// The tensor at `position` if it is of a floating-point or complex type.
at::Tensor output_at(const std::vector<at::Tensor>& tensors, int position,
                     const std::string& path) {
  const auto index = static_cast<std::size_t>(position);
  if (index < tensors.size() && has_numbers(tensors[index])) return flat_reals(tensors[index]);
  throw Error(ErrorKind::kUnsupported, {.what = "output " + std::to_string(position) +
                                                " of the model is no floating-point tensor",
                                        .where = path,
                                        .got = tensors.empty() ? "no tensor" : shapes_of(tensors),
                                        .hint = hint_of(tensors)});
}

}  // namespace

LoadedModel::LoadedModel(const ModelForm& model, bool trusted)
    : LoadedModel(model, model.form == Form::kFused ? load(model.path, {.trust = trusted})
                                                    : load_archive(model.path, trusted)) {}

LoadedModel::LoadedModel(const ModelForm& model, const torch::jit::Module& module)
    : path_(model.path), form_(model.form), module_(std::make_unique<torch::jit::Module>(module)) {
  file_bytes_ = static_cast<std::int64_t>(std::filesystem::file_size(path_));
  forms_ = input_forms(*module_);
  signature_ = signature_of(forms_, path_);
  try {
    module_->eval();
  } catch (const std::exception& e) {
    throw Error(ErrorKind::kUnsupported, {.what = "the model cannot be put into eval mode",
                                          .where = path_,
                                          .got = interpreter_message(e.what())});
  }
}

LoadedModel::~LoadedModel() = default;
LoadedModel::LoadedModel(LoadedModel&&) noexcept = default;
LoadedModel& LoadedModel::operator=(LoadedModel&&) noexcept = default;

bool LoadedModel::freeze() {
  try {
    *module_ = torch::jit::freeze(*module_);
    frozen_ = true;
    return true;
  } catch (const std::exception&) {
    return false;  // for example a model that changes its own attributes
  }
}

std::vector<at::Tensor> LoadedModel::outputs(const std::vector<at::Tensor>& inputs) const {
  const auto fail = [&](const std::string& message) {
    rethrow_if_out_of_memory(path_);
    ErrorParts parts =
        explain_failure(inputs, signature_.names, [this](const std::vector<at::Tensor>& part) {
          try {
            module_->forward(module_arguments(forms_, part));
            return true;
          } catch (const std::exception&) {
            return false;
          }
        });
    if (parts.what.empty()) {
      parts.what = "the model fails on the data: " + interpreter_message(message);
      parts.got = "inputs " + shapes_of(inputs);
      parts.hint = "give data of the shapes and types that the model was exported for";
    }
    parts.where = path_;
    // The model runs elsewhere, so what does not fit is the data.
    throw Error(ErrorKind::kUsage, std::move(parts));
  };
  at::NoGradGuard no_grad;
  // LibTorch would spend the first calls on rewriting the many small operators of a portable form,
  // for seconds to minutes, and it is no faster then unless it was frozen.
  const bool as_written = form_ == Form::kPortable && !frozen_;
  const torch::jit::GraphOptimizerEnabledGuard optimizer(!as_written &&
                                                         torch::jit::getGraphExecutorOptimize());
  const std::vector<c10::IValue> arguments = module_arguments(forms_, inputs);
  c10::IValue output;
  try {
    output = module_->forward(arguments);
  } catch (const c10::Error& e) {
    fail(e.what_without_backtrace());
  } catch (const torch::jit::ErrorReport& e) {
    fail(e.what());
  } catch (const std::exception& e) {
    fail(e.what());
  }
  return output_tensors({output});
}

std::vector<at::Tensor> LoadedModel::forward(const std::vector<at::Tensor>& inputs,
                                             std::span<const int> positions) const {
  const std::vector<at::Tensor> tensors = outputs(inputs);
  std::vector<at::Tensor> chosen;
  for (const int position : positions) chosen.push_back(output_at(tensors, position, path_));
  return chosen;
}

at::Tensor LoadedModel::forward(const std::vector<at::Tensor>& inputs) const {
  return forward(inputs, std::array{0}).front();
}

std::vector<at::Tensor> LoadedModel::run(const std::vector<at::Tensor>& inputs,
                                         std::span<const int> outputs) const {
  std::vector<at::Tensor> chosen = forward(inputs, outputs);
  for (const at::Tensor& tensor : chosen) {
    const bool nan = at::isnan(tensor).any().item<bool>();
    if (!nan && at::isfinite(tensor).any().item<bool>()) continue;
    throw Error(ErrorKind::kNumerical,
                {.what = nan ? "the output of the model holds NaN"
                             : "the output of the model holds nothing but infinity",
                 .where = path_,
                 .hint = "check the data and its preprocessing, and the model itself"});
  }
  return chosen;
}

at::Tensor LoadedModel::run(const std::vector<at::Tensor>& inputs) const {
  return run(inputs, std::array{0}).front();
}

}  // namespace repquant
