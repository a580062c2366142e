#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "ops/kernels/kernels.h"
#include "ops/kernels/pack.h"
#include "ops/operators.h"
#include "ops/output.h"
#include "ops/packed_weight.h"
#include "ops/parallel.h"
#include "ops/rearrange.h"
#include "ops/scratch.h"
#include "ops/token_output.h"

namespace repquant::ops {
namespace {

/// Rows whose inputs stay in the second-level cache while all panels pass, at most.
constexpr std::int64_t kRowBlock = 256;
/// A multiple of every level's rows per tile.
constexpr std::int64_t kRowStep = 24;
/// Rows of a block, at least: below, each would read all weights for too little.
constexpr std::int64_t kFewestRows = 2 * kRowStep;
constexpr std::int64_t kNibbles = 16;
/// A residual that is larger is fetched ahead, if products of as many inputs hide that.
constexpr std::size_t kFarBytes = 2 << 20;
constexpr std::int64_t kFarGroups = 160;

/// Input codes as [rows, 4 groups], zero-padded.
at::Tensor input_rows(const at::Tensor& codes, std::int64_t columns, std::int64_t groups) {
  TORCH_CHECK(codes.scalar_type() == at::kByte && codes.dim() >= 1 && codes.size(-1) == columns,
              "repquant::linear: codes must be uint8 [.., ", columns, "], got ",
              codes.scalar_type(), " ", codes.sizes());
  at::Tensor rows = in_order(codes).view({-1, columns});
  const std::int64_t width = 4 * groups, rest = width - columns;
  if (rest == 0) return rows;
  const std::int64_t count = rows.size(0);
  at::Tensor padded_rows = new_output({count, width}, at::kByte);
  const auto* from = rows.const_data_ptr<std::uint8_t>();
  auto* to = padded_rows.mutable_data_ptr<std::uint8_t>();
  // Steps of a fixed size are not calls; what they write too much, the next row writes over.
  constexpr std::int64_t kStep = 16;
  const std::int64_t reach = (columns + kStep - 1) / kStep * kStep;
  for (std::int64_t row = 0; row < count; ++row, from += columns, to += width) {
    if ((count - row) * columns >= reach) {
      for (std::int64_t k = 0; k < columns; k += kStep) std::copy_n(from + k, kStep, to + k);
    } else {
      std::copy_n(from, columns, to);
    }
    std::fill_n(to + columns, rest, std::uint8_t{0});
  }
  return padded_rows;
}

/// Blocks of about equal size: each reads (and unpacks) all weights, which a few rows left over
/// would not be worth. They have at most `most` rows, on one thread rounded up to whole tiles;
/// several threads get equally many, of rows that each wrote in the operator before, where there
/// are kFewestRows for every thread.
struct RowBlocks {
  std::int64_t rows, count;
  bool by_rows;  // rows are enough to share out; else panels are, too

  RowBlocks(std::int64_t total, std::int64_t most, std::int64_t threads)
      : count((total + most - 1) / most), by_rows(threads == 1 || total >= threads * kFewestRows) {
    if (by_rows) count = (count + threads - 1) / threads * threads;
    rows = (total + count - 1) / count;
    if (threads == 1) rows = (rows + kRowStep - 1) / kRowStep * kRowStep;
    count = (total + rows - 1) / rows;
  }
};

void run(const LinearArgs& args, std::int64_t rows) {
  const std::int64_t panels = padded(args.channels) / kPanel;
  const bool small = rows * args.channels * args.groups * 4 < kThreadWork;
  const std::int64_t threads = small ? 1 : at::get_num_threads();
  const RowBlocks blocks(rows, kRowBlock, threads);
  const std::int64_t splits = blocks.by_rows ? 1 : std::min(panels, 4 * threads);
  const std::int64_t tasks = blocks.count * splits;
  const Kernels& table = kernels(current_level());
  split_work(tasks, small ? tasks : 1, [&](std::int64_t begin, std::int64_t end) {
    std::uint8_t* scratch = thread_scratch(4 * args.groups * kPanel);
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t row = task / splits * blocks.rows, split = task % splits;
      table.linear(args, row, std::min(rows, row + blocks.rows), split * panels / splits,
                   (split + 1) * panels / splits, scratch);
    }
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
  set_weight(args, weight, columns, bits);
  args.channels = channels;
  check_vector(compensation, at::kInt, padded(channels), "compensation");
  check_vector(scale, at::kFloat, padded(channels), "scale");
  check_vector(bias, at::kFloat, padded(channels), "bias");
  rows = input_rows(codes, columns, args.groups);
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
