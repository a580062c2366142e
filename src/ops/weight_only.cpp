#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "ops/kernels/kernels.h"
#include "ops/kernels/weight_only_layout.h"
#include "ops/operators.h"
#include "ops/output.h"
#include "ops/packed_weight.h"
#include "ops/parallel.h"
#include "ops/rearrange.h"
#include "ops/scratch.h"

namespace repquant::ops {
namespace {

/// Rows that share what is unpacked, at most.
constexpr std::int64_t kRowBlock = 512;
/// A multiple of every level's rows per tile.
constexpr std::int64_t kRowStep = 12;
/// Input elements that one thread should have at least.
constexpr std::int64_t kGrain = 1 << 14;

/// Up to 4 bits with what nibbles stand for in front, as packed weights of linear().
std::int64_t packed_size(const ColumnLayout& layout, std::int64_t channels, bool nibbles) {
  return (nibbles ? kLevelBytes : 0) +
         padded(channels) / kPanel * layout.steps() * step_bytes(nibbles);
}

void check_grouped(std::int64_t channels, std::int64_t columns, std::int64_t bits,
                   std::int64_t group_size) {
  check_counts(channels, columns, bits, "weight_only_linear");
  TORCH_CHECK(group_size >= 0, "repquant::weight_only_linear: no weight has groups of ",
              group_size);
}

/// Inputs rounded to 16 bits, in the order of the packed weight.
struct Rounded {
  at::Tensor x;       // int16 [rows, stride]
  at::Tensor chunks;  // bytes of InputChunk [rows, chunks]
};

Rounded round_rows(const at::Tensor& x, std::int64_t group_size) {
  constexpr std::int64_t kLine = 32, kRoom = 16;
  const std::int64_t rows = x.size(0), columns = x.size(1);
  const ColumnLayout layout(columns, group_size);
  // An odd number of cache lines: rows of a tile do not meet in the same sets of the cache.
  const std::int64_t lines = (layout.steps() * kStep + kRoom + kLine - 1) / kLine | 1;
  const auto chunk_bytes = layout.chunks() * static_cast<std::int64_t>(sizeof(InputChunk));
  Rounded result{at::empty({rows, lines * kLine}, x.options().dtype(at::kShort)),
                 at::empty({rows, chunk_bytes}, x.options().dtype(at::kByte))};
  WeightOnlyInputs args;
  args.x = x.const_data_ptr<float>();
  args.columns = columns;
  args.group_size = group_size;
  args.out = result.x.mutable_data_ptr<std::int16_t>();
  args.stride = result.x.size(1);
  args.chunks = static_cast<InputChunk*>(result.chunks.mutable_data_ptr());
  const Kernels& table = kernels(current_level());
  split_work(rows, std::max<std::int64_t>(1, kGrain / columns),
             [&](std::int64_t begin, std::int64_t end) { table.round_inputs(args, begin, end); });
  return result;
}

/// Blocks of about equal size: each unpacks all weights, which a few rows left over would not be
/// worth.
std::int64_t rows_per_block(std::int64_t rows) {
  const std::int64_t blocks = (rows + kRowBlock - 1) / kRowBlock;
  const std::int64_t even = (rows + blocks - 1) / blocks;
  return blocks == 1 ? even : (even + kRowStep - 1) / kRowStep * kRowStep;
}

void run(const WeightOnlyArgs& args, std::int64_t rows) {
  const std::int64_t count = padded(args.channels) / kPanel;
  const std::int64_t block_rows = rows_per_block(rows);
  const std::int64_t blocks = (rows + block_rows - 1) / block_rows;
  const bool small = rows * args.channels * args.columns < kThreadWork;
  const std::int64_t threads = small ? 1 : at::get_num_threads();
  const std::int64_t splits = threads == 1 ? 1 : std::min(count, 4 * threads);
  const Kernels& table = kernels(current_level());
  split_work(
      blocks * splits, small ? blocks * splits : 1, [&](std::int64_t begin, std::int64_t end) {
        std::uint8_t* scratch = thread_scratch(weight_only_scratch(block_rows));
        for (std::int64_t task = begin; task < end; ++task) {
          const std::int64_t block = task / splits, split = task % splits;
          table.weight_only(args, block * block_rows, std::min(rows, (block + 1) * block_rows),
                            split * count / splits, (split + 1) * count / splits, scratch);
        }
      });
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> pack_weight_only_cpu(const at::Tensor& codes,
                                                        const at::Tensor& scale, std::int64_t bits,
                                                        std::int64_t columns,
                                                        std::int64_t group_size,
                                                        const OptionalTensor& levels) {
  const std::int64_t channels = codes.dim() == 2 ? codes.size(0) : 0;
  check_grouped(channels, columns, bits, group_size);
  const bool nibbles = bits <= 4;
  const ColumnLayout layout(columns, group_size);
  TORCH_CHECK(codes.dim() == 2 && codes.scalar_type() == (nibbles ? at::kByte : at::kChar) &&
                  codes.size(1) == (nibbles ? (columns + 1) / 2 : columns),
              "repquant::pack_weight_only: codes do not fit ", bits, " bits and ", columns,
              " columns: ", codes.scalar_type(), " ", codes.sizes());
  TORCH_CHECK(scale.scalar_type() == at::kFloat && scale.numel() == channels * layout.groups(),
              "repquant::pack_weight_only: scales must be float32 [", channels, ", ",
              layout.groups(), "], got ", scale.scalar_type(), " ", scale.sizes());
  const at::Tensor table = nibble_table(levels, nibbles, "pack_weight_only");
  const at::Tensor plain = codes.contiguous(), scales = scale.contiguous();
  const at::Tensor packed =
      at::zeros({packed_size(layout, channels, nibbles)}, codes.options().dtype(at::kByte));
  const at::Tensor packed_scale =
      at::zeros({padded(channels) / kPanel, layout.groups(), kPanel}, scale.options());
  auto* steps = packed.mutable_data_ptr<std::uint8_t>();
  if (nibbles) {
    const auto* level = table.const_data_ptr<std::int8_t>();
    for (std::int64_t i = 0; i < table.numel(); ++i) {
      steps[i] = static_cast<std::uint8_t>(level[i] + kWeightOffset);
    }
    steps += kLevelBytes;
  }
  pack_weight_only(static_cast<const std::uint8_t*>(plain.const_data_ptr()),
                   scales.const_data_ptr<float>(), channels, columns, layout, nibbles, steps,
                   packed_scale.mutable_data_ptr<float>());
  return {packed, packed_scale};
}

at::Tensor weight_only_linear_cpu(const at::Tensor& x, const at::Tensor& weight,
                                  const at::Tensor& scale, const at::Tensor& bias,
                                  std::int64_t channels, std::int64_t columns, std::int64_t bits,
                                  std::int64_t group_size, std::int64_t activation) {
  check_grouped(channels, columns, bits, group_size);
  const ColumnLayout layout(columns, group_size);
  const std::int64_t lanes = padded(channels);
  const bool nibbles = bits <= 4;
  TORCH_CHECK(activation >= 0 && activation < kActivations,
              "repquant::weight_only_linear: unknown activation");
  TORCH_CHECK(x.scalar_type() == at::kFloat && x.dim() >= 1 && x.size(-1) == columns,
              "repquant::weight_only_linear: needs float32 [.., ", columns, "], got ",
              x.scalar_type(), " ", x.sizes());
  TORCH_CHECK(weight.scalar_type() == at::kByte && weight.is_contiguous() &&
                  weight.numel() == packed_size(layout, channels, nibbles) &&
                  scale.scalar_type() == at::kFloat && scale.is_contiguous() &&
                  scale.numel() == lanes * layout.groups(),
              "repquant::weight_only_linear: the weight was not packed for ", channels,
              " channels, ", columns, " columns, ", bits, " bits and groups of ", group_size);
  TORCH_CHECK(bias.scalar_type() == at::kFloat && bias.is_contiguous() && bias.numel() == lanes,
              "repquant::weight_only_linear: the bias must be a float32 vector of ", lanes,
              " elements, got ", bias.scalar_type(), " ", bias.sizes());
  auto sizes = x.sizes().vec();
  sizes.back() = channels;
  at::Tensor out = new_output(sizes, at::kFloat);
  if (out.numel() == 0) return out;
  const at::Tensor rows = in_order(x).view({-1, columns});
  const Rounded inputs = round_rows(rows, group_size);
  WeightOnlyArgs args;
  args.x = inputs.x.const_data_ptr<std::int16_t>();
  args.stride = inputs.x.size(1);
  args.chunks = static_cast<const InputChunk*>(inputs.chunks.const_data_ptr());
  const auto* packed = weight.const_data_ptr<std::uint8_t>();
  args.levels = nibbles ? packed : nullptr;
  args.weight = packed + (nibbles ? kLevelBytes : 0);
  args.scale = scale.const_data_ptr<float>();
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
