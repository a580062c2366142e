#include "evaluate/explain_failure.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>

#include "base/list_text.h"
#include "base/text_table.h"
#include "tensor/samples.h"
#include "tensor/shape_text.h"

namespace repquant {
namespace {

using Inputs = std::vector<at::Tensor>;
using Runs = std::function<bool(const Inputs&)>;

constexpr std::int64_t kMostSamples = 16;  // that are tried

bool holds_ids(const at::Tensor& tensor) {
  return tensor.dim() == 2 && at::isIntegralType(tensor.scalar_type(), /*includeBool=*/false);
}

/// The inputs with no id but 0 and 1: masks stay as they are.
Inputs with_small_ids(const Inputs& inputs) {
  Inputs changed(inputs);
  for (at::Tensor& tensor : changed) {
    if (holds_ids(tensor)) tensor = tensor.clamp(0, 1);
  }
  return changed;
}

/// Ids and masks of at most this many tokens. Numbers are a mask if there are `longest` of them.
Inputs shortened(const Inputs& inputs, std::int64_t longest, std::int64_t length) {
  Inputs changed(inputs);
  for (at::Tensor& tensor : changed) {
    if (tensor.dim() != 2 || (tensor.is_floating_point() && tensor.size(1) != longest)) continue;
    tensor = tensor.slice(1, 0, length).contiguous();
  }
  return changed;
}

/// Ids and masks of just this many tokens: the last one again where there are fewer.
Inputs of_length(const Inputs& inputs, std::int64_t length) {
  Inputs changed(inputs);
  for (at::Tensor& tensor : changed) {
    if (tensor.dim() != 2 || tensor.size(1) == 0) continue;
    tensor = tensor.index_select(1, at::arange(length).clamp_max(tensor.size(1) - 1));
  }
  return changed;
}

/// The largest length below `longest` that runs; 0 if 1 does not.
std::int64_t context_length(const Inputs& inputs, std::int64_t longest, const Runs& runs) {
  std::int64_t good = 0, bad = longest;
  for (std::int64_t length = 1; bad - good > 1; length = (good + bad) / 2) {
    (runs(shortened(inputs, longest, length)) ? good : bad) = length;
    if (good == 0) return 0;
  }
  return good;
}

bool differ_in_length(const Inputs& inputs) {
  std::set<std::int64_t> lengths;
  for (const at::Tensor& tensor : inputs) {
    if (tensor.dim() == 2) lengths.insert(tensor.size(1));
  }
  return lengths.size() > 1;
}

std::string name_of(const std::vector<std::string>& names, std::size_t input) {
  return input < names.size() ? names[input] : "input " + std::to_string(input);
}

/// "input_ids [8, 5], attention_mask [8, 4]", of those with two dimensions.
std::string lengths_text(const Inputs& inputs, const std::vector<std::string>& names) {
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].dim() == 2)
      parts.push_back(name_of(names, i) + " " + shape_text(inputs[i].sizes()));
  }
  return list_text(parts);
}

/// Of `longest` tokens; nothing if their number is not the cause.
ErrorParts explain_length(const Inputs& inputs, const std::vector<std::string>& names,
                          std::int64_t longest, const Runs& runs) {
  const std::int64_t context = context_length(inputs, longest, runs);
  // Inputs that must be alike run, too, when they are cut to the shortest one.
  const std::int64_t alike = context > 0 ? context + 1 : longest;
  if (differ_in_length(inputs) && runs(of_length(inputs, alike))) {
    return {.what = "the inputs differ in their number of tokens",
            .expected = "as many in each: a mask is as long as its ids",
            .got = lengths_text(inputs, names),
            .hint = "pad or cut the arrays to the same length"};
  }
  if (context == 0) return {};
  return {.what = "the samples are longer than the context of the model",
          .expected = "at most " + counted(context, "id") + " in a sample",
          .got = std::to_string(longest),
          .hint = "cut the ids shorter, a stream of them with `window=" + std::to_string(context) +
                  "`"};
}

/// The inputs with the first two dimensions exchanged of those in `chosen`.
Inputs transposed(const Inputs& inputs, const std::vector<std::size_t>& chosen) {
  Inputs changed(inputs);
  for (const std::size_t input : chosen) {
    changed[input] = changed[input].transpose(0, 1).contiguous();
  }
  return changed;
}

/// The inputs whose second dimension the model takes for the samples; none if it does not run so.
std::vector<std::size_t> find_samples_second(const Inputs& inputs, const Runs& runs) {
  constexpr std::size_t kMostInputs = 4;  // of which each choice is tried
  std::vector<std::size_t> all;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].dim() > 1) all.push_back(i);
  }
  const std::size_t choices = all.size() > kMostInputs ? 2 : std::size_t{1} << all.size();
  for (std::size_t left_out = 0; left_out + 1 < choices; ++left_out) {
    std::vector<std::size_t> chosen;
    for (std::size_t bit = 0; bit < all.size(); ++bit) {
      if ((left_out >> bit & 1U) == 0) chosen.push_back(all[bit]);
    }
    // Of any number, so that no other size of the model is taken for the samples.
    const bool any_number = runs(transposed(repeated_samples(inputs, 2), chosen)) &&
                            runs(transposed(repeated_samples(inputs, 3), chosen));
    if (any_number) return chosen;
  }
  return {};
}

bool has_samples(const at::Tensor& tensor) { return tensor.dim() > 0 && tensor.size(0) > 0; }

}  // namespace

ErrorParts samples_second(const std::vector<std::string>& inputs) {
  const std::string all = list_text(inputs);
  return {.what =
              "the model takes the samples in the second dimension of its inputs, not in the "
              "first",
          .expected = "inputs [samples, length, ...], and outputs alike",
          .got = "[length, samples, ...] of " + all,
          .hint =
              "export it in a module whose forward() transposes them and the outputs, as "
              "docs/data.md shows"};
}

ErrorParts explain_failure(const Inputs& inputs, const std::vector<std::string>& names,
                           const Runs& runs) {
  std::int64_t longest = 0, smallest = 0, largest = 0;
  bool ids = false;
  for (const at::Tensor& tensor : inputs) {
    if (tensor.dim() != 2 || tensor.is_floating_point() || tensor.numel() == 0) continue;
    longest = std::max(longest, tensor.size(1));
    if (!holds_ids(tensor)) continue;
    ids = true;
    smallest = std::min(smallest, tensor.min().item<std::int64_t>());
    largest = std::max(largest, tensor.max().item<std::int64_t>());
  }
  const Inputs small = with_small_ids(inputs);
  if ((smallest < 0 || largest > 1) && runs(small)) {
    return {.what = "a token id lies outside the vocabulary of the model",
            .got = smallest < 0 ? "ids from " + std::to_string(smallest)
                                : "ids up to " + std::to_string(largest),
            .hint = "tokenize the text with the model's own tokenizer (scripts/tokenize_text.py)"};
  }
  if (ids && longest > 1) {
    ErrorParts parts = explain_length(small, names, longest, runs);
    if (!parts.what.empty()) return parts;
  }
  const bool batched = !inputs.empty() && std::all_of(inputs.begin(), inputs.end(), has_samples);
  const std::int64_t samples = batched ? inputs.front().size(0) : 0;
  for (std::int64_t count = 1; batched && count <= kMostSamples; ++count) {
    if (count == samples || !runs(repeated_samples(inputs, count))) continue;
    return {.what = "the model takes " + (count == 1 ? "one sample" : counted(count, "sample")) +
                    " at a time",
            .expected = counted(count, "sample") + " in a pass",
            .got = std::to_string(samples),
            .hint = "use `batch_size=" + std::to_string(count) + "`" +
                    (count > 1 ? " and that many samples or a multiple" : "") +
                    ", or export it for any number of samples"};
  }
  if (!batched) return {};
  std::vector<std::string> second;
  for (const std::size_t input : find_samples_second(inputs, runs)) {
    second.push_back(name_of(names, input));
  }
  return second.empty() ? ErrorParts{} : samples_second(second);
}

}  // namespace repquant
