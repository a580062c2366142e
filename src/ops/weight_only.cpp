#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "ops/kernels/kernels.h"
#include "ops/kernels/weight_only_layout.h"
#include "ops/operators.h"
#include "ops/output.h"
#include "ops/parallel.h"
#include "ops/rearrange.h"
#include "ops/scratch.h"

namespace repquant::ops {
namespace {

/// Rows whose inputs stay in the second-level cache while a panel passes, at most: as many as have
/// this number of elements, but not fewer than kRowBlock, each block of which unpacks all weights.
constexpr std::int64_t kRowBlock = 120;
constexpr std::int64_t kBlockInputs = std::int64_t{1} << 17;
/// A multiple of every level's rows per tile.
constexpr std::int64_t kRowStep = 12;
/// Input elements that one thread should have at least.
constexpr std::int64_t kGrain = 1 << 14;

std::int64_t panels(std::int64_t channels) { return (channels + kPanel - 1) / kPanel; }

/// Narrowed to int or multiplied by others.
void check_counts(std::int64_t channels, std::int64_t columns, std::int64_t bits,
                  std::int64_t group_size) {
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  TORCH_CHECK(bits >= 1 && bits <= 8 && channels >= 0 && channels <= kMost && columns >= 1 &&
                  columns <= kMost && group_size >= 0,
              "repquant::weight_only_linear: no weight has ", bits, " bits, ", channels,
              " channels, ", columns, " columns and groups of ", group_size);
}

/// Inputs in the order of the packed weight.
struct Arranged {
  at::Tensor x;        // [rows, stride]
  at::Tensor offsets;  // [rows, chunks]
};

Arranged arrange(const at::Tensor& x, const ColumnLayout& layout, bool nibbles) {
  const std::int64_t rows = x.size(0), columns = x.size(1), chunks = layout.chunks();
  // An odd number of cache lines: rows of a tile do not meet in the same sets of the cache.
  const std::int64_t stride = ((layout.steps() * kStep + 15) / 16 | 1) * 16;
  Arranged result{at::empty({rows, stride}, x.options()), at::empty({rows, chunks}, x.options())};
  const float* from = x.const_data_ptr<float>();
  float* to = result.x.mutable_data_ptr<float>();
  float* offsets = result.offsets.mutable_data_ptr<float>();
  split_work(
      rows, std::max<std::int64_t>(1, kGrain / columns), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
          arrange_row(from + r * columns, layout, nibbles, to + r * stride, offsets + r * chunks);
        }
      });
  return result;
}

/// Blocks of about equal size: each unpacks all weights, which a few rows left over would not be
/// worth.
std::int64_t rows_per_block(std::int64_t rows, std::int64_t columns) {
  const std::int64_t most = std::max(kRowBlock, kBlockInputs / columns / kRowStep * kRowStep);
  const std::int64_t blocks = (rows + most - 1) / most;
  const std::int64_t even = (rows + blocks - 1) / blocks;
  return blocks == 1 ? even : (even + kRowStep - 1) / kRowStep * kRowStep;
}

void run(const WeightOnlyArgs& args, std::int64_t rows) {
  const std::int64_t count = panels(args.channels);
  const std::int64_t block_rows = rows_per_block(rows, args.columns);
  const std::int64_t blocks = (rows + block_rows - 1) / block_rows;
  const bool small = rows * args.channels * args.columns < kThreadWork;
  const std::int64_t threads = small ? 1 : at::get_num_threads();
  const std::int64_t splits = threads == 1 ? 1 : std::min(count, 4 * threads);
  const std::int64_t floats = (block_rows + kUnpackedColumns) * kPanel;
  const Kernels& table = kernels(current_level());
  split_work(
      blocks * splits, small ? blocks * splits : 1, [&](std::int64_t begin, std::int64_t end) {
        std::uint8_t* scratch = thread_scratch(floats * static_cast<std::int64_t>(sizeof(float)));
        for (std::int64_t task = begin; task < end; ++task) {
          const std::int64_t block = task / splits, split = task % splits;
          table.weight_only(args, block * block_rows, std::min(rows, (block + 1) * block_rows),
                            split * count / splits, (split + 1) * count / splits,
                            reinterpret_cast<float*>(scratch));
        }
      });
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> pack_weight_only_cpu(const at::Tensor& codes,
                                                        const at::Tensor& scale, std::int64_t bits,
                                                        std::int64_t columns,
                                                        std::int64_t group_size) {
  const std::int64_t channels = codes.dim() == 2 ? codes.size(0) : 0;
  check_counts(channels, columns, bits, group_size);
  const bool nibbles = bits <= 4;
  const ColumnLayout layout(columns, group_size);
  TORCH_CHECK(codes.dim() == 2 && codes.scalar_type() == (nibbles ? at::kByte : at::kChar) &&
                  codes.size(1) == (nibbles ? (columns + 1) / 2 : columns),
              "repquant::pack_weight_only: codes do not fit ", bits, " bits and ", columns,
              " columns: ", codes.scalar_type(), " ", codes.sizes());
  TORCH_CHECK(scale.scalar_type() == at::kFloat && scale.numel() == channels * layout.groups(),
              "repquant::pack_weight_only: scales must be float32 [", channels, ", ",
              layout.groups(), "], got ", scale.scalar_type(), " ", scale.sizes());
  const at::Tensor plain = codes.contiguous(), scales = scale.contiguous();
  const std::int64_t count = panels(channels);
  const at::Tensor packed =
      at::zeros({count, layout.steps() * step_bytes(nibbles)}, codes.options().dtype(at::kByte));
  const at::Tensor packed_scale = at::zeros({count, layout.groups(), kPanel}, scale.options());
  pack_weight_only(static_cast<const std::uint8_t*>(plain.const_data_ptr()),
                   scales.const_data_ptr<float>(), channels, columns, layout, nibbles,
                   packed.mutable_data_ptr<std::uint8_t>(), packed_scale.mutable_data_ptr<float>());
  return {packed, packed_scale};
}

at::Tensor weight_only_linear_cpu(const at::Tensor& x, const at::Tensor& weight,
                                  const at::Tensor& scale, const at::Tensor& bias,
                                  std::int64_t channels, std::int64_t columns, std::int64_t bits,
                                  std::int64_t group_size, std::int64_t activation) {
  check_counts(channels, columns, bits, group_size);
  const ColumnLayout layout(columns, group_size);
  const std::int64_t count = panels(channels);
  const bool nibbles = bits <= 4;
  TORCH_CHECK(activation >= 0 && activation < kActivations,
              "repquant::weight_only_linear: unknown activation");
  TORCH_CHECK(x.scalar_type() == at::kFloat && x.dim() >= 1 && x.size(-1) == columns,
              "repquant::weight_only_linear: needs float32 [.., ", columns, "], got ",
              x.scalar_type(), " ", x.sizes());
  TORCH_CHECK(weight.scalar_type() == at::kByte && weight.is_contiguous() &&
                  weight.numel() == count * layout.steps() * step_bytes(nibbles) &&
                  scale.scalar_type() == at::kFloat && scale.is_contiguous() &&
                  scale.numel() == count * layout.groups() * kPanel,
              "repquant::weight_only_linear: the weight was not packed for ", channels,
              " channels, ", columns, " columns, ", bits, " bits and groups of ", group_size);
  TORCH_CHECK(
      bias.scalar_type() == at::kFloat && bias.is_contiguous() && bias.numel() == count * kPanel,
      "repquant::weight_only_linear: the bias must be a float32 vector of ", count * kPanel,
      " elements, got ", bias.scalar_type(), " ", bias.sizes());
  auto sizes = x.sizes().vec();
  sizes.back() = channels;
  at::Tensor out = new_output(sizes, at::kFloat);
  if (out.numel() == 0) return out;
  const at::Tensor rows = in_order(x).view({-1, columns});
  const Arranged arranged = arrange(rows, layout, nibbles);
  WeightOnlyArgs args;
  args.x = arranged.x.const_data_ptr<float>();
  args.stride = arranged.x.size(1);
  args.offsets = arranged.offsets.const_data_ptr<float>();
  args.weight = weight.const_data_ptr<std::uint8_t>();
  args.scale = scale.const_data_ptr<float>();
  args.nibbles = nibbles;
  args.columns = columns;
  args.group_size = group_size;
  args.channels = channels;
  args.bias = bias.const_data_ptr<float>();
  args.activation = static_cast<Activation>(activation);
  args.out = out.mutable_data_ptr<float>();
  run(args, rows.size(0));
  return out;
}

}  // namespace repquant::ops
