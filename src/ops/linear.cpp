#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "ops/input_rows.h"
#include "ops/kernels/kernels.h"
#include "ops/kernels/pack.h"
#include "ops/operators.h"
#include "ops/output.h"
#include "ops/packed_weight.h"
#include "ops/parallel.h"
#include "ops/rearrange.h"
#include "ops/row_blocks.h"
#include "ops/scratch.h"
#include "ops/token_output.h"

namespace repquant::ops {
namespace {

/// Rows whose inputs stay in the second-level cache while all panels pass, at most.
constexpr std::int64_t kRowBlock = 256;
/// A residual that is larger is fetched ahead, if products of as many inputs hide that.
constexpr std::size_t kFarBytes = 2 << 20;
constexpr std::int64_t kFarGroups = 160;

void run(const LinearArgs& args, std::int64_t rows) {
  const std::int64_t panels = padded(args.channels) / kPanel;
  const bool small = rows * args.channels * args.groups * 4 < kThreadWork;
  const std::int64_t threads = small ? 1 : at::get_num_threads();
  const RowBlocks blocks(rows, kRowBlock, threads);
  const Kernels& table = kernels(current_level());
  blocks.each_part(panels, threads,
                   [&](std::int64_t row_begin, std::int64_t row_end, std::int64_t panel_begin,
                       std::int64_t panel_end) {
                     table.linear(args, row_begin, row_end, panel_begin, panel_end,
                                  thread_scratch(4 * args.groups * kPanel));
                   });
}

/// The arguments that all forms of the operator share; `rows` keeps the input alive.
LinearArgs shared_args(const at::Tensor& codes, const at::Tensor& weight,
                       const at::Tensor& compensation, const at::Tensor& scale,
                       const at::Tensor& bias, std::int64_t channels, std::int64_t columns,
                       std::int64_t bits, at::Tensor& rows) {
  LinearArgs args;
  check_counts(channels, columns, bits);
  check_weight(weight, 1, channels, columns, bits);
  set_weight(args, weight, bits);
  args.groups = packed_groups(columns, bits <= 4);
  args.channels = channels;
  check_vector(compensation, at::kInt, padded(channels), "compensation");
  check_vector(scale, at::kFloat, padded(channels), "scale");
  check_vector(bias, at::kFloat, padded(channels), "bias");
  rows = input_rows("repquant::linear", codes, columns, args.groups);
  args.x = rows.const_data_ptr<std::uint8_t>();
  args.compensation = compensation.const_data_ptr<std::int32_t>();
  args.scale = scale.const_data_ptr<float>();
  args.bias = bias.const_data_ptr<float>();
  return args;
}

/// The grids of the input's rows, where it has them; the result keeps them alive.
at::Tensor set_grids(LinearArgs& args, const OptionalTensor& grids, const OptionalTensor& sums,
                     std::int64_t rows) {
  if (!grids) return {};
  TORCH_CHECK(sums && grids->scalar_type() == at::kFloat && grids->dim() >= 1 &&
                  grids->size(-1) == 2 && grids->numel() == 2 * rows,
              "repquant::linear: grids of rows must be float32 [.., 2], with sums");
  check_vector(*sums, at::kFloat, padded(args.channels), "sums");
  at::Tensor kept = grids->contiguous();
  args.rows = kept.const_data_ptr<float>();
  args.sums = sums->const_data_ptr<float>();
  return kept;
}

/// Allocates the output, lets the kernel add the residual if its shape allows, and runs.
at::Tensor finish(LinearArgs& args, const at::Tensor& codes, std::int64_t rows,
                  const OptionalTensor& residual) {
  auto sizes = codes.sizes().vec();
  sizes.back() = args.channels;
  const auto type = output_type(static_cast<std::int64_t>(args.output));
  const at::Tensor out = new_output(sizes, type);
  at::Tensor added;
  const bool fused = residual && residual->sizes() == out.sizes() &&
                     residual->scalar_type() == at::kFloat && args.output == Output::kFloat;
  if (fused) {
    added = in_order(*residual);
    args.residual = added.const_data_ptr<float>();
    args.residual_far = added.nbytes() >= kFarBytes && args.groups >= kFarGroups;
  }
  args.out = out.mutable_data_ptr();
  if (rows > 0 && args.channels > 0) run(args, rows);
  return residual && !fused ? at::add(*residual, out) : out;
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> pack_weight_cpu(const at::Tensor& codes, std::int64_t bits,
                                                   std::int64_t columns,
                                                   const OptionalTensor& levels) {
  check_counts(codes.dim() == 2 ? codes.size(0) : 0, columns, bits);
  const bool nibbles = bits <= 4;
  TORCH_CHECK(codes.dim() == 2 && codes.scalar_type() == (nibbles ? at::kByte : at::kChar) &&
                  codes.size(1) == (nibbles ? (columns + 1) / 2 : columns),
              "repquant::pack_weight: codes do not fit ", bits, " bits and ", columns,
              " columns: ", codes.scalar_type(), " ", codes.sizes());
  const at::Tensor table = nibble_table(levels, nibbles, "pack_weight");
  const std::int64_t rows = codes.size(0);
  const at::Tensor plain = codes.contiguous();
  const at::Tensor packed =
      at::zeros({packed_bytes(rows, columns, nibbles)}, codes.options().dtype(at::kByte));
  const at::Tensor sums = at::zeros({padded(rows)}, codes.options().dtype(at::kInt));
  auto* panels = packed.mutable_data_ptr<std::uint8_t>();
  if (nibbles) {
    std::copy_n(table.const_data_ptr<std::int8_t>(), table.numel(), panels);
    panels += kLevelBytes;
  }
  pack_weight(static_cast<const std::uint8_t*>(plain.const_data_ptr()), rows, columns,
              nibbles ? table.const_data_ptr<std::int8_t>() : nullptr, panels,
              sums.mutable_data_ptr<std::int32_t>());
  return {packed, sums};
}

at::Tensor linear_cpu(const at::Tensor& codes, const at::Tensor& weight,
                      const at::Tensor& compensation, const at::Tensor& scale,
                      const at::Tensor& bias, const OptionalTensor& multiplier,
                      const OptionalTensor& offset, const OptionalTensor& residual,
                      std::int64_t channels, std::int64_t columns, std::int64_t bits,
                      std::int64_t activation, std::int64_t output, std::int64_t low,
                      std::int64_t high, bool quadratic, const OptionalTensor& grids,
                      const OptionalTensor& sums) {
  TORCH_CHECK(activation >= 0 && activation < kActivations && output >= 0 && output <= 2,
              "repquant::linear: unknown activation or output");
  TORCH_CHECK(output != 1 || (low >= -128 && low <= high && high <= 127),
              "repquant::linear: no int8 codes lie between ", low, " and ", high);
  at::Tensor rows;
  LinearArgs args =
      shared_args(codes, weight, compensation, scale, bias, channels, columns, bits, rows);
  args.activation = static_cast<Activation>(activation);
  args.output = static_cast<Output>(output);
  if (args.output != Output::kFloat) {
    args.low = static_cast<int>(low);
    args.high = static_cast<int>(high);
  }
  args.quadratic = quadratic;
  if (args.output == Output::kProductCodes) {
    TORCH_CHECK(multiplier && offset && high >= 0 && (quadratic ? high <= 15 : high <= 255),
                "repquant::linear: product codes need a multiplier, an offset and codes of 8 bits");
    check_vector(*multiplier, at::kFloat, padded(channels), "multiplier");
    check_vector(*offset, at::kFloat, padded(channels), "offset");
    args.multiplier = multiplier->const_data_ptr<float>();
    args.offset = offset->const_data_ptr<float>();
  }
  const at::Tensor kept = set_grids(args, grids, sums, rows.size(0));
  return finish(args, codes, rows.size(0), residual);
}

std::tuple<at::Tensor, at::Tensor> linear_tokens_cpu(
    const at::Tensor& codes, const at::Tensor& weight, const at::Tensor& compensation,
    const at::Tensor& scale, const at::Tensor& bias, std::int64_t channels, std::int64_t columns,
    std::int64_t bits, std::int64_t activation, const OptionalTensor& grids,
    const OptionalTensor& sums, std::int64_t top, const OptionalTensor& levels,
    const OptionalTensor& multiplier, const OptionalTensor& offset) {
  TORCH_CHECK(activation >= 0 && activation < kActivations,
              "repquant::linear_tokens: unknown activation");
  check_scale("repquant::linear_tokens", channels, multiplier, offset);
  at::Tensor rows;
  LinearArgs args =
      shared_args(codes, weight, compensation, scale, bias, channels, columns, bits, rows);
  args.activation = static_cast<Activation>(activation);
  const at::Tensor kept = set_grids(args, grids, sums, rows.size(0));
  TokenArgs tokens;
  const TokenOutput out(codes.sizes(), channels, top, levels, tokens);
  if (out.codes.numel() == 0) return {out.codes, out.rows};
  set_scale(tokens, multiplier, offset);
  // A block's floating-point values stay in the second-level cache until its codes are made.
  constexpr std::int64_t kBlockFloats = std::int64_t{1} << 17;
  const std::int64_t count = rows.size(0), threads = at::get_num_threads();
  const std::int64_t in_cache = kBlockFloats / channels / kRowStep * kRowStep;
  const std::int64_t most =
      std::max(kFewestRows, std::min(in_cache, (count + threads - 1) / threads));
  const RowBlocks blocks(count, most, threads);
  const Kernels& table = kernels(current_level());
  const std::int64_t unpacked = 4 * args.groups * kPanel;  // a multiple of 64 bytes
  split_work(blocks.count, 1, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t floats = (blocks.rows + (multiplier ? kRowsTogether : 0)) * channels;
    std::uint8_t* scratch =
        thread_scratch(unpacked + floats * static_cast<std::int64_t>(sizeof(float)));
    auto* values = reinterpret_cast<float*>(scratch + unpacked);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t first = i * blocks.rows, size = std::min(blocks.rows, count - first);
      LinearArgs product = args;
      product.x += first * 4 * args.groups;
      if (product.rows != nullptr) product.rows += 2 * first;
      product.out = values;
      table.linear(product, 0, size, 0, padded(channels) / kPanel, scratch);
      TokenArgs part = tokens;
      part.x = values;
      part.codes += first * channels;
      part.rows += 2 * first;
      table.token_quantize(part, 0, size, values + blocks.rows * channels);
    }
  });
  return {out.codes, out.rows};
}

at::Tensor linear_side_cpu(const at::Tensor& codes, const at::Tensor& weight,
                           const at::Tensor& compensation, const at::Tensor& scale,
                           const at::Tensor& bias, const at::Tensor& x,
                           const at::Tensor& side_channels, const at::Tensor& side_inverse,
                           const at::Tensor& side_zero, const at::Tensor& side_weight,
                           std::int64_t side_max_code, const OptionalTensor& residual,
                           std::int64_t channels, std::int64_t columns, std::int64_t bits) {
  at::Tensor rows;
  LinearArgs args =
      shared_args(codes, weight, compensation, scale, bias, channels, columns, bits, rows);
  TORCH_CHECK(
      x.sizes() == codes.sizes() && x.scalar_type() == at::kFloat && side_weight.dim() == 2 &&
          side_weight.is_contiguous() && side_weight.size(0) == side_channels.numel() &&
          side_weight.size(1) == padded(channels) && side_weight.scalar_type() == at::kFloat &&
          side_channels.dim() == 1 && side_max_code >= 0 && side_max_code <= 255,
      "repquant::linear_side: the input or the side weight has an unsuitable shape");
  const at::Tensor side = at::index_select(x.reshape({-1, columns}), 1, side_channels)
                              .mul_(side_inverse)
                              .add_(side_zero)
                              .round_()
                              .clamp_(0.0, static_cast<double>(side_max_code))
                              .sub_(side_zero)
                              .contiguous();
  args.side = side.const_data_ptr<float>();
  args.side_weight = side_weight.const_data_ptr<float>();
  args.side_count = side_channels.numel();
  return finish(args, codes, rows.size(0), residual);
}

}  // namespace repquant::ops
