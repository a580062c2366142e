#include "fit/linear_input.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <sstream>
#include <vector>

#include "base/text_table.h"
#include "fit/column_pairs.h"
#include "fit/head_room.h"
#include "fit/linear_weight.h"
#include "fit/rows.h"
#include "fit/token_input.h"
#include "gptq/gptq.h"
#include "plan/simulate.h"
#include "quantizer/affine.h"
#include "quantizer/dual_clipping.h"
#include "quantizer/norm_fold.h"
#include "quantizer/quadratic.h"
#include "quantizer/range_search.h"
#include "quantizer/sample_rows.h"

namespace repquant {
namespace {

// A massive channel reaches higher on other data than on the calibration data.
constexpr double kMassiveHeadRoom = 1.25;

/// Rows of a site's input and the Gram matrix [K, K] of the Linears behind them; undefined, which
/// stands for the identity, where there are too many columns.
struct Rows : WeightedRows {
  at::Tensor gram;
};

at::Tensor gram_for(const LinearProblem& in) {
  return in.site->weight.size(1) > kPairColumns ? at::Tensor() : gram_of(in.readers);
}

InputQuantizer from_fold(const FoldPlan& plan) {
  InputQuantizer quantizer;
  quantizer.bits = plan.bits;
  quantizer.scale = plan.scale;
  quantizer.zero_point = plan.zero_point;
  quantizer.multiplier = (plan.ratio * plan.scale).reciprocal();
  quantizer.offset = static_cast<double>(plan.zero_point) - plan.shift / plan.scale;
  return quantizer;
}

InputQuantizer input_from(const AffineGrid& grid) {
  InputQuantizer quantizer;
  quantizer.bits = grid.bits;
  quantizer.scale = grid.scale.item<double>();
  quantizer.zero_point = static_cast<int>(std::lround(grid.zero_point.item<double>()));
  quantizer.multiplier = grid.scale.reciprocal().reshape({1});
  quantizer.offset = grid.zero_point.reshape({1}).clone();
  return quantizer;
}

InputQuantizer from_quadratic(const QuadraticGrid& grid) {
  InputQuantizer quantizer;
  quantizer.bits = grid.bits;
  quantizer.form = CodeForm::kQuadratic;
  quantizer.scale = grid.scale;
  quantizer.zero_point = grid.zero_point;
  quantizer.multiplier = at::full({1}, 1.0 / grid.scale, at::kFloat);
  quantizer.offset = at::full({1}, static_cast<double>(grid.zero_point), at::kFloat);
  return quantizer;
}

/// Padding between norm and Linear inserts true zeros, so all channels must share one zero point.
FoldPlan scale_only_plan(const Bounds& range, int bits) {
  const int max_code = (1 << bits) - 1;
  const double low = -range.lower.clamp_max(0).sum().item<double>();
  const double high = range.upper.clamp_min(0).sum().item<double>();
  const double share = low + high > 0 ? low / (low + high) : 0.5;
  const int zero = std::clamp(static_cast<int>(std::lround(share * max_code)), 1, max_code - 1);
  const auto scale = at::maximum(range.upper / static_cast<double>(max_code - zero),
                                 -range.lower / static_cast<double>(zero))
                         .clamp_min(1e-8);
  AffineGrid grid;
  grid.bits = bits;
  grid.scale = scale;
  grid.zero_point = at::full_like(scale, static_cast<double>(zero));
  return plan_scale_fold(grid, zero);
}

bool wants_quadratic(const LinearProblem& in, const InputRecipe& recipe) {
  if (in.site->source != InputSource::kGelu || in.activation_bits > 4) return false;
  return recipe.gelu_grid != GeluGrid::kUniform;
}

/// Columns that get their own 8-bit block; their main column is zero from here on.
SideColumns fit_side(const at::Tensor& x, const LinearProblem& in, const Recipe& recipe) {
  SideColumns side;
  side.bits = recipe.input.massive_bits;
  const auto [low, high] = at::aminmax(x, 0);
  const auto absmax = at::maximum(low.abs(), high.abs());
  side.channels = massive_channels(absmax, recipe.input.massive_threshold);
  if (side.channels.empty()) return side;
  const auto index = at::tensor(side.channels, at::kLong);
  const auto grid =
      affine_grid(low.index_select(0, index).clamp_max(0) * kMassiveHeadRoom,
                  high.index_select(0, index).clamp_min(0) * kMassiveHeadRoom, side.bits);
  side.scale = grid.scale;
  side.zero_point = grid.zero_point;
  WeightRecipe nearest;
  nearest.rounding = WeightRounding::kNearest;
  nearest.scale_search = false;
  side.weight = quantize_weight(in.site->weight.index_select(1, index).contiguous(), {}, 8, nearest,
                                in.threads);
  return side;
}

/// The bounds of all values or of each channel, as the clipping of the recipe finds them.
Bounds find_bounds(const Rows& rows, const LinearProblem& in, const Recipe& recipe,
                   bool per_channel, std::int64_t max_rows) {
  const bool centred = recipe.weights.bias_correction;
  if (!per_channel) {
    SearchOptions options;
    options.max_rows = std::min(options.max_rows, max_rows);
    options.centred_error = centred;
    options.row_weights = rows.weights;
    return bounds_of(search_per_tensor(rows.x, rows.gram, in.activation_bits, options));
  }
  ClippingOptions options;
  options.max_rows = std::min(options.max_rows, max_rows);
  options.integer_zero_point = recipe.norm.integer_offsets;
  options.centred_error = centred;
  options.row_weights = rows.weights;
  const auto range =
      clip_channels(rows.x, rows.gram, in.activation_bits, recipe.norm.clipping, options);
  return {range.lower, range.upper};
}

InputQuantizer make_quantizer(const Rows& rows, const Bounds& found, const LinearProblem& in,
                              const NormRecipe& recipe, bool per_channel, double head_room) {
  const at::Tensor mean = per_channel ? rows.x.mean(0) : rows.x.mean().reshape({1});
  const Bounds bounds = widened(found, mean, head_room);
  if (!per_channel) {
    return input_from(
        affine_grid(bounds.lower.clamp_max(0), bounds.upper.clamp_min(0), in.activation_bits));
  }
  if (in.site->scale_only_fold && in.site->norm != nullptr) {
    return from_fold(scale_only_plan(bounds, in.activation_bits));
  }
  const Bounds steps = with_reproducible_steps(bounds, in.activation_bits);
  const auto grid =
      affine_grid(steps.lower, steps.upper, in.activation_bits, recipe.integer_offsets);
  return from_fold(recipe.fold_exponent == 1.0
                       ? plan_fold(grid)
                       : search_fold(grid, recipe.fold_exponent, rows.x, rows.gram));
}

/// Error of the layer's output, activation and weight both quantized to nearest, on sample rows.
double joint_error(const Rows& rows, const LinearProblem& in, const InputQuantizer& quantizer,
                   const WeightRecipe& recipe) {
  const auto sample = sample_rows(rows.x, 512, rows.weights);
  const auto folded = folded_linear(in.site->weight, in.site->bias, fold_of(quantizer));
  LinearPlan plan;
  plan.input = quantizer;
  WeightRecipe nearest = weight_recipe(recipe, &quantizer);
  nearest.rounding = WeightRounding::kNearest;
  plan.weight = quantize_weight(folded.weight, {}, in.weight_bits, nearest, in.threads);
  plan.bias = folded.bias;
  const auto target = at::matmul(sample, in.site->weight.t());
  auto error = simulate_linear(plan, sample) - target;
  if (recipe.bias_correction || in.site->bias.defined()) error -= error.mean(0);
  return error.square().sum(at::kDouble).item<double>();
}

/// Error of the layer's output from quantizing its input alone, on sample rows.
double input_error(const Rows& rows, const InputQuantizer& quantizer, bool centred) {
  constexpr std::int64_t kRows = 512;
  const at::Tensor x = sample_rows(rows.x, kRows, rows.weights);
  return output_error(x, fake_quantize(x, quantizer), rows.gram, centred);
}

/// One form of the grid, fitted on each half of the rows and judged on the other one.
class CrossValidation {
 public:
  CrossValidation(const Rows& rows, const LinearProblem& in, const Recipe& recipe, bool per_channel)
      : in_(in), recipe_(recipe), per_channel_(per_channel) {
    constexpr std::int64_t kRows = 512;  // for a range that is only judged
    for (const WeightedRows& half : halves_of(rows)) halves_.push_back({half, rows.gram});
    for (const Rows& half : halves_) {
      bounds_.push_back(find_bounds(half, in, recipe, per_channel, kRows));
    }
    if (halves_.empty() || !recipe.input.head_room) return;
    head_room_ = choose_head_room([&](double factor) {
      return sum(
          [&](const Rows& other, const InputQuantizer& quantizer) {
            return input_error(other, quantizer, recipe.weights.bias_correction);
          },
          factor);
    });
  }

  double head_room() const { return head_room_; }

  /// With the weight quantized too.
  double error() const {
    return sum(
        [&](const Rows& other, const InputQuantizer& quantizer) {
          return joint_error(other, in_, quantizer, recipe_.weights);
        },
        head_room_);
  }

 private:
  template <typename Error>
  double sum(const Error& error, double factor) const {
    double total = 0.0;
    for (std::size_t i = 0; i < halves_.size(); ++i) {
      total += error(halves_[1 - i], make_quantizer(halves_[i], bounds_[i], in_, recipe_.norm,
                                                    per_channel_, factor));
    }
    return total;
  }

  const LinearProblem& in_;
  const Recipe& recipe_;
  bool per_channel_;
  std::vector<Rows> halves_;
  std::vector<Bounds> bounds_;
  double head_room_ = 1.0;
};

InputQuantizer fit_form(const Rows& rows, const LinearProblem& in, const Recipe& recipe,
                        bool per_channel, double head_room, std::string& note) {
  if (head_room > 1.0) note += "; head room " + format_number(head_room, 2);
  const Bounds bounds =
      find_bounds(rows, in, recipe, per_channel, std::numeric_limits<std::int64_t>::max());
  return make_quantizer(rows, bounds, in, recipe.norm, per_channel, head_room);
}

/// What a comparison of both granularities gave; `ratio`: error per channel / error per tensor.
std::string describe_choice(double ratio) {
  std::ostringstream text;
  text.precision(2);
  text << "; error per channel / per tensor " << std::fixed << ratio;
  return text.str();
}

}  // namespace

FittedInput fit_linear_input(const WeightedRows& all, const LinearProblem& in,
                             const Recipe& recipe) {
  FittedInput fitted;
  const bool from_norm = in.site->source == InputSource::kNorm || in.site->norm != nullptr;
  auto granularity = from_norm ? recipe.norm.granularity : recipe.input.granularity;
  // Codes are made before windows are taken: no row has a grid of its own there.
  if (granularity == InputGranularity::kPerToken && in.site->windows == nullptr) {
    fitted.quantizer = fit_token_input(all, in, recipe.input.group_size);
    return fitted;
  }
  // Nothing can be folded into codes that stay, and codes are made before windows are taken.
  const bool one_grid = in.one_grid || in.rounded != nullptr || in.site->windows != nullptr;
  if (one_grid) granularity = InputGranularity::kPerTensor;
  // Where no norm can carry the vectors they cost a pass of their own: only if they pay.
  const bool at_run_time = from_norm && in.site->norm == nullptr;
  if (at_run_time && granularity == InputGranularity::kPerChannel) {
    granularity = InputGranularity::kAuto;
  }
  const bool quadratic = wants_quadratic(in, recipe.input);
  Rows rows{all, gram_for(in)};
  if (granularity == InputGranularity::kPerChannel && !quadratic) {
    const CrossValidation channels(rows, in, recipe, true);
    fitted.quantizer = fit_form(rows, in, recipe, true, channels.head_room(), fitted.note);
    return fitted;
  }
  if (!from_norm && !one_grid && !in.site->of_patches) {
    fitted.side = fit_side(all.x, in, recipe);
  }
  const bool has_side = !fitted.side.channels.empty();
  if (has_side) {
    rows.x = without_channels(rows.x, fitted.side.channels);
    if (rows.gram.defined()) {
      rows.gram = without_channels(without_channels(rows.gram, fitted.side.channels).t(),
                                   fitted.side.channels);
    }
  }
  if (quadratic) {
    SearchOptions options;
    options.centred_error = recipe.weights.bias_correction;
    options.row_weights = rows.weights;
    fitted.quantizer =
        from_quadratic(search_quadratic(rows.x, rows.gram, in.activation_bits, options));
    return fitted;
  }
  const CrossValidation whole(rows, in, recipe, false);
  if (granularity != InputGranularity::kAuto || has_side) {
    fitted.quantizer = fit_form(rows, in, recipe, false, whole.head_room(), fitted.note);
    return fitted;
  }
  const CrossValidation channels(rows, in, recipe, true);
  const double ratio = channels.error() / whole.error();
  fitted.note = describe_choice(ratio);
  const bool per_channel = ratio < 1.0;
  fitted.quantizer = fit_form(rows, in, recipe, per_channel,
                              (per_channel ? channels : whole).head_room(), fitted.note);
  return fitted;
}

}  // namespace repquant
