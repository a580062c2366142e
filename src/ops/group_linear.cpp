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

namespace repquant::ops {
namespace {

/// Rows whose codes stay in the second-level cache while all panels pass, at most.
constexpr std::int64_t kRowBlock = 256;

void check_group(const char* name, std::int64_t channels, std::int64_t columns, std::int64_t bits,
                 std::int64_t group_size) {
  check_counts(channels, columns, bits, name);
  TORCH_CHECK(fits_group_linear(bits, group_size), "repquant::", name, ": no product of ", bits,
              " bits has groups of ", group_size);
}

std::int64_t group_count(std::int64_t columns, std::int64_t group_size) {
  return (columns + group_size - 1) / group_size;
}

void run(const GroupLinearArgs& args, std::int64_t rows) {
  const std::int64_t panels = padded(args.channels) / kPanel;
  const bool small = rows * args.channels * args.quads * 4 < kThreadWork;
  const std::int64_t threads = small ? 1 : at::get_num_threads();
  const RowBlocks blocks(rows, kRowBlock, threads);
  const Kernels& table = kernels(current_level());
  blocks.each_part(panels, threads,
                   [&](std::int64_t row_begin, std::int64_t row_end, std::int64_t panel_begin,
                       std::int64_t panel_end) {
                     table.group_linear(args, row_begin, row_end, panel_begin, panel_end,
                                        thread_scratch(args.scratch()));
                   });
}

}  // namespace

bool fits_group_linear(std::int64_t bits, std::int64_t group_size) {
  // Whole steps of the packed weight; and sums of as many products of 8 bits stay below 2^31.
  constexpr std::int64_t kMost = 65536;
  return group_size > 0 && group_size % (bits <= 4 ? 8 : 4) == 0 && group_size <= kMost;
}

std::tuple<at::Tensor, at::Tensor> pack_group_weight_cpu(const at::Tensor& codes,
                                                         const at::Tensor& scale, std::int64_t bits,
                                                         std::int64_t columns,
                                                         std::int64_t group_size,
                                                         const OptionalTensor& levels) {
  const char* name = "pack_group_weight";
  const std::int64_t channels = codes.dim() == 2 ? codes.size(0) : 0;
  check_group(name, channels, columns, bits, group_size);
  const std::int64_t groups = group_count(columns, group_size);
  const bool of_rows = scale.numel() == channels;
  TORCH_CHECK(scale.scalar_type() == at::kFloat && (of_rows || scale.numel() == channels * groups),
              "repquant::", name, ": scales must be float32 [", channels, "] or [", channels, ", ",
              groups, "], got ", scale.scalar_type(), " ", scale.sizes());
  at::Tensor stored = codes;
  if (bits <= 4 && columns % 2 == 1) {
    // As all padding: the first level.
    stored = codes.clone();
    stored.select(1, columns / 2).bitwise_and_(15);
  }
  const at::Tensor packed = std::get<0>(pack_weight_cpu(stored, bits, columns, levels));
  const at::Tensor full = of_rows ? scale.reshape({channels, 1}).expand({channels, groups})
                                  : scale.reshape({channels, groups});
  const at::Tensor panels = at::constant_pad_nd(full, {0, 0, 0, padded(channels) - channels});
  return {packed, panels.view({-1, kPanel, groups}).transpose(1, 2).contiguous()};
}

at::Tensor group_linear_cpu(const at::Tensor& codes, const at::Tensor& grids,
                            const at::Tensor& weight, const at::Tensor& scale,
                            const at::Tensor& bias, std::int64_t channels, std::int64_t columns,
                            std::int64_t bits, std::int64_t group_size, std::int64_t activation,
                            const OptionalTensor& residual) {
  const char* name = "group_linear";
  check_group(name, channels, columns, bits, group_size);
  const std::int64_t lanes = padded(channels), groups = group_count(columns, group_size);
  TORCH_CHECK(activation >= 0 && activation < kActivations, "repquant::", name,
              ": unknown activation");
  check_weight(weight, 1, channels, columns, bits, name);
  check_vector(scale, at::kFloat, groups * lanes, "scale", name);
  check_vector(bias, at::kFloat, lanes, "bias", name);
  GroupLinearArgs args;
  set_weight(args, weight, bits);
  args.quads = packed_groups(columns, bits <= 4);
  args.group_quads = group_size / 4;
  if (args.levels != nullptr) {
    args.padding = static_cast<std::int32_t>(4 * args.quads - columns) * args.levels[0];
  }
  const at::Tensor rows = input_rows("repquant::group_linear", codes, columns, args.quads);
  TORCH_CHECK(grids.scalar_type() == at::kFloat && grids.numel() == 2 * groups * rows.size(0),
              "repquant::", name, ": grids must be float32 [.., ", groups, ", 2], got ",
              grids.scalar_type(), " ", grids.sizes());
  const at::Tensor row_grids = grids.contiguous();
  auto sizes = codes.sizes().vec();
  sizes.back() = channels;
  at::Tensor out = new_output(sizes, at::kFloat);
  at::Tensor added;
  const bool fused =
      residual && residual->sizes() == out.sizes() && residual->scalar_type() == at::kFloat;
  if (fused) {
    added = in_order(*residual);
    args.residual = added.const_data_ptr<float>();
  }
  args.x = rows.const_data_ptr<std::uint8_t>();
  args.grids = row_grids.const_data_ptr<float>();
  args.scale = scale.const_data_ptr<float>();
  args.channels = channels;
  args.bias = bias.const_data_ptr<float>();
  args.activation = static_cast<Activation>(activation);
  args.out = out.mutable_data_ptr<float>();
  if (out.numel() > 0) run(args, rows.size(0));
  return residual && !fused ? at::add(*residual, out) : out;
}

}  // namespace repquant::ops
