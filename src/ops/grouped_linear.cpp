// Linears of groups of channels, each with codes on grids of its own.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "ops/kernels/kernels.h"
#include "ops/operators.h"
#include "ops/output.h"
#include "ops/packed_weight.h"
#include "ops/parallel.h"
#include "ops/rearrange.h"
#include "ops/scratch.h"
#include "ops/token_output.h"

namespace repquant::ops {
namespace {

/// Rows that go through all groups while they are in the first-level cache: a multiple of every
/// level's rows per tile.
constexpr std::int64_t kRows = 96;

/// `rows` rows of `width` floats from one place to another; distances between rows in floats.
void copy_rows(const float* from, std::int64_t from_pitch, float* to, std::int64_t to_pitch,
               std::int64_t rows, std::int64_t width) {
  constexpr std::int64_t kStep = 16;  // of a size that is known, which is no call
  for (std::int64_t r = 0; r < rows; ++r, from += from_pitch, to += to_pitch) {
    std::int64_t i = 0;
    for (; i + kStep <= width; i += kStep) std::copy_n(from + i, kStep, to + i);
    std::copy_n(from + i, width - i, to + i);
  }
}

/// The groups' arguments, of which one after the other is run, and what keeps them alive.
struct Groups {
  std::int64_t count = 0, channels = 0, columns = 0;
  TokenArgs tokens;
  LinearArgs linear;
  std::vector<at::Tensor> levels;
  std::int64_t weight_bytes = 0;  // of a group

  std::int64_t panels() const { return padded(channels) / kPanel; }
  std::int64_t unpacked() const { return columns * kPanel; }  // bytes; a multiple of 64
  /// Floats of rows before they become codes, of those scaled, of outputs, of grids.
  std::int64_t floats() const { return kRows * (columns + channels + 2) + kRowsTogether * columns; }
  std::int64_t scratch() const {
    return unpacked() + floats() * static_cast<std::int64_t>(sizeof(float)) + kRows * columns;
  }

  /// Of `rows` rows, x [rows, count columns] to y [rows, count channels].
  void run(const Kernels& table, const float* x, float* y, std::int64_t rows,
           std::uint8_t* memory) const {
    auto* scaled = reinterpret_cast<float*>(memory + unpacked());
    float* values = scaled + kRowsTogether * columns;
    float* outputs = values + kRows * columns;
    float* grids = outputs + kRows * channels;
    auto* codes = reinterpret_cast<std::uint8_t*>(grids + 2 * kRows);
    for (std::int64_t g = 0; g < count; ++g) {
      copy_rows(x + g * columns, count * columns, values, columns, rows, columns);
      TokenArgs grid = tokens;
      grid.x = values;
      grid.codes = codes;
      grid.rows = grids;
      if (grid.multiplier != nullptr) grid.multiplier += g * columns;
      if (grid.offset != nullptr) grid.offset += g * columns;
      if (!levels.empty()) {
        const at::Tensor& codebook = levels[static_cast<std::size_t>(g)];
        grid.levels = codebook.const_data_ptr<std::uint8_t>();
        grid.level_count = static_cast<int>(codebook.numel());
      }
      table.token_quantize(grid, 0, rows, scaled);
      LinearArgs product = linear;
      product.x = codes;
      product.rows = grids;
      product.out = outputs;
      product.weight += g * weight_bytes;
      if (product.levels != nullptr) product.levels += g * weight_bytes;
      product.compensation += g * padded(channels);
      product.scale += g * padded(channels);
      product.bias += g * padded(channels);
      product.sums += g * padded(channels);
      table.linear(product, 0, rows, 0, panels(), memory);
      copy_rows(outputs, channels, y + g * channels, count * channels, rows, channels);
    }
  }
};

}  // namespace

at::Tensor grouped_linear_cpu(const at::Tensor& x, const at::Tensor& weight,
                              const at::Tensor& compensation, const at::Tensor& scale,
                              const at::Tensor& bias, const at::Tensor& sums, std::int64_t channels,
                              std::int64_t columns, std::int64_t bits, std::int64_t activation,
                              std::int64_t top, at::TensorList levels,
                              const OptionalTensor& multiplier, const OptionalTensor& offset) {
  constexpr const char* kName = "repquant::grouped_linear";
  TORCH_CHECK(activation >= 0 && activation < kActivations, kName, ": unknown activation");
  check_counts(channels, columns, bits);
  Groups groups;
  LinearArgs& linear = groups.linear;
  linear.groups = packed_groups(columns, bits <= 4);
  TORCH_CHECK(x.scalar_type() == at::kFloat && x.dim() >= 1 && weight.dim() >= 1 &&
                  weight.size(0) >= 1 && weight.size(0) <= x.size(-1) && channels >= 1 &&
                  x.size(-1) == weight.size(0) * columns && 4 * linear.groups == columns,
              kName, ": needs float32 [.., groups x columns] with columns in whole groups of the ",
              "packed weight, got ", x.scalar_type(), " ", x.sizes(), " for ", columns,
              " columns and a weight of ", weight.sizes());
  const std::int64_t count = weight.size(0), vector = count * padded(channels);
  check_weight(weight, count, channels, columns, bits);
  check_vector(compensation, at::kInt, vector, "compensation");
  check_vector(scale, at::kFloat, vector, "scale");
  check_vector(bias, at::kFloat, vector, "bias");
  check_vector(sums, at::kFloat, vector, "sums");
  check_scale(kName, count * columns, multiplier, offset);
  TORCH_CHECK(levels.empty() || static_cast<std::int64_t>(levels.size()) == count, kName,
              ": needs levels for all groups or for none");
  groups.count = count;
  groups.channels = linear.channels = channels;
  groups.columns = groups.tokens.width = columns;
  groups.weight_bytes = weight.numel() / count;
  check_top(top);
  groups.tokens.top = static_cast<int>(top);
  for (const at::Tensor& codebook : levels) groups.levels.push_back(checked_levels(codebook, top));
  set_scale(groups.tokens, multiplier, offset);
  set_weight(linear, weight, bits);
  linear.groups = packed_groups(columns, bits <= 4);
  linear.compensation = compensation.const_data_ptr<std::int32_t>();
  linear.scale = scale.const_data_ptr<float>();
  linear.bias = bias.const_data_ptr<float>();
  linear.sums = sums.const_data_ptr<float>();
  linear.activation = static_cast<Activation>(activation);

  const at::Tensor input = in_order(x);
  auto sizes = x.sizes().vec();
  sizes.back() = count * channels;
  at::Tensor out = new_output(sizes, at::kFloat);
  const std::int64_t rows = x.numel() / x.size(-1);
  if (rows == 0) return out;
  const auto* from = input.const_data_ptr<float>();
  auto* to = out.mutable_data_ptr<float>();
  const Kernels& table = kernels(current_level());
  const std::int64_t work = count * channels * columns;
  split_work(rows, std::max(kRows, kThreadWork / work), [&](std::int64_t begin, std::int64_t end) {
    std::uint8_t* memory = thread_scratch(groups.scratch());
    for (std::int64_t row = begin; row < end; row += kRows) {
      groups.run(table, from + row * count * columns, to + row * count * channels,
                 std::min(kRows, end - row), memory);
    }
  });
  return out;
}

}  // namespace repquant::ops
