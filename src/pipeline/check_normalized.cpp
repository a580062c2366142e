#include "pipeline/check_normalized.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "base/text_table.h"
#include "evaluate/loaded_model.h"
#include "repquant/error.h"
#include "tensor/deviation.h"

namespace repquant {
namespace {

constexpr double kLargestDeviation = 1e-3;

/// The largest difference over the largest value of a floating-point output, where both are finite;
/// of others the share of elements that differ beyond the first one, which may be a tie.
double deviation_of(const at::Tensor& actual, const at::Tensor& expected) {
  if (!actual.sizes().equals(expected.sizes())) return 1.0;
  if (expected.numel() == 0) return 0.0;
  if (expected.is_complex() && actual.is_complex()) {
    return deviation_of(as_reals(actual), as_reals(expected));
  }
  if (!expected.is_floating_point()) {
    const auto unequal = (actual != expected).sum().item<std::int64_t>();
    return static_cast<double>(std::max<std::int64_t>(unequal - 1, 0)) /
           static_cast<double>(expected.numel());
  }
  const at::Tensor finite = at::isfinite(expected);
  if (!at::equal(finite, at::isfinite(actual))) return 1.0;
  if (!finite.any().item<bool>()) {
    throw Error(ErrorKind::kNumerical,
                {.what = "an output of the model holds no finite number",
                 .hint = "check the data and its preprocessing, and the model itself"});
  }
  const at::Tensor wanted = expected.masked_select(finite).to(at::kDouble);
  const double largest = wanted.abs().max().item<double>();
  const double difference =
      (actual.masked_select(finite).to(at::kDouble) - wanted).abs().max().item<double>();
  return difference / std::max(largest, 1e-30);
}

double largest_deviation(const std::vector<at::Tensor>& actual,
                         const std::vector<at::Tensor>& expected) {
  double deviation = actual.size() == expected.size() ? 0.0 : 1.0;
  for (std::size_t i = 0; i < std::min(actual.size(), expected.size()); ++i) {
    deviation = std::max(deviation, deviation_of(actual[i], expected[i]));
  }
  return deviation;
}

/// Throws Error kUnsupported if two passes on the same samples differ.
void check_not_random(const LoadedModel& original, const std::vector<at::Tensor>& batch,
                      const std::vector<at::Tensor>& expected) {
  const std::vector<at::Tensor> again = original.outputs(batch);
  const bool equal =
      std::equal(again.begin(), again.end(), expected.begin(), expected.end(),
                 [](const at::Tensor& a, const at::Tensor& b) {
                   return a.sizes().equals(b.sizes()) &&
                          at::allclose(as_reals(a).to(at::kDouble), as_reals(b).to(at::kDouble),
                                       1e-5, 1e-8, true);
                 });
  if (equal) return;
  throw Error(ErrorKind::kUnsupported,
              {.what = "the model is random: two passes on the same samples differ",
               .where = original.path(),
               .hint = "export it after model.eval(), without random numbers in forward()"});
}

/// For outputs that differ from those of the file: frozen by LibTorch, with its inputs a rounding
/// away, the file itself may differ as much, as where equal scores are sorted. Returns how much the
/// graph differs from the frozen file. Throws Error kUnsupported if no comparison says anything.
double check_against_frozen(const Model& model, const std::vector<at::Tensor>& batch,
                            const std::vector<at::Tensor>& expected,
                            const std::vector<at::Tensor>& actual) {
  LoadedModel frozen({model.path, Form::kPortable}, *model.module);
  if (!frozen.freeze()) return largest_deviation(actual, expected);
  const std::vector<at::Tensor> given = frozen.outputs(batch);
  const double deviation = largest_deviation(actual, given);
  if (deviation <= kLargestDeviation) return deviation;
  std::vector<at::Tensor> rounded;
  for (const at::Tensor& input : batch) {
    rounded.push_back(input.is_floating_point() ? input * (1.0 + 0x1p-23) : input);
  }
  const double by_rounding = std::max(largest_deviation(given, expected),
                                      largest_deviation(frozen.outputs(rounded), given));
  if (by_rounding <= kLargestDeviation) return deviation;
  throw Error(ErrorKind::kUnsupported,
              {.what = "the model's outputs hang on the last bit of its values",
               .where = model.path,
               .expected = "outputs that freezing the file and rounding its inputs change by at "
                           "most " +
                           format_significant(kLargestDeviation, 1) + " of the largest",
               .got = format_significant(by_rounding, 2),
               .hint = "a choice among values that are equal (topk, sort, argmax), or rounding of "
                       "large numbers, is in its way: export the part in front of it"});
}

}  // namespace

bool are_the_same(const std::vector<at::Tensor>& actual, const std::vector<at::Tensor>& expected) {
  return largest_deviation(actual, expected) <= kLargestDeviation;
}

ObservedRun check_normalized(const Model& model, const std::vector<at::Tensor>& batch) {
  at::NoGradGuard no_grad;
  const LoadedModel original({model.path, Form::kPortable}, *model.module);
  const std::vector<at::Tensor> expected = original.outputs(batch);
  ObservedRun run = observe(model, batch);
  double deviation = largest_deviation(run.outputs, expected);
  if (!(deviation <= kLargestDeviation)) {
    check_not_random(original, batch, expected);
    deviation = check_against_frozen(model, batch, expected, run.outputs);
  }
  if (!(deviation <= kLargestDeviation)) {
    if (model.doubt) throw Error(model.doubt->kind(), model.doubt->parts());
    throw Error(ErrorKind::kInternal,
                {.what = "the normalised graph computes something else than the model",
                 .where = model.path,
                 .expected = "outputs equal to " + format_significant(kLargestDeviation, 1) +
                             " of the largest",
                 .got = format_significant(deviation, 2),
                 .hint = "please report the model; another export (trace or script) may work"});
  }
  return run;
}

}  // namespace repquant
