#include "data/model_inputs.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "base/list_text.h"
#include "base/text_table.h"
#include "data/dataset_source.h"
#include "repquant/error.h"
#include "tensor/cache_codes.h"

namespace repquant {
namespace {

std::string names_text(const std::vector<std::string>& names) {
  return names.empty() ? "none" : list_text(names);
}

[[noreturn]] void fail(const Batch& batch, const ModelSignature& signature) {
  std::string expected = counted(signature.names.size(), "input");
  if (signature.names.size() > signature.required) {
    expected = std::to_string(signature.required) + " to " + expected;
  }
  const std::string given =
      batch.names.empty() ? std::to_string(batch.inputs.size()) + " without names"
                          : std::to_string(batch.inputs.size()) + ": " + names_text(batch.names);
  throw Error(ErrorKind::kUsage,
              {.what = "the data does not fit the inputs of the model",
               .expected = expected + ": " + names_text(signature.names),
               .got = given,
               .hint = "give an .npz file with one array for each input, under the input's name"});
}

const at::Tensor* find_input(const Batch& batch, std::string_view name) {
  const auto found = std::find(batch.names.begin(), batch.names.end(), name);
  if (found == batch.names.end()) return nullptr;
  return &batch.inputs[static_cast<std::size_t>(found - batch.names.begin())];
}

/// The input that a batch lacks and that the data's labels are: one named as arrays of labels are,
/// such as the class that a diffusion model draws, or the target of a model that gives its loss.
std::optional<std::string> input_of_labels(const Batch& batch, const ModelSignature& signature) {
  if (batch.labels.empty() || batch.names.empty()) return {};
  for (std::size_t i = 0; i < signature.required; ++i) {
    const std::string& name = signature.names[i];
    if (name != internal::kLabels && name != internal::kTargets) continue;
    if (find_input(batch, name) == nullptr) return name;
  }
  return {};
}

/// A list that the model reads as a whole is as long as the data makes it: its first tensor is the
/// last input, and "xs.1", "xs.2" of the data follow. Of a list of tuples those of the first are
/// the last inputs, "past.0.0" and "past.0.1"; "past.1.0" and so on follow.
std::optional<ModelSignature> with_whole_list(const Batch& batch, const ModelSignature& signature) {
  if (signature.names.empty()) return {};
  const std::string& last = signature.names.back();
  const std::size_t at = (last + ".").find(".0.");
  if (at == std::string::npos) return {};
  const std::string stem = last.substr(0, at + 1);  // "past."
  std::vector<std::string> ends;                    // behind the number: ".0", ".1"
  for (const std::string& name : signature.names) {
    if (name.starts_with(stem)) ends.push_back(name.substr(at + 2));
    if (name.starts_with(stem) && name[at + 1] != '0') return {};  // of known length
  }
  ModelSignature longer = signature;
  for (int i = 1; find_input(batch, stem + std::to_string(i) + ends.front()) != nullptr; ++i) {
    const std::string element = stem + std::to_string(i);
    for (const std::string& end : ends) longer.names.push_back(element + end);
    longer.required += ends.size();
  }
  return longer.names.size() > signature.names.size() ? std::optional(longer) : std::nullopt;
}

}  // namespace

const at::Tensor* attention_mask(const Batch& batch) {
  const at::Tensor* mask = find_input(batch, "attention_mask");
  return mask != nullptr ? mask : find_input(batch, "mask");
}

const at::Tensor& token_ids(const Batch& batch) {
  const at::Tensor* ids = find_input(batch, "input_ids");
  return ids != nullptr ? *ids : batch.inputs.front();
}

std::vector<at::Tensor> arrange_inputs(const Batch& batch, const ModelSignature& signature) {
  const std::size_t kept = signature.past.shapes.size();
  if (kept > 0 && batch.inputs.size() + kept == signature.names.size()) {
    ModelSignature rest = signature;
    rest.names.resize(batch.inputs.size());
    rest.required = batch.inputs.size();
    rest.past = {};
    std::vector<at::Tensor> arranged = arrange_inputs(batch, rest);
    for (auto& tensor : empty_past(signature.past, arranged.front().size(0))) {
      arranged.push_back(std::move(tensor));
    }
    return arranged;
  }
  if (const auto name = input_of_labels(batch, signature)) {
    Batch whole = batch;
    whole.names.push_back(*name);
    whole.inputs.push_back(at::tensor(batch.labels, at::kLong));
    return arrange_inputs(whole, signature);
  }
  if (const auto longer = with_whole_list(batch, signature)) return arrange_inputs(batch, *longer);
  if (signature.past.codes) {
    ModelSignature plain = signature;
    plain.past = {};
    std::vector<at::Tensor> arranged = arrange_inputs(batch, plain);
    for (std::size_t i = arranged.size() - std::min(kept, arranged.size()); i < arranged.size();
         ++i) {
      if (arranged[i].is_floating_point()) arranged[i] = cache_codes(arranged[i]);
    }
    return arranged;
  }
  const std::size_t given = batch.inputs.size();
  if (given < signature.required || given > signature.names.size() || given == 0) {
    fail(batch, signature);
  }
  // One array may have any name, but a stream of token ids must not pass for samples.
  if (given == 1 && !batch.names.empty() && batch.names[0] != signature.names[0] &&
      batch.inputs[0].dim() == 1 &&
      at::isIntegralType(batch.inputs[0].scalar_type(), /*includeBool=*/false)) {
    internal::fail_stream(ErrorKind::kUsage, batch.names[0]);
  }
  if (given == 1 || batch.names.empty()) return batch.inputs;

  // Only a leading run of inputs can be given: those left out take their defaults.
  std::vector<at::Tensor> arranged;
  for (std::size_t i = 0; i < given; ++i) {
    const auto found = std::find(batch.names.begin(), batch.names.end(), signature.names[i]);
    if (found == batch.names.end()) fail(batch, signature);
    arranged.push_back(batch.inputs[static_cast<std::size_t>(found - batch.names.begin())]);
  }
  return arranged;
}

}  // namespace repquant
