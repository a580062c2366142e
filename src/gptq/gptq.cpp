#include "gptq/gptq.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "gptq/codebook.h"
#include "gptq/row_scale.h"
#include "tensor/check.h"
#include "tensor/parallel.h"
#include "tensor/random_projection.h"
#include "tensor/simd.h"

namespace repquant {
namespace {

// Rows are independent given the Hessian; a chunk of this many is one item of parallel work. Fixed,
// so that results do not depend on the number of threads.
constexpr std::int64_t kChunkRows = 64;
constexpr int kDampingRaises = 3;
constexpr int kGroupRounds = 3;

// The Hessian prepared for the column loop.
struct Factor {
  at::Tensor order;    // int64 [K]: position in the loop -> column
  at::Tensor inverse;  // float32 [K, K] upper triangular U with (H + damping)^-1 = U^T U
  at::Tensor sketch;   // float32 [K, r]: |dW sketch|^2 is tr(dW (H + damping) dW^T) on average; or
                       // undefined
};

// Columns that (almost) never vary in the calibration data. They get no error and pass none on.
at::Tensor dead_columns(const at::Tensor& hessian) {
  const at::Tensor diagonal = hessian.diagonal();
  return diagonal <= 1e-10 * diagonal.mean();
}

// [[A, B], [0, D]]^-1 = [[A^-1, -A^-1 B D^-1], [0, D^-1]]: two thirds of the arithmetic of solving
// for the identity, and matrix products, which are faster than solving.
at::Tensor inverse_of_upper(const at::Tensor& upper) {
  constexpr std::int64_t kSolved = 128;
  const std::int64_t size = upper.size(0), half = size / 2;
  if (size <= kSolved) {
    return at::linalg_solve_triangular(upper, at::eye(size, upper.options()), /*upper=*/true);
  }
  const at::Tensor first = inverse_of_upper(upper.slice(0, 0, half).slice(1, 0, half));
  const at::Tensor last = inverse_of_upper(upper.slice(0, half).slice(1, half));
  at::Tensor inverse = at::zeros_like(upper);
  inverse.slice(0, 0, half).slice(1, 0, half).copy_(first);
  inverse.slice(0, half).slice(1, half).copy_(last);
  at::Tensor corner = inverse.slice(0, 0, half).slice(1, half);
  corner.addmm_(at::mm(first, upper.slice(0, 0, half).slice(1, half)), last, 0, -1);
  return inverse;
}

// H in the order of `order`, dead columns decoupled, of a type to factorize in. Holds as few
// matrices at a time as it can: at K = 4096 one has 134 MB in double.
at::Tensor decoupled(const at::Tensor& hessian, const at::Tensor& order, at::ScalarType type) {
  at::Tensor prepared = hessian.to(type);
  prepared = prepared.index_select(0, order);
  prepared = prepared.index_select(1, order);
  const at::Tensor dead = dead_columns(hessian).index_select(0, order);
  prepared.masked_fill_(dead.unsqueeze(0), 0).masked_fill_(dead.unsqueeze(1), 0);
  const double mean = hessian.diagonal().mean().item<double>();
  prepared.diagonal().masked_fill_(dead, mean > 0 ? mean : 1.0);
  return prepared;
}

// R upper triangular with H + damping = R R^T, H in the order of `order`, dead columns decoupled.
// With J the reversal of the order, J H J = L L^T gives R = J L J, and H^-1 = U^T U (GPTQ, section
// 3.3 step 3) with U = R^-1: one factorization and one triangular inverse in the place of the usual
// three factorizations.
std::optional<at::Tensor> upper_root(const at::Tensor& hessian, const at::Tensor& order,
                                     double damping, at::ScalarType type) {
  const at::Tensor reversed = decoupled(hessian, order.flip(0), type);
  reversed.diagonal().add_(damping * reversed.diagonal().mean().item<double>());
  const at::Tensor diagonal = reversed.diagonal().clone();
  at::Tensor lower = reversed.t();  // symmetric: LAPACK's order of elements, factorized in place
  at::Tensor info = at::empty({}, at::kInt);
  at::linalg_cholesky_ex_out(lower, info, lower);
  if (info.item<int>() != 0) return std::nullopt;
  // A pivot that is rounding noise of its diagonal element, whose products are float32, carries no
  // information.
  constexpr double kLeastPivot = 1e-6;
  if (!(lower.diagonal().square() > kLeastPivot * diagonal).all().item<bool>()) return std::nullopt;
  return lower.flip({0, 1});
}

// Columns in the order of the loop, dead ones decoupled. With `sketched` errors are estimated, and
// all is computed in float32.
std::optional<Factor> factorize(const at::Tensor& hessian, const WeightRecipe& recipe,
                                double damping, bool sketched) {
  const at::Tensor order = recipe.act_order
                               ? at::argsort(hessian.diagonal(), /*stable=*/true, /*dim=*/0,
                                             /*descending=*/true)
                               : at::arange(hessian.size(0), at::kLong);
  const std::optional<at::Tensor> upper =
      upper_root(hessian, order, damping, sketched ? at::kFloat : at::kDouble);
  if (!upper) return std::nullopt;
  Factor factor{order, inverse_of_upper(*upper).to(at::kFloat).contiguous(), at::Tensor()};
  if (!at::isfinite(factor.inverse).all().item<bool>()) return std::nullopt;
  if (!sketched) return factor;
  const at::Tensor sketch = at::mm(*upper, random_projection(upper->size(0), kProjections));
  factor.sketch = at::empty_like(sketch).index_copy_(0, order, sketch);
  factor.sketch.masked_fill_(dead_columns(hessian).unsqueeze(1), 0);
  return factor;
}

// target -= coefficient * source over a run of rows.
REPQUANT_SIMD void subtract_scaled(float* target, const float* source, float coefficient,
                                   std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) target[i] -= coefficient * source[i];
}

// Columns [from, to) of group g; one group holds a scale for each row.
struct Groups {
  std::int64_t columns;
  std::int64_t size;

  std::int64_t count() const { return (columns + size - 1) / size; }
  std::int64_t from(std::int64_t g) const { return g * size; }
  std::int64_t to(std::int64_t g) const { return std::min(columns, (g + 1) * size); }
  /// [R, G] -> [R, K]
  at::Tensor spread(const at::Tensor& scale) const {
    return scale.repeat_interleave(size, 1).slice(1, 0, columns);
  }
};

// Rounds one column of all rows; error = (w - w^) / U_jj.
REPQUANT_SIMD void round_column(const float* w, const float* scale, const WeightCodes& allowed,
                                float inverse_d, float* codes, float* error, std::int64_t rows) {
  for (std::int64_t i = 0; i < rows; ++i) error[i] = w[i] / scale[i];
  nearest_lanes(allowed, error, codes, rows);
  for (std::int64_t i = 0; i < rows; ++i) error[i] = (w[i] - scale[i] * codes[i]) * inverse_d;
}

// The column loop on a chunk of rows. weight is W^T [K, R] in loop order and is used up, so that a
// column of all rows is contiguous; scale [K, R] likewise. Group scales are fixed before the loop,
// so that columns may come in any order. Returns codes [K, R], float, in loop order.
at::Tensor round_columns(const at::Tensor& weight, const at::Tensor& inverse,
                         const at::Tensor& scale, const WeightCodes& allowed,
                         std::int64_t block_size) {
  const std::int64_t columns = weight.size(0);
  const std::int64_t rows = weight.size(1);
  at::Tensor codes = at::empty_like(weight);
  const at::Tensor errors = at::empty({std::min(block_size, columns), rows}, at::kFloat);
  auto* w = weight.data_ptr<float>();
  auto* q = codes.data_ptr<float>();
  auto* e = errors.data_ptr<float>();
  const float* u = inverse.const_data_ptr<float>();
  const float* s = scale.const_data_ptr<float>();
  for (std::int64_t from = 0; from < columns; from += block_size) {
    const std::int64_t to = std::min(from + block_size, columns);
    for (std::int64_t j = from; j < to; ++j) {
      float* error = e + (j - from) * rows;
      round_column(w + j * rows, s + j * rows, allowed, 1.0F / u[j * columns + j], q + j * rows,
                   error, rows);
      for (std::int64_t k = j + 1; k < to; ++k) {
        subtract_scaled(w + k * rows, error, u[j * columns + k], rows);
      }
    }
    if (to < columns) {  // lazy update of all later columns
      at::Tensor later = weight.slice(0, to);
      later.addmm_(inverse.slice(0, from, to).slice(1, to).t(), errors.slice(0, 0, to - from), 1,
                   -1);
    }
  }
  return codes;
}

// dW = W - s q, float32 [R, K]; scale [R, G].
at::Tensor change_of(const at::Tensor& weight, const at::Tensor& codes, const at::Tensor& scale,
                     const Groups& groups) {
  return weight - codes * groups.spread(scale);
}

// tr(dW H dW^T) row by row, double [R], H float32 or its diagonal; plain squares without H.
at::Tensor row_errors(const at::Tensor& change, const at::Tensor& hessian) {
  if (!hessian.defined()) return change.square().sum(1, /*keepdim=*/false, at::kDouble);
  if (hessian.dim() == 1) {
    return change.square().mul_(hessian).sum(1, /*keepdim=*/false, at::kDouble);
  }
  return at::mm(change, hessian).mul_(change).sum(1, /*keepdim=*/false, at::kDouble);
}

// |dW sketch|^2.
at::Tensor estimated_errors(const at::Tensor& change, const at::Tensor& sketch) {
  return at::mm(change, sketch).square_().sum(1, /*keepdim=*/false, at::kDouble);
}

// A scale that is finite and keeps its sign.
at::Tensor is_usable(const at::Tensor& updated, const at::Tensor& old) {
  return at::isfinite(updated)
      .logical_and_(updated.abs() >= std::numeric_limits<float>::min())
      .logical_and_(updated * old > 0);
}

struct Refit {
  at::Tensor scale;  // float32 [R, G]
  at::Tensor error;  // row_errors() with it
};

// Scales that lessen (w - s q) H (w - s q)^T for the codes found, one group after the other: the
// best change of one is (w - s q) H q / q H q over the group's columns. For one group this is the
// closed form s = w H q / q H q. Kept only where it is finite and keeps its sign.
Refit refit_scale(const at::Tensor& weight, const at::Tensor& codes, const at::Tensor& scale,
                  const Groups& groups, const at::Tensor& hessian) {
  at::Tensor refit = scale.clone();
  at::Tensor gradient = at::mm(change_of(weight, codes, scale, groups), hessian);  // dW H, [R, K]
  for (std::int64_t g = 0; g < groups.count(); ++g) {
    const auto part = [&](const at::Tensor& t) { return t.slice(1, groups.from(g), groups.to(g)); };
    const auto products = [&](const at::Tensor& a) {
      return (part(a) * part(codes)).sum(1, /*keepdim=*/false, at::kDouble);
    };
    const at::Tensor weighted = at::mm(part(codes), hessian.slice(0, groups.from(g), groups.to(g)));
    const at::Tensor old = refit.select(1, g);
    const at::Tensor updated = (old + products(gradient) / products(weighted)).to(at::kFloat);
    const at::Tensor kept = at::where(is_usable(updated, old), updated, old);
    gradient.sub_(weighted * (kept - old).unsqueeze(1));
    refit.select(1, g).copy_(kept);
  }
  const at::Tensor change = change_of(weight, codes, refit, groups);
  return {refit, gradient.mul_(change).sum(1, /*keepdim=*/false, at::kDouble)};
}

// The same for one scale a row, by estimates.
Refit refit_estimated(const at::Tensor& weight, const at::Tensor& codes, const at::Tensor& scale,
                      const at::Tensor& sketch) {
  const at::Tensor error = at::mm(weight - codes * scale, sketch), seen = at::mm(codes, sketch);
  const auto along_codes = [&](const at::Tensor& x) {
    return (x * seen).sum(1, /*keepdim=*/true, at::kDouble);
  };
  const at::Tensor updated = (scale + along_codes(error) / along_codes(seen)).to(at::kFloat);
  const at::Tensor kept = at::where(is_usable(updated, scale), updated, scale);
  const at::Tensor refitted = error - seen * (kept - scale);
  return {kept, refitted.square().sum(1, /*keepdim=*/false, at::kDouble)};
}

// What is kept of a chunk of rows.
struct RowsResult {
  at::Tensor codes;  // int8 [R, K]
  at::Tensor scale;  // float32 [R, G]
  double error_nearest = 0;
  double error_kept = 0;
  bool any_gptq = false;
};

struct Problem {
  at::Tensor weight;      // float32 [N, K]
  at::Tensor hessian;     // double [K, K], its diagonal [K], or undefined
  at::Tensor single;      // float32, H for errors of rows that are not estimated; or undefined
  at::Tensor importance;  // float32 [K], diag H or ones
  std::optional<Factor> factor;
  WeightRecipe recipe;
  WeightCodes codes{};
  Groups groups{};
};

RowsResult quantize_rows(const Problem& problem, std::int64_t from, std::int64_t to) {
  const at::Tensor weight = problem.weight.slice(0, from, to);
  const std::int64_t columns = weight.size(1);
  const Groups& groups = problem.groups;
  at::Tensor scale = at::empty({to - from, groups.count()}, at::kFloat);
  at::Tensor nearest = at::empty_like(weight);
  auto* s = scale.data_ptr<float>();
  for (std::int64_t i = 0; i < to - from; ++i) {
    for (std::int64_t g = 0; g < groups.count(); ++g, ++s) {
      const std::int64_t first = groups.from(g);
      const WeightRow row{weight.const_data_ptr<float>() + i * columns + first,
                          problem.importance.const_data_ptr<float>() + first, groups.to(g) - first,
                          problem.codes};
      *s = problem.recipe.scale_search ? search_row_scale(row) : absolute_maximum_scale(row);
      nearest_codes(row, *s, nearest.data_ptr<float>() + i * columns + first);
    }
  }
  at::Tensor codes = nearest;
  const at::Tensor sketch = problem.factor ? problem.factor->sketch : at::Tensor();
  const at::Tensor change = change_of(weight, codes, scale, groups);
  const at::Tensor error_nearest =
      sketch.defined() ? estimated_errors(change, sketch) : row_errors(change, problem.single);
  RowsResult result;
  result.error_nearest = error_nearest.sum().item<double>();
  at::Tensor error = error_nearest;
  if (problem.factor) {
    const Factor& factor = *problem.factor;
    at::Tensor gptq;
    Refit refit{.scale = scale, .error = {}};
    // Group scales profit from a second rounding on the refitted scales; a row scale hardly does.
    for (int round = 0; round < (groups.count() > 1 ? kGroupRounds : 1); ++round) {
      const at::Tensor loop_codes =
          round_columns(weight.t().index_select(0, factor.order), factor.inverse,
                        groups.spread(refit.scale).t().index_select(0, factor.order), problem.codes,
                        problem.recipe.block_size);
      at::Tensor rounded = at::empty_like(codes);
      rounded.index_copy_(1, factor.order, loop_codes.t());
      Refit next = sketch.defined()
                       ? refit_estimated(weight, rounded, refit.scale, sketch)
                       : refit_scale(weight, rounded, refit.scale, groups, problem.single);
      if (round == 0) {
        gptq = rounded;
        refit = std::move(next);
        continue;
      }
      const at::Tensor better = next.error < refit.error;
      gptq = at::where(better.unsqueeze(1), rounded, gptq);
      refit.scale = at::where(better.unsqueeze(1), next.scale, refit.scale);
      refit.error = at::where(better, next.error, refit.error);
    }
    // Rows do not depend on each other, so each keeps the better of the two.
    const at::Tensor better = refit.error < error_nearest;
    codes = at::where(better.unsqueeze(1), gptq, codes);
    scale = at::where(better.unsqueeze(1), refit.scale, scale);
    error = at::where(better, refit.error, error_nearest);
    result.any_gptq = better.any().item<bool>();
  }
  result.codes = codes.to(at::kChar);
  result.scale = scale;
  result.error_kept = error.sum().item<double>();
  return result;
}

void check_arguments(const at::Tensor& weight, const at::Tensor& hessian, int bits,
                     const WeightRecipe& recipe) {
  constexpr const char* kWhere = "quantize_weight";
  require(bits >= 2 && bits <= 8, kWhere, "bits from 2 to 8");
  require(weight.dim() == 2 && weight.numel() > 0, kWhere, "a weight [N, K] that is not empty");
  require(recipe.block_size > 0 && recipe.damping >= 0 && recipe.group_size >= 0, kWhere,
          "a positive block_size, damping and group_size of at least 0");
  require_finite(weight, kWhere, "the weight");
  if (!hessian.defined()) return;
  const std::int64_t columns = weight.size(1);
  require(hessian.sizes() == at::IntArrayRef({columns, columns}) ||
              hessian.sizes() == at::IntArrayRef({columns}),
          kWhere, "a Hessian [K, K] or its diagonal [K]");
  require_finite(hessian, kWhere, "the Hessian");
}

// Factorizes with the recipe's damping, raised a bounded number of times; says what happened.
std::string prepare_factor(Problem& problem, bool sketched) {
  if (problem.recipe.rounding == WeightRounding::kNearest) return "nearest";
  if (!problem.hessian.defined()) return "nearest: no Hessian";
  if (problem.hessian.dim() == 1) return kNearestByDiagonal;
  if (!(problem.hessian.diagonal() > 0).any().item<bool>()) return "nearest: all inputs are zero";
  for (int attempt = 0; attempt <= kDampingRaises; ++attempt) {
    const double raise = std::pow(10.0, attempt);
    // A recipe without damping can only be raised from something.
    const double damping =
        attempt == 0 ? problem.recipe.damping : raise * std::max(problem.recipe.damping, 1e-4);
    problem.factor = factorize(problem.hessian, problem.recipe, damping, sketched);
    if (!problem.factor) continue;
    if (attempt == 0) return "gptq";
    return "gptq, damping x" + std::to_string(static_cast<int>(raise));
  }
  return "nearest: the Hessian could not be factorized";
}

}  // namespace

at::Tensor QuantizedWeight::element_scale() const {
  return group_size == 0 ? scale.unsqueeze(1) : Groups{codes.size(1), group_size}.spread(scale);
}

at::Tensor QuantizedWeight::dequantize() const {
  return codes.to(at::kFloat).mul_(element_scale());
}

at::Tensor QuantizedWeight::numbered() const {
  if (!levels.defined()) return codes;
  const auto* level = levels.const_data_ptr<std::int8_t>();
  at::Tensor number = at::zeros({256}, at::kChar);  // at level + 128
  for (std::int64_t i = levels.numel(); i-- > 0;) {
    number[level[i] + 128] = i - levels.numel() / 2;
  }
  return number.index_select(0, codes.flatten().to(at::kLong) + 128).view_as(codes);
}

QuantizedWeight quantize_weight(const at::Tensor& weight, const at::Tensor& hessian, int bits,
                                const WeightRecipe& recipe, int threads) {
  check_arguments(weight, hessian, bits, recipe);
  Problem problem;
  problem.weight = weight.to(at::kFloat).contiguous();
  problem.recipe = recipe;
  const bool grouped = recipe.group_size > 0 && recipe.group_size < weight.size(1);
  problem.groups = {weight.size(1), grouped ? recipe.group_size : weight.size(1)};
  problem.codes = weight_codes(bits, grouped);
  const std::int64_t rows = weight.size(0);
  const std::int64_t chunks = (rows + kChunkRows - 1) / kChunkRows;
  std::vector<RowsResult> results(static_cast<std::size_t>(chunks));
  QuantizedWeight quantized;
  // The factorization runs as one item too: one thread inside its operators.
  parallel_for(1, 1, [&](std::int64_t) {
    if (hessian.defined()) {
      problem.hessian = hessian.to(at::kDouble).contiguous();
      const at::Tensor diagonal = hessian.dim() == 1 ? problem.hessian : problem.hessian.diagonal();
      problem.importance = diagonal.clamp_min(0).to(at::kFloat).contiguous();
    } else {
      problem.importance = at::ones({weight.size(1)}, at::kFloat);
    }
    const bool sketched = !grouped && projections_suffice(bits, weight.size(1));
    quantized.outcome = prepare_factor(problem, sketched);
    const bool estimated = problem.factor && problem.factor->sketch.defined();
    if (hessian.defined() && !estimated) problem.single = problem.hessian.to(at::kFloat);
    if (recipe.codebook && bits <= kMostCodebookBits) {
      problem.codes = fit_codebook(problem.weight, problem.importance, bits, problem.groups.size);
      quantized.levels = at::tensor(problem.codes.levels).to(at::kChar);
    }
  });
  parallel_for(chunks, threads, [&](std::int64_t chunk) {
    results[static_cast<std::size_t>(chunk)] =
        quantize_rows(problem, chunk * kChunkRows, std::min(rows, (chunk + 1) * kChunkRows));
  });

  quantized.bits = bits;
  std::vector<at::Tensor> codes;
  std::vector<at::Tensor> scales;
  bool any_gptq = false;
  for (const RowsResult& result : results) {
    codes.push_back(result.codes);
    scales.push_back(result.scale);
    quantized.error_rtn += result.error_nearest;
    quantized.error_gptq += result.error_kept;
    any_gptq = any_gptq || result.any_gptq;
  }
  quantized.codes = at::cat(codes);
  quantized.scale = at::cat(scales);
  if (grouped) {
    quantized.group_size = recipe.group_size;
  } else {
    quantized.scale = quantized.scale.squeeze(1);
  }
  if (problem.factor && !any_gptq) quantized.outcome = "nearest: gptq was not better";
  return quantized;
}

}  // namespace repquant
