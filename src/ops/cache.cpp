// Keys and values that a decoder keeps as codes.
#include <ATen/ATen.h>

#include "ops/grid.h"
#include "ops/kernels/kernels.h"
#include "ops/operators.h"
#include "ops/output.h"
#include "ops/parallel.h"

namespace repquant::ops {
namespace {

/// Rows that one thread should have at least.
constexpr std::int64_t kGrain = 64;

/// Codes as one block of memory. Where an empty past in float32 stood before the first of them, the
/// operator that joins both has made them float32, too.
at::Tensor rows_of(const at::Tensor& codes) {
  TORCH_CHECK(codes.dim() >= 1 && codes.size(-1) > kGridBytes &&
                  (codes.scalar_type() == at::kByte || codes.scalar_type() == at::kFloat),
              "repquant::cache_dequantize: needs uint8 [.., d + 8], got ", codes.scalar_type(), " ",
              codes.sizes());
  return codes.to(at::kByte).contiguous();
}

at::Tensor output_of(const at::Tensor& rows, at::ScalarType type) {
  std::vector<std::int64_t> sizes = rows.sizes().vec();
  sizes.back() -= kGridBytes;
  return new_output(sizes, type);
}

void read_rows(const at::Tensor& rows, CacheArgs args) {
  const std::int64_t stride = rows.size(-1);
  args.codes = rows.const_data_ptr<std::uint8_t>();
  args.width = stride - kGridBytes;
  const Kernels& table = kernels(current_level());
  split_work(rows.numel() / stride, kGrain,
             [&](std::int64_t begin, std::int64_t end) { table.read_cache(args, begin, end); });
}

}  // namespace

at::Tensor cache_quantize_cpu(const at::Tensor& x) {
  const auto [codes, grids] = token_quantize_cpu(x, 255, {});
  return at::cat({codes, grids.view(at::kByte)}, -1);
}

at::Tensor cache_dequantize_cpu(const at::Tensor& codes) {
  const at::Tensor rows = rows_of(codes);
  at::Tensor out = output_of(rows, at::kFloat);
  if (out.numel() > 0) read_rows(rows, {.values = out.mutable_data_ptr<float>()});
  return out;
}

at::Tensor cache_operand_cpu(const at::Tensor& codes, const at::Tensor& multiplier,
                             const at::Tensor& offset, std::int64_t max_code, std::int64_t shift) {
  TORCH_CHECK(max_code >= 0 && max_code <= 255 && shift >= 0 && shift <= 128,
              "repquant::cache_operand: codes outside 8 bits");
  const at::Tensor rows = rows_of(codes);
  at::Tensor out = output_of(rows, at::kChar);
  const std::int64_t width = out.size(-1), tokens = out.dim() > 1 ? out.size(-2) : 1,
                     heads = out.dim() > 2 ? out.size(-3) : 1;
  const bool per_channel = multiplier.dim() > 0 && multiplier.size(-1) > 1;
  const std::int64_t depth = per_channel ? width : 1;
  const auto spread = [&](const at::Tensor& grid) {
    return spread_grid(grid, heads, depth, at::kFloat, "cache_operand: a grid").contiguous();
  };
  const at::Tensor m = spread(multiplier), a = spread(offset);
  if (out.numel() == 0) return out;
  read_rows(rows, {.operands = static_cast<std::uint8_t*>(out.mutable_data_ptr()),
                   .tokens = tokens,
                   .heads = heads,
                   .multiplier = m.const_data_ptr<float>(),
                   .offset = a.const_data_ptr<float>(),
                   .grid_head = depth,
                   .per_channel = per_channel,
                   .max_code = static_cast<int>(max_code),
                   .shift = static_cast<int>(shift)});
  return out;
}

}  // namespace repquant::ops
