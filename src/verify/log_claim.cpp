#include "verify/log_claim.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/text_table.h"
#include "quantizer/log.h"

namespace repquant {
namespace {

/// float32 arithmetic of one product and one power of two.
constexpr double kLargestDeviation = 1e-5;

LogGrid grid_of(const StoredState& state) {
  return {.bits = static_cast<int>(state.integer("bits")),
          .steps_per_octave = state.number("steps_per_octave"),
          .zero_code = state.flag("zero_code"),
          .u8_table = state.flag("u8_table")};
}

/// Of all codes, in double: [2^bits]; with a u8 table 255 times as large, as integers.
at::Tensor exact_weights(const LogGrid& grid) {
  const at::Tensor codes = at::arange(grid.max_code() + 1, at::kDouble);
  at::Tensor weights = at::exp2(-codes / grid.steps_per_octave);
  if (grid.u8_table) weights = at::round(255.0 * weights);
  if (grid.zero_code) weights[grid.max_code()] = 0.0;
  return weights;
}

/// What the submodule's own code makes of scores that fall on each code: [.., 2^bits].
at::Tensor own_weights(const torch::jit::Module& module, const StoredState& state,
                       const LogGrid& grid) {
  const at::Tensor codes = at::arange(grid.max_code() + 1, at::kDouble);
  const at::Tensor scores = (-codes / state.tensor("factor").to(at::kDouble)).to(at::kFloat);
  return module.get_method("weights")({scores.view({-1, 1, codes.numel()}), 1.0}).toTensor();
}

double relative_deviation(const at::Tensor& got, const at::Tensor& exact) {
  const at::Tensor difference = (got.to(at::kDouble) - exact).abs();
  const at::Tensor zero = exact.eq(0.0);
  return at::where(zero, difference, difference / exact.masked_fill(zero, 1.0))
      .max()
      .item<double>();
}

/// 2^-K (even + sqrt 2 odd) against the powers themselves.
double parity_deviation(const LogGrid& grid) {
  const ParitySplit split = split_by_parity(at::arange(grid.max_code() + 1), grid);
  const at::Tensor sum =
      (split.even.to(at::kDouble) + std::numbers::sqrt2 * split.odd.to(at::kDouble)) *
      std::exp2(-split.shift);
  return relative_deviation(sum, exact_weights(grid));
}

void check_deviation(const std::string& module, const std::string& what, double deviation) {
  if (deviation <= kLargestDeviation) return;
  refute("the softmax weights of " + module + " differ from " + what + " by " +
         format_scientific(deviation) + ", more than " + format_scientific(kLargestDeviation));
}

}  // namespace

std::string look_at_log_grids(const Subject& subject) {
  const at::NoGradGuard no_grad;
  std::size_t grids = 0, split = 0;
  double largest = 0.0, largest_split = 0.0;
  for (const auto& [name, state] : subject.stored) {
    if (state.kind != "Attend" || state.flag("uniform")) continue;
    const LogGrid grid = grid_of(state);
    const at::Tensor factor = state.tensor("factor");
    // Without the row's maximum the scores do not fall on codes; a model may scale them by zero.
    if (!state.flag("row_maximum") || grid.bits < 2 || !factor.gt(0).all().item<bool>()) continue;
    const double deviation =
        relative_deviation(own_weights(subject.forms.portable.attr(name).toModule(), state, grid),
                           exact_weights(grid));
    check_deviation(name, "the powers that their codes stand for", deviation);
    ++grids;
    largest = std::max(largest, deviation);
    if (grid.steps_per_octave != 2.0 || grid.u8_table) continue;
    const double parts = parity_deviation(grid);
    check_deviation(name, "sums of two powers of two", parts);
    ++split;
    largest_split = std::max(largest_split, parts);
  }
  if (grids == 0) return "no softmax has a logarithmic grid";
  std::string text = "the weights of all codes of " + counted(grids, "softmax grid") +
                     " are the powers they stand for to " + format_scientific(largest);
  if (split > 0) {
    text += ", and sums of two powers of two (" + std::to_string(split) + ") to " +
            format_scientific(largest_split);
  }
  return text + " (limit " + format_scientific(kLargestDeviation) + ")";
}

}  // namespace repquant
