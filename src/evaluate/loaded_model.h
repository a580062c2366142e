// A TorchScript file as a function from tensors to its output tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/model_inputs.h"
#include "graph/inputs.h"
#include "repquant/form.h"

namespace repquant {

/// Runs a model as a user of the file would: torch::jit::load, eval mode, no rewriting; or, in the
/// fused form, repquant::load. Portable forms run without LibTorch's optimizer unless they are
/// frozen.
class LoadedModel {
 public:
  /// `trusted`: as LoadOptions::trust. Throws Error kFile or kUnsupported as load_archive(), or as
  /// load() for Form::kFused.
  explicit LoadedModel(const ModelForm& model, bool trusted = false);
  /// The same for a module that was loaded from there; shares its parameters.
  LoadedModel(const ModelForm& model, const torch::jit::Module& module);
  ~LoadedModel();
  LoadedModel(LoadedModel&&) noexcept;
  LoadedModel& operator=(LoadedModel&&) noexcept;

  const std::string& path() const { return path_; }
  Form form() const { return form_; }
  std::int64_t file_bytes() const { return file_bytes_; }
  const ModelSignature& signature() const { return signature_; }

  /// Makes parameters constants, as is usual for deployment. Returns false, and leaves the model as
  /// it was, if the model does not allow it.
  bool freeze();

  /// The tensors of the output at these positions (tuples, lists and dicts laid flat), float32 or
  /// double; complex numbers as two real ones each, side by side in the last dimension. Throws
  /// Error kUsage (the model fails on the inputs), kUnsupported (it gives no floating-point tensor
  /// there), kResource (out of memory).
  std::vector<at::Tensor> forward(const std::vector<at::Tensor>& inputs,
                                  std::span<const int> positions) const;

  /// All tensors of the output, of any type. Throws as forward().
  std::vector<at::Tensor> outputs(const std::vector<at::Tensor>& inputs) const;

  /// The first tensor of the output.
  at::Tensor forward(const std::vector<at::Tensor>& inputs) const;

  /// forward() and a check that the outputs hold numbers, else Error kNumerical: no NaN, and some
  /// that are finite. Others may be infinite, as the logits of tokens that are suppressed.
  std::vector<at::Tensor> run(const std::vector<at::Tensor>& inputs,
                              std::span<const int> outputs) const;
  at::Tensor run(const std::vector<at::Tensor>& inputs) const;

 private:
  std::string path_;
  Form form_;
  bool frozen_ = false;
  std::int64_t file_bytes_ = 0;
  std::vector<InputForm> forms_;
  ModelSignature signature_;
  std::unique_ptr<torch::jit::Module> module_;
};

}  // namespace repquant
