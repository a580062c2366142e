// Operands of an attention on a scale of each row's own.
#include <ATen/ATen.h>

#include "ops/kernels/kernels.h"
#include "ops/operators.h"
#include "ops/output.h"
#include "ops/parallel.h"
#include "ops/rearrange.h"

namespace repquant::ops {
namespace {

/// Rows that one thread should have at least.
constexpr std::int64_t kGrain = 256;

}  // namespace

std::tuple<at::Tensor, at::Tensor> operand_rows_cpu(const at::Tensor& x, std::int64_t bits) {
  TORCH_CHECK(
      x.scalar_type() == at::kFloat && x.dim() >= 2 && x.size(-1) > 0 && bits >= 2 && bits <= 8,
      "repquant::operand_rows: needs float32 [.., T, d] and 2 to 8 bits, got ", x.scalar_type(),
      " ", x.sizes(), ", ", bits);
  at::Tensor rows = x;
  while (rows.dim() < 4) rows = rows.unsqueeze(0);
  if (rows.dim() > 4) rows = rows.flatten(0, rows.dim() - 4);
  if (rows.stride(3) != 1) rows = in_order(rows);
  std::vector<std::int64_t> sizes = x.sizes().vec();
  const at::Tensor codes = new_output(sizes, at::kChar);
  sizes.back() = 1;
  const at::Tensor scale = new_output(sizes, at::kFloat);
  if (codes.numel() == 0) return {codes, scale};
  const OperandRowsArgs args{
      .x = rows.const_data_ptr<float>(),
      .strides = {rows.stride(0), rows.stride(1), rows.stride(2)},
      .heads = rows.size(1),
      .tokens = rows.size(2),
      .width = rows.size(3),
      .top = bits == 8 ? 127 : (1 << bits) - 1,
      .odd = bits < 8,
      .codes = codes.mutable_data_ptr<std::int8_t>(),
      .scale = scale.mutable_data_ptr<float>(),
  };
  const Kernels& table = kernels(current_level());
  split_work(scale.numel(), kGrain,
             [&](std::int64_t begin, std::int64_t end) { table.operand_rows(args, begin, end); });
  return {codes, scale};
}

}  // namespace repquant::ops
