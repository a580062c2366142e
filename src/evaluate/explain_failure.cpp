#include "evaluate/explain_failure.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>

#include "base/text_table.h"
#include "tensor/samples.h"

namespace repquant {
namespace {

using Inputs = std::vector<at::Tensor>;

constexpr std::int64_t kMostSamples = 16;  // that are tried

bool holds_ids(const at::Tensor& tensor) {
  return tensor.dim() == 2 && at::isIntegralType(tensor.scalar_type(), /*includeBool=*/false);
}

template <class Change>
Inputs with_ids(const Inputs& inputs, const Change& change) {
  Inputs changed(inputs);
  for (at::Tensor& tensor : changed) {
    if (holds_ids(tensor)) tensor = change(tensor);
  }
  return changed;
}

/// The inputs with no id above 1: masks stay as they are.
Inputs with_small_ids(const Inputs& inputs) {
  return with_ids(inputs, [](const at::Tensor& ids) { return ids.clamp_max(1); });
}

Inputs shortened(const Inputs& inputs, std::int64_t length) {
  return with_ids(inputs,
                  [length](const at::Tensor& ids) { return ids.slice(1, 0, length).contiguous(); });
}

/// The largest length below `longest` that runs; 0 if 1 does not.
std::int64_t context_length(const Inputs& inputs, std::int64_t longest,
                            const std::function<bool(const Inputs&)>& runs) {
  std::int64_t good = 0, bad = longest;
  for (std::int64_t length = 1; bad - good > 1; length = (good + bad) / 2) {
    (runs(shortened(inputs, length)) ? good : bad) = length;
    if (good == 0) return 0;
  }
  return good;
}

bool has_samples(const at::Tensor& tensor) { return tensor.dim() > 0 && tensor.size(0) > 0; }

}  // namespace

ErrorParts explain_failure(const Inputs& inputs, const std::function<bool(const Inputs&)>& runs) {
  std::int64_t longest = 0, largest = 0;
  for (const at::Tensor& tensor : inputs) {
    if (!holds_ids(tensor) || tensor.numel() == 0) continue;
    longest = std::max(longest, tensor.size(1));
    largest = std::max(largest, tensor.max().item<std::int64_t>());
  }
  if (largest > 1 && runs(with_small_ids(inputs))) {
    return {.what = "a token id lies outside the vocabulary of the model",
            .got = "ids up to " + std::to_string(largest),
            .hint = "tokenize the text with the model's own tokenizer (scripts/tokenize_text.py)"};
  }
  if (longest > 1) {
    const std::int64_t context = context_length(with_small_ids(inputs), longest, runs);
    if (context > 0) {
      return {.what = "the samples are longer than the context of the model",
              .expected = "at most " + counted(context, "id") + " in a sample",
              .got = std::to_string(longest),
              .hint = "cut the ids shorter, a stream of them with `window=" +
                      std::to_string(context) + "`"};
    }
  }
  const bool batched = !inputs.empty() && std::all_of(inputs.begin(), inputs.end(), has_samples);
  const std::int64_t samples = batched ? inputs.front().size(0) : 0;
  for (std::int64_t count = 1; batched && count <= kMostSamples; ++count) {
    if (count == samples || !runs(repeated_samples(inputs, count))) continue;
    return {.what = "the model takes " + (count == 1 ? "one sample" : counted(count, "sample")) +
                    " at a time",
            .expected = counted(count, "sample") + " in a pass",
            .got = std::to_string(samples),
            .hint = "use `batch_size=" + std::to_string(count) +
                    "`, or export it for any number of samples"};
  }
  return {};
}

}  // namespace repquant
