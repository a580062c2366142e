// The operators' schemas, and their forms for tensors without data.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "ops/kernels/kernels.h"
#include "ops/operators.h"

namespace repquant::ops {
namespace {

at::Tensor norm_quantize_meta(const at::Tensor& x, const at::Tensor&, const at::Tensor&, double,
                              std::int64_t, bool) {
  return at::empty_symint(x.sym_sizes(), x.options().dtype(at::kByte));
}

std::tuple<at::Tensor, at::Tensor> token_quantize_meta(const at::Tensor& x, std::int64_t,
                                                       const std::optional<at::Tensor>&,
                                                       const std::optional<at::Tensor>& = {},
                                                       const std::optional<at::Tensor>& = {}) {
  TORCH_CHECK(x.dim() >= 1, "repquant::token_quantize: x must be [.., K]");
  auto rows = x.sym_sizes().vec();
  rows.back() = 2;
  return {at::empty_symint(x.sym_sizes(), x.options().dtype(at::kByte)),
          at::empty_symint(rows, x.options())};
}

at::Tensor group_quantize_meta(const at::Tensor& x, std::int64_t, std::int64_t,
                               const std::optional<at::Tensor>&) {
  return at::empty_symint(x.sym_sizes(), x.options());
}

std::tuple<at::Tensor, at::Tensor> group_codes_meta(const at::Tensor& x, std::int64_t group_size,
                                                    std::int64_t,
                                                    const std::optional<at::Tensor>&) {
  TORCH_CHECK(x.dim() >= 1 && group_size > 0,
              "repquant::group_codes: x must be [.., K], in groups");
  auto sizes = x.sym_sizes().vec();
  sizes.back() = (sizes.back() + group_size - 1) / group_size;
  sizes.emplace_back(2);
  return {at::empty_symint(x.sym_sizes(), x.options().dtype(at::kByte)),
          at::empty_symint(sizes, x.options())};
}

std::tuple<at::Tensor, at::Tensor> norm_group_codes_meta(const at::Tensor& x, const at::Tensor&,
                                                         const at::Tensor&, double, bool,
                                                         std::int64_t group_size, std::int64_t top,
                                                         const std::optional<at::Tensor>& levels) {
  return group_codes_meta(x, group_size, top, levels);
}

std::tuple<at::Tensor, at::Tensor> norm_tokens_meta(const at::Tensor& x, const at::Tensor&,
                                                    const at::Tensor&, double, bool,
                                                    std::int64_t top,
                                                    const std::optional<at::Tensor>& levels) {
  return token_quantize_meta(x, top, levels);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> norm_and_tokens_meta(
    const at::Tensor& x, const at::Tensor&, const at::Tensor&, double, bool, std::int64_t top,
    const std::optional<at::Tensor>& levels, const std::optional<at::Tensor>&,
    const std::optional<at::Tensor>&) {
  const auto [codes, rows] = token_quantize_meta(x, top, levels);
  return {at::empty_symint(x.sym_sizes(), x.options()), codes, rows};
}

c10::SymInt cache_width(const at::Tensor& codes) {
  TORCH_CHECK(codes.dim() >= 1, "repquant::cache_dequantize: codes must be [.., d + 8]");
  return codes.sym_size(-1) - kGridBytes;
}

at::Tensor cache_quantize_meta(const at::Tensor& x) {
  TORCH_CHECK(x.dim() >= 1, "repquant::cache_quantize: x must be [.., d]");
  auto sizes = x.sym_sizes().vec();
  sizes.back() = sizes.back() + kGridBytes;
  return at::empty_symint(sizes, x.options().dtype(at::kByte));
}

at::Tensor read_cache_meta(const at::Tensor& codes, at::ScalarType type) {
  auto sizes = codes.sym_sizes().vec();
  sizes.back() = cache_width(codes);
  return at::empty_symint(sizes, codes.options().dtype(type));
}

at::Tensor cache_dequantize_meta(const at::Tensor& codes) {
  return read_cache_meta(codes, at::kFloat);
}

at::Tensor cache_operand_meta(const at::Tensor& codes, const at::Tensor&, const at::Tensor&,
                              std::int64_t, std::int64_t) {
  return read_cache_meta(codes, at::kChar);
}

at::Tensor add_meta(const at::Tensor& x, const at::Tensor& other, const at::Scalar& alpha) {
  return at::add(x, other, alpha);
}

at::Tensor mul_meta(const at::Tensor& x, const at::Tensor& other) { return at::mul(x, other); }

at::Tensor cat_meta(at::TensorList tensors, std::int64_t dim) { return at::cat(tensors, dim); }

at::Tensor embedding_meta(const at::Tensor& weight, const at::Tensor& indices) {
  return at::embedding(weight, indices);
}

at::Tensor embedding_rows_meta(const at::Tensor& codes, const at::Tensor& scale,
                               const at::Tensor& indices, std::int64_t columns) {
  auto sizes = indices.sym_sizes().vec();
  sizes.emplace_back(columns);
  return at::empty_symint(sizes, codes.options().dtype(scale.scalar_type()));
}

at::Tensor quantize_meta(const at::Tensor& x, const at::Tensor& multiplier,
                         const at::Tensor& offset, std::int64_t, bool, bool is_signed,
                         std::int64_t) {
  if (multiplier.numel() == 1 && offset.numel() == 1 && x.is_non_overlapping_and_dense()) {
    return at::empty_like(x, x.options().dtype(is_signed ? at::kChar : at::kByte));
  }
  return at::empty_symint(x.sym_sizes(), x.options().dtype(is_signed ? at::kChar : at::kByte));
}

/// [B, grid..] of windows of x [B, sizes.., C].
std::vector<c10::SymInt> window_sizes(const at::Tensor& x, at::IntArrayRef before,
                                      at::IntArrayRef after, at::IntArrayRef kernel,
                                      at::IntArrayRef stride, at::IntArrayRef dilation) {
  std::vector<c10::SymInt> sizes{x.sym_size(0)};
  for (std::size_t i = 0; i < kernel.size(); ++i) {
    const std::int64_t reach = dilation[i] * (kernel[i] - 1) + 1;
    const auto room = x.sym_size(static_cast<std::int64_t>(i) + 1) + before[i] + after[i] - reach;
    sizes.push_back(room / stride[i] + 1);
  }
  return sizes;
}

at::Tensor windows_meta(const at::Tensor& x, at::IntArrayRef before, at::IntArrayRef after,
                        at::IntArrayRef kernel, at::IntArrayRef stride, at::IntArrayRef dilation,
                        double) {
  auto sizes = window_sizes(x, before, after, kernel, stride, dilation);
  c10::SymInt columns = x.sym_size(-1);
  for (const std::int64_t size : kernel) columns = columns * size;
  sizes.push_back(columns);
  return at::empty_symint(sizes, x.options());
}

at::Tensor depthwise_meta(const at::Tensor& x, const at::Tensor&, const at::Tensor&,
                          const at::Tensor&, const std::optional<at::Tensor>&,
                          const std::optional<at::Tensor>&, std::int64_t, at::IntArrayRef kernel,
                          at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                          std::int64_t) {
  auto sizes = window_sizes(x, padding, padding, kernel, stride, dilation);
  sizes.push_back(x.sym_size(-1));
  return at::empty_symint(sizes, x.options().dtype(at::kFloat));
}

std::tuple<at::Tensor, at::Tensor> depthwise_tokens_meta(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale, const at::Tensor& bias,
    const std::optional<at::Tensor>& multiplier, const std::optional<at::Tensor>& zero_point,
    std::int64_t max_code, at::IntArrayRef kernel, at::IntArrayRef stride, at::IntArrayRef padding,
    at::IntArrayRef dilation, std::int64_t activation, std::int64_t top,
    const std::optional<at::Tensor>& levels, const std::optional<at::Tensor>&,
    const std::optional<at::Tensor>&) {
  return token_quantize_meta(
      depthwise_meta(x, weight, scale, bias, multiplier, zero_point, max_code, kernel, stride,
                     padding, dilation, activation),
      top, levels);
}

at::Tensor linear_meta(const at::Tensor& codes, const at::Tensor&, const at::Tensor&,
                       const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                       const std::optional<at::Tensor>&, const std::optional<at::Tensor>& residual,
                       std::int64_t channels, std::int64_t, std::int64_t, std::int64_t,
                       std::int64_t output, std::int64_t, std::int64_t, bool,
                       const std::optional<at::Tensor>&, const std::optional<at::Tensor>&) {
  TORCH_CHECK(codes.dim() >= 1, "repquant::linear: codes must be [.., columns]");
  auto sizes = codes.sym_sizes().vec();
  sizes.back() = channels;
  const auto y = at::empty_symint(sizes, codes.options().dtype(output_type(output)));
  return residual ? at::add(*residual, y) : y;
}

std::tuple<at::Tensor, at::Tensor> linear_tokens_meta(
    const at::Tensor& codes, const at::Tensor& weight, const at::Tensor& compensation,
    const at::Tensor& scale, const at::Tensor& bias, std::int64_t channels, std::int64_t columns,
    std::int64_t bits, std::int64_t, const std::optional<at::Tensor>& rows,
    const std::optional<at::Tensor>& sums, std::int64_t top,
    const std::optional<at::Tensor>& levels, const std::optional<at::Tensor>&,
    const std::optional<at::Tensor>&) {
  const at::Tensor y = linear_meta(codes, weight, compensation, scale, bias, {}, {}, {}, channels,
                                   columns, bits, 0, 0, 0, 0, false, rows, sums);
  return token_quantize_meta(y, top, levels);
}

at::Tensor grouped_linear_meta(const at::Tensor& x, const at::Tensor& weight, const at::Tensor&,
                               const at::Tensor&, const at::Tensor&, const at::Tensor&,
                               std::int64_t channels, std::int64_t, std::int64_t, std::int64_t,
                               std::int64_t, at::TensorList, const std::optional<at::Tensor>&,
                               const std::optional<at::Tensor>&) {
  TORCH_CHECK(x.dim() >= 1 && weight.dim() >= 1,
              "repquant::grouped_linear: x must be [.., groups x columns]");
  auto sizes = x.sym_sizes().vec();
  sizes.back() = weight.sym_size(0) * channels;
  return at::empty_symint(sizes, x.options());
}

at::Tensor linear_side_meta(const at::Tensor& codes, const at::Tensor& weight,
                            const at::Tensor& compensation, const at::Tensor& scale,
                            const at::Tensor& bias, const at::Tensor&, const at::Tensor&,
                            const at::Tensor&, const at::Tensor&, const at::Tensor&, std::int64_t,
                            const std::optional<at::Tensor>& residual, std::int64_t channels,
                            std::int64_t columns, std::int64_t bits) {
  return linear_meta(codes, weight, compensation, scale, bias, {}, {}, residual, channels, columns,
                     bits, 0, 0, 0, 0, false, {}, {});
}

at::Tensor weight_only_linear_meta(const at::Tensor& x, const at::Tensor&, const at::Tensor&,
                                   const at::Tensor&, std::int64_t channels, std::int64_t,
                                   std::int64_t, std::int64_t, std::int64_t) {
  TORCH_CHECK(x.dim() >= 1, "repquant::weight_only_linear: x must be [.., columns]");
  auto sizes = x.sym_sizes().vec();
  sizes.back() = channels;
  return at::empty_symint(sizes, x.options());
}

at::Tensor group_linear_meta(const at::Tensor& codes, const at::Tensor& grids, const at::Tensor&,
                             const at::Tensor&, const at::Tensor&, std::int64_t channels,
                             std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                             const std::optional<at::Tensor>& residual) {
  TORCH_CHECK(codes.dim() >= 1, "repquant::group_linear: codes must be [.., columns]");
  auto sizes = codes.sym_sizes().vec();
  sizes.back() = channels;
  const auto y = at::empty_symint(sizes, grids.options());
  return residual ? at::add(*residual, y) : y;
}

std::tuple<at::Tensor, at::Tensor> operand_rows_meta(const at::Tensor& x, std::int64_t) {
  TORCH_CHECK(x.dim() >= 2, "repquant::operand_rows: x must be [.., T, d]");
  auto rows = x.sym_sizes().vec();
  rows.back() = 1;
  return {at::empty_symint(x.sym_sizes(), x.options().dtype(at::kChar)),
          at::empty_symint(rows, x.options())};
}

at::Tensor attention_meta(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                          const std::optional<at::Tensor>& mask, const at::Tensor&,
                          const at::Tensor&, const at::Tensor&, const at::Tensor&, double,
                          const at::Tensor&, const at::Tensor&, std::int64_t, double, std::int64_t,
                          bool, std::int64_t output_max_code, bool,
                          const std::optional<at::Tensor>&, const std::optional<at::Tensor>&) {
  at::Tensor scores = at::matmul(query.to(at::kFloat), key.to(at::kFloat).transpose(-2, -1));
  if (mask) scores = at::add(scores, *mask);
  const at::Tensor y = at::matmul(scores.to(at::kFloat), value.to(at::kFloat));
  return at::empty_symint(y.sym_sizes(),
                          query.options().dtype(output_max_code > 0 ? at::kByte : at::kFloat));
}

}  // namespace

// Sizes in brackets; [p N] is N padded to a multiple of 64, as pack_weight makes it.
TORCH_LIBRARY(repquant, m) {
  // Weight codes as an artifact stores them -> (packed weight, int32 sums of weights [p N]). codes:
  // int8 [N, K], or up to 4 bits nibbles uint8 [N, ceil(K / 2)] (low nibble first). levels: int8
  // [16], what each nibble stands for; without, nibble - 8.
  m.def(
      "pack_weight(Tensor codes, int bits, int columns, Tensor? levels=None) -> (Tensor packed, "
      "Tensor sums)");

  // LayerNorm or RMSNorm over the last dimension, then codes: uint8 clamp(floor(y + 1/2), 0,
  // max_code). x float32 [.., D]; weight, bias float32 [D] with the multiplier and offset folded
  // in.
  m.def(
      "norm_quantize(Tensor x, Tensor weight, Tensor bias, float epsilon, int max_code, "
      "bool root_mean_square=False) -> Tensor");

  // float32 -> codes clamp(round(x m + a), 0, max_code) - shift, uint8 or (is_signed) int8.
  // quadratic: round(sqrt(clamp(round(x m + a), 0, max_code^2)))^2. multiplier, offset: [1], [D],
  // or both of [H, 1, 1] and [H, 1, D] for x [.., H, T, D].
  m.def(
      "quantize(Tensor x, Tensor multiplier, Tensor offset, int max_code, bool quadratic, "
      "bool is_signed, int shift) -> Tensor");

  // Keys and values as a decoder keeps them: each row x [.., d] float32 as codes round((x - low) /
  // step) of its own grid, low the smallest value and step (largest - low) / 255, and behind them
  // low and step as bytes of float32: uint8 [.., d + 8].
  m.def("cache_quantize(Tensor x) -> Tensor");
  // Back to float32 [.., d]: low + step code.
  m.def("cache_dequantize(Tensor codes) -> Tensor");
  // cache_dequantize() and quantize() to int8 operands of an attention, [.., H, T, d]. multiplier,
  // offset: [1], [H, 1, 1] or [H, 1, d].
  m.def(
      "cache_operand(Tensor codes, Tensor multiplier, Tensor offset, int max_code, int shift) -> "
      "Tensor");

  // Windows of x [B, sizes.., C] of any type, in 1 or 2 dimensions, with `before` and `after`
  // elements of value `zero` added to each: [B, grid.., kernel.. C].
  m.def(
      "windows(Tensor x, int[] before, int[] after, int[] kernel, int[] stride, int[] dilation, "
      "float zero) -> Tensor");

  // x of any type, reshaped and permuted in several steps: a view where that is one, else a single
  // copy where the steps are one together. steps: kReshapeStep and a count of `sizes`;
  // kPermuteStep, a count and the order of all dimensions; or kTransposeStep, 2 and the two that
  // change places; and so on. sizes: what the reshapes make, one after the other; -1 is what is
  // left.
  m.def("rearrange(Tensor(a) x, int[] sizes, int[] steps) -> Tensor(a)");

  // Rows of a table of codes: int8 [V, columns], or nibbles uint8 [V, ceil(columns / 2)] as
  // pack_weight takes them, times scale float32 [V, 1] -> float32 [.., columns].
  m.def("embedding_rows(Tensor codes, Tensor scale, Tensor indices, int columns) -> Tensor");

  // As torch.add, torch.mul, torch.cat and torch.embedding.
  m.def("add(Tensor x, Tensor other, Scalar alpha=1) -> Tensor");
  m.def("mul(Tensor x, Tensor other) -> Tensor");
  m.def("cat(Tensor[] tensors, int dim=0) -> Tensor");
  m.def("embedding(Tensor weight, Tensor indices) -> Tensor");

  // Convolution in 1 or 2 dimensions whose channels stay apart: x float32 [B, sizes.., C] ->
  // activation(convolution of (code - zero_point), times scale, + bias) [B, grid.., C], code =
  // clamp(round(x multiplier + zero_point), 0, max_code); without both of x itself. x may be the
  // codes, uint8, with a zero point alone. Vectors over channels are float32, padded with zeros to
  // a multiple of 16: weight [C / 16, kernel.., 16].
  m.def(
      "depthwise(Tensor x, Tensor weight, Tensor scale, Tensor bias, Tensor? multiplier, "
      "Tensor? zero_point, int max_code, int[] kernel, int[] stride, int[] padding, "
      "int[] dilation, int activation) -> Tensor");

  // The same, and from there to codes of each pixel and their grids as token_quantize has them.
  m.def(
      "depthwise_tokens(Tensor x, Tensor weight, Tensor scale, Tensor bias, Tensor? multiplier, "
      "Tensor? zero_point, int max_code, int[] kernel, int[] stride, int[] padding, "
      "int[] dilation, int activation, int top, Tensor? levels, Tensor? token_multiplier=None, "
      "Tensor? token_offset=None) -> (Tensor codes, Tensor rows)");

  // float32 [.., K] -> codes on a grid of each row's own, and these grids float32 [.., 2] (low,
  // step): v = clamp(round((x - low) (1 / step)), 0, top), low the row's smallest value, step
  // (largest
  // - low) / top, at least the smallest normal number. levels (uint8 [n], rising; top is 255): the
  // one that is nearest to v, of two the lower one. A row that is not finite gets a grid that is
  // not. With multiplier, and perhaps offset, float32 [K]: of x multiplier + offset.
  m.def(
      "token_quantize(Tensor x, int top, Tensor? levels, Tensor? multiplier=None, "
      "Tensor? offset=None) -> (Tensor codes, Tensor rows)");

  // float32 [.., K] -> the same, each group of group_size columns (the last one of what is left) on
  // a grid of its own: low + step v with low, step and v as token_quantize has them for a row.
  m.def("group_quantize(Tensor x, int group_size, int top, Tensor? levels) -> Tensor");

  // The codes of group_quantize, and its grids float32 [.., G, 2] (low, step).
  m.def(
      "group_codes(Tensor x, int group_size, int top, Tensor? levels) -> (Tensor codes, "
      "Tensor grids)");

  // The same after LayerNorm or RMSNorm over the last dimension. weight, bias float32 [K].
  m.def(
      "norm_group_codes(Tensor x, Tensor weight, Tensor bias, float epsilon, "
      "bool root_mean_square, int group_size, int top, Tensor? levels) -> (Tensor codes, "
      "Tensor grids)");

  // The same as token_quantize after LayerNorm or RMSNorm over the last dimension. weight, bias
  // float32 [K].
  m.def(
      "norm_tokens(Tensor x, Tensor weight, Tensor bias, float epsilon, bool root_mean_square, "
      "int top, Tensor? levels) -> (Tensor codes, Tensor rows)");

  // The same of y multiplier + offset, y being the norm's output, which is given back too.
  m.def(
      "norm_and_tokens(Tensor x, Tensor weight, Tensor bias, float epsilon, bool root_mean_square, "
      "int top, Tensor? levels, Tensor? multiplier=None, Tensor? offset=None) -> "
      "(Tensor y, Tensor codes, Tensor rows)");

  // y = activation((sum_k x w - compensation) scale + bias) with u8 codes x [.., K]; with the rows'
  // grids and sums float32 [p N] of the weight's rows:
  // activation(product scale step + low sums + bias).
  // weight: packed, compensation int32 [p N], scale, bias, multiplier, offset float32 [p N].
  // activation: 0 none, 1 relu, 2 gelu, 3 gelu (tanh), 4 silu, 5 hardswish.
  // output: 0 float32 y + residual; 1 int8 codes clamp(round(y), low, high); 2 uint8 codes
  // clamp(round(y multiplier + offset), 0, high), quadratic as in quantize.
  m.def(
      "linear(Tensor codes, Tensor weight, Tensor compensation, Tensor scale, Tensor bias, "
      "Tensor? multiplier, Tensor? offset, Tensor? residual, int channels, int columns, int bits, "
      "int activation, int output, int low, int high, bool quadratic, Tensor? rows=None, "
      "Tensor? sums=None) -> Tensor");

  // The same to float32, and from there to codes and grids of rows as token_quantize has them with
  // levels, multiplier and offset float32 [N], block by block of rows.
  m.def(
      "linear_tokens(Tensor codes, Tensor weight, Tensor compensation, Tensor scale, Tensor bias, "
      "int channels, int columns, int bits, int activation, Tensor? rows, Tensor? sums, int top, "
      "Tensor? levels, Tensor? multiplier=None, Tensor? offset=None) -> (Tensor codes, Tensor "
      "rows)");

  // x float32 [.., G K] in groups of K: each group's codes on a grid for each row, as
  // token_quantize has them (levels: one for each group, or none; multiplier, offset float32 [G
  // K]), and the Linear of them, as linear has it with rows to float32 -> [.., G channels]. weight
  // [G, ..], compensation, scale, bias, sums [G, p N]: of the groups, one after the other. K: of
  // whole fours, or eights where the weight has nibbles.
  m.def(
      "grouped_linear(Tensor x, Tensor weight, Tensor compensation, Tensor scale, Tensor bias, "
      "Tensor sums, int channels, int columns, int bits, int activation, int top, Tensor[] levels, "
      "Tensor? multiplier=None, Tensor? offset=None) -> Tensor");

  // As linear to float32, plus side columns: centred codes clamp(round(x / s + z), 0, max) - z of
  // the float32 input's `side_channels` times side_weight float32 [m, p N]. side_inverse = 1 / s.
  m.def(
      "linear_side(Tensor codes, Tensor weight, Tensor compensation, Tensor scale, Tensor bias, "
      "Tensor x, Tensor side_channels, Tensor side_inverse, Tensor side_zero, Tensor side_weight, "
      "int side_max_code, Tensor? residual, int channels, int columns, int bits) -> Tensor");

  // Weight codes as pack_weight takes them and float32 scales [N, G] (group_size > 0: of groups of
  // as many columns; 0: [N]) -> (packed weight, scales [p N / 64, G, 64]) of weight_only_linear.
  // levels as of pack_weight.
  m.def(
      "pack_weight_only(Tensor codes, Tensor scale, int bits, int columns, int group_size, "
      "Tensor? levels=None) -> (Tensor packed, Tensor scale)");

  // y = activation(x w^T + bias), w = codes times scales, x float32 [.., K], rounded to 16 bits by
  // chunks of a group (at most 256 columns; step 2^(e - 14) for a largest 2^e). weight, scale:
  // packed; bias float32 [p N]; activation as in linear. A row's result does not depend on other
  // rows.
  m.def(
      "weight_only_linear(Tensor x, Tensor weight, Tensor scale, Tensor bias, int channels, "
      "int columns, int bits, int group_size, int activation) -> Tensor");

  // Weight codes as pack_weight takes them and float32 scales [N, G] of groups of group_size
  // columns, or [N] of rows -> (packed weight, as of pack_weight; scales [p N / 64, G, 64]). levels
  // as of pack_weight. group_size is a multiple of 4, of 8 where weights are in nibbles.
  m.def(
      "pack_group_weight(Tensor codes, Tensor scale, int bits, int columns, int group_size, "
      "Tensor? levels=None) -> (Tensor packed, Tensor scale)");

  // y = activation(sum over groups of step scale sum_k x w + low scale sum_k w, + bias) with u8
  // codes x [.., K] and grids [.., G, 2] as of group_codes; weight, scale: packed for groups of
  // group_size; bias float32 [p N]; activation as in linear. A row's result does not depend on
  // other rows.
  m.def(
      "group_linear(Tensor codes, Tensor grids, Tensor weight, Tensor scale, Tensor bias, "
      "int channels, int columns, int bits, int group_size, int activation, "
      "Tensor? residual=None) -> Tensor");

  // Attention on int8 codes. query [.., T, d], key [.., S, d], value [.., S, e]; they and the mask,
  // which is added to integer scores * score_scale * score_factor, broadcast as in matmul and add.
  // Grids broadcast to [.., H, 1, e], H being axis -3: query_zero int32, score_scale and factor
  // (score - row maximum to code units, times score_factor without a mask) float32 [1] or
  // [H, 1, 1]; value_zero int32, multiplier and offset of the output float32 [1], [e], [H, 1, 1] or
  // [H, 1, e]. code: 0 logarithmic (steps 1 or 2, max_code <= 15), 1 table of u8 weights,
  // 2 uniform. output_max_code > 0: uint8 codes, else float32. transposed: memory in the order
  // [.., T, H, e].
  m.def(
      "attention(Tensor query, Tensor key, Tensor value, Tensor? mask, Tensor query_zero, "
      "Tensor value_zero, Tensor score_scale, Tensor factor, float score_factor, "
      "Tensor multiplier, Tensor offset, int code, float steps, int max_code, bool zero_code, "
      "int output_max_code, bool transposed, Tensor? query_scale=None, Tensor? key_scale=None) -> "
      "Tensor");

  // Operands of an attention on scales of rows, x float32 [.., T, d]: int8 codes round(x / s) with
  // 8 bits, else the nearest odd number, and s = max|x| / top, [.., T, 1]; top 127, or 2^bits - 1.
  m.def("operand_rows(Tensor x, int bits) -> (Tensor codes, Tensor scale)");

  // The instruction set in use: generic, avx2, avx512vnni, onednn; setting one takes the highest
  // available one that is not above it and returns it.
  m.def("cpu_level() -> str", &cpu_level);
  m.def("set_cpu_level(str level) -> str", &set_cpu_level);
}

TORCH_LIBRARY_IMPL(repquant, CPU, m) {
  m.impl("pack_weight", &pack_weight_cpu);
  m.impl("norm_quantize", &norm_quantize_cpu);
  m.impl("quantize", &quantize_cpu);
  m.impl("token_quantize", &token_quantize_cpu);
  m.impl("group_quantize", &group_quantize_cpu);
  m.impl("group_codes", &group_codes_cpu);
  m.impl("norm_group_codes", &norm_group_codes_cpu);
  m.impl("norm_tokens", &norm_tokens_cpu);
  m.impl("norm_and_tokens", &norm_and_tokens_cpu);
  m.impl("cache_quantize", &cache_quantize_cpu);
  m.impl("cache_dequantize", &cache_dequantize_cpu);
  m.impl("cache_operand", &cache_operand_cpu);
  m.impl("windows", &windows_cpu);
  m.impl("rearrange", &rearrange_cpu);
  m.impl("add", &add_cpu);
  m.impl("mul", &mul_cpu);
  m.impl("cat", &cat_cpu);
  m.impl("embedding", &embedding_cpu);
  m.impl("embedding_rows", &embedding_rows_cpu);
  m.impl("depthwise", &depthwise_cpu);
  m.impl("depthwise_tokens", &depthwise_tokens_cpu);
  m.impl("linear", &linear_cpu);
  m.impl("linear_tokens", &linear_tokens_cpu);
  m.impl("grouped_linear", &grouped_linear_cpu);
  m.impl("linear_side", &linear_side_cpu);
  m.impl("pack_weight_only", &pack_weight_only_cpu);
  m.impl("weight_only_linear", &weight_only_linear_cpu);
  m.impl("pack_group_weight", &pack_group_weight_cpu);
  m.impl("group_linear", &group_linear_cpu);
  m.impl("attention", &attention_cpu);
  m.impl("operand_rows", &operand_rows_cpu);
}

TORCH_LIBRARY_IMPL(repquant, Meta, m) {
  m.impl("norm_quantize", &norm_quantize_meta);
  m.impl("quantize", &quantize_meta);
  m.impl("token_quantize", &token_quantize_meta);
  m.impl("group_quantize", &group_quantize_meta);
  m.impl("group_codes", &group_codes_meta);
  m.impl("norm_group_codes", &norm_group_codes_meta);
  m.impl("norm_tokens", &norm_tokens_meta);
  m.impl("norm_and_tokens", &norm_and_tokens_meta);
  m.impl("cache_quantize", &cache_quantize_meta);
  m.impl("cache_dequantize", &cache_dequantize_meta);
  m.impl("cache_operand", &cache_operand_meta);
  m.impl("windows", &windows_meta);
  m.impl("rearrange", &rearrange_meta);
  m.impl("add", &add_meta);
  m.impl("mul", &mul_meta);
  m.impl("cat", &cat_meta);
  m.impl("embedding", &embedding_meta);
  m.impl("embedding_rows", &embedding_rows_meta);
  m.impl("depthwise", &depthwise_meta);
  m.impl("depthwise_tokens", &depthwise_tokens_meta);
  m.impl("linear", &linear_meta);
  m.impl("linear_tokens", &linear_tokens_meta);
  m.impl("grouped_linear", &grouped_linear_meta);
  m.impl("linear_side", &linear_side_meta);
  m.impl("weight_only_linear", &weight_only_linear_meta);
  m.impl("group_linear", &group_linear_meta);
  m.impl("attention", &attention_meta);
  m.impl("operand_rows", &operand_rows_meta);
}

}  // namespace repquant::ops
