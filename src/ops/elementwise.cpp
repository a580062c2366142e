#include <ATen/ATen.h>

#include "ops/grid.h"
#include "ops/kernels/kernels.h"
#include "ops/operators.h"
#include "ops/output.h"
#include "ops/parallel.h"
#include "ops/rearrange.h"
#include "ops/scratch.h"
#include "ops/token_output.h"

namespace repquant::ops {
namespace {

/// Elements that one thread should have at least.
constexpr std::int64_t kGrain = 1 << 14;

std::int64_t rows_per_task(std::int64_t width) {
  return std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(1, width));
}

}  // namespace

at::Tensor norm_quantize_cpu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             double epsilon, std::int64_t max_code, bool root_mean_square) {
  const std::int64_t width = weight.numel();
  TORCH_CHECK(x.scalar_type() == at::kFloat && x.dim() >= 1 && x.size(-1) == width &&
                  bias.numel() == width && weight.is_contiguous() && bias.is_contiguous() &&
                  weight.scalar_type() == at::kFloat && bias.scalar_type() == at::kFloat &&
                  max_code >= 0 && max_code <= 255,
              "repquant::norm_quantize: needs float32 [.., ", width, "], got ", x.scalar_type(),
              " ", x.sizes());
  const at::Tensor input = in_order(x);
  at::Tensor codes = new_output(x.sizes(), at::kByte);
  if (codes.numel() == 0) return codes;
  const NormArgs args{.x = input.const_data_ptr<float>(),
                      .weight = weight.const_data_ptr<float>(),
                      .bias = bias.const_data_ptr<float>(),
                      .codes = codes.mutable_data_ptr<std::uint8_t>(),
                      .width = width,
                      .epsilon = static_cast<float>(epsilon),
                      .max_code = static_cast<int>(max_code),
                      .root_mean_square = root_mean_square};
  const Kernels& table = kernels(current_level());
  split_work(codes.numel() / width, rows_per_task(width),
             [&](std::int64_t begin, std::int64_t end) { table.norm_quantize(args, begin, end); });
  return codes;
}

namespace {

std::tuple<at::Tensor, at::Tensor> quantize_tokens(const at::Tensor& x, std::int64_t top,
                                                   const OptionalTensor& levels, TokenArgs args) {
  TORCH_CHECK(x.scalar_type() == at::kFloat && x.dim() >= 1 && x.size(-1) > 0,
              "repquant::token_quantize: needs float32 [.., K], got ", x.scalar_type(), " ",
              x.sizes());
  const at::Tensor input = in_order(x);
  const TokenOutput out(x.sizes(), x.size(-1), top, levels, args);
  const at::Tensor &codes = out.codes, &rows = out.rows;
  if (codes.numel() == 0) return {codes, rows};
  args.x = input.const_data_ptr<float>();
  const Kernels& table = kernels(current_level());
  split_work(
      codes.numel() / args.width, rows_per_task(args.width),
      [&](std::int64_t begin, std::int64_t end) {
        const auto bytes = kRowsTogether * args.width * static_cast<std::int64_t>(sizeof(float));
        table.token_quantize(args, begin, end, reinterpret_cast<float*>(thread_scratch(bytes)));
      });
  return {codes, rows};
}

std::int64_t width_of(const at::Tensor& x) { return x.dim() >= 1 ? x.size(-1) : 0; }

template <class Args>
void set_norm(Args& args, const char* op, const at::Tensor& x, const at::Tensor& weight,
              const at::Tensor& bias, double epsilon, bool root_mean_square) {
  const std::int64_t width = weight.numel();
  TORCH_CHECK(x.dim() >= 1 && x.size(-1) == width && bias.numel() == width &&
                  weight.is_contiguous() && bias.is_contiguous() &&
                  weight.scalar_type() == at::kFloat && bias.scalar_type() == at::kFloat,
              op, ": needs [.., ", width, "], got ", x.sizes());
  args.weight = weight.const_data_ptr<float>();
  args.bias = bias.const_data_ptr<float>();
  args.epsilon = static_cast<float>(epsilon);
  args.root_mean_square = root_mean_square;
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> token_quantize_cpu(const at::Tensor& x, std::int64_t top,
                                                      const OptionalTensor& levels,
                                                      const OptionalTensor& multiplier,
                                                      const OptionalTensor& offset) {
  TORCH_CHECK(multiplier || !offset, "repquant::token_quantize: an offset without a multiplier");
  TokenArgs args;
  if (!scales_channels(width_of(x), multiplier, offset)) {
    const at::Tensor scaled = at::mul(x, *multiplier);  // broadcasts: not on the way
    return quantize_tokens(offset ? at::add(scaled, *offset) : scaled, top, levels, args);
  }
  set_scale(args, multiplier, offset);
  return quantize_tokens(x, top, levels, args);
}

namespace {

/// Checks the arguments, keeps what the kernel reads, and runs it on all rows once there is an
/// output.
class GroupRows {
 public:
  GroupRows(const char* op, const at::Tensor& x, std::int64_t group_size, std::int64_t top,
            const OptionalTensor& levels) {
    TORCH_CHECK(x.scalar_type() == at::kFloat && x.dim() >= 1 && x.size(-1) > 0, op,
                ": needs float32 [.., K], got ", x.scalar_type(), " ", x.sizes());
    TORCH_CHECK(group_size > 0, op, ": no row has groups of ", group_size);
    check_top(top);
    input_ = in_order(x);
    args.x = input_.const_data_ptr<float>();
    args.width = x.size(-1);
    args.group_size = std::min(group_size, args.width);
    args.top = static_cast<int>(top);
    if (!levels) return;
    levels_ = checked_levels(*levels, top);
    args.levels = levels_.const_data_ptr<std::uint8_t>();
    args.level_count = static_cast<int>(levels_.numel());
  }
  void run() const {
    const Kernels& table = kernels(current_level());
    split_work(input_.numel() / args.width, rows_per_task(args.width),
               [&](std::int64_t begin, std::int64_t end) {
                 const auto bytes = args.scratch() * static_cast<std::int64_t>(sizeof(float));
                 table.group_quantize(args, begin, end,
                                      reinterpret_cast<float*>(thread_scratch(bytes)));
               });
  }

  GroupArgs args;

 private:
  at::Tensor input_, levels_;
};

}  // namespace

at::Tensor group_quantize_cpu(const at::Tensor& x, std::int64_t group_size, std::int64_t top,
                              const OptionalTensor& levels) {
  GroupRows rows("repquant::group_quantize", x, group_size, top, levels);
  at::Tensor out = new_output(x.sizes(), at::kFloat);
  rows.args.out = out.mutable_data_ptr<float>();
  rows.run();
  return out;
}

namespace {

std::tuple<at::Tensor, at::Tensor> codes_of(GroupRows& rows, const at::Tensor& x) {
  auto sizes = x.sizes().vec();
  sizes.back() = rows.args.groups();
  sizes.push_back(2);
  at::Tensor codes = new_output(x.sizes(), at::kByte), grids = new_output(sizes, at::kFloat);
  rows.args.codes = codes.mutable_data_ptr<std::uint8_t>();
  rows.args.grids = grids.mutable_data_ptr<float>();
  rows.run();
  return {codes, grids};
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> group_codes_cpu(const at::Tensor& x, std::int64_t group_size,
                                                   std::int64_t top, const OptionalTensor& levels) {
  GroupRows rows("repquant::group_codes", x, group_size, top, levels);
  return codes_of(rows, x);
}

std::tuple<at::Tensor, at::Tensor> norm_group_codes_cpu(const at::Tensor& x,
                                                        const at::Tensor& weight,
                                                        const at::Tensor& bias, double epsilon,
                                                        bool root_mean_square,
                                                        std::int64_t group_size, std::int64_t top,
                                                        const OptionalTensor& levels) {
  const char* name = "repquant::norm_group_codes";
  GroupRows rows(name, x, group_size, top, levels);
  set_norm(rows.args, name, x, weight, bias, epsilon, root_mean_square);
  return codes_of(rows, x);
}

std::tuple<at::Tensor, at::Tensor> norm_tokens_cpu(const at::Tensor& x, const at::Tensor& weight,
                                                   const at::Tensor& bias, double epsilon,
                                                   bool root_mean_square, std::int64_t top,
                                                   const OptionalTensor& levels) {
  TokenArgs args;
  set_norm(args, "repquant::norm_tokens", x, weight, bias, epsilon, root_mean_square);
  return quantize_tokens(x, top, levels, args);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> norm_and_tokens_cpu(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double epsilon,
    bool root_mean_square, std::int64_t top, const OptionalTensor& levels,
    const OptionalTensor& multiplier, const OptionalTensor& offset) {
  check_scale("repquant::norm_and_tokens", width_of(x), multiplier, offset);
  TokenArgs args;
  set_scale(args, multiplier, offset);
  set_norm(args, "repquant::norm_tokens", x, weight, bias, epsilon, root_mean_square);
  const at::Tensor y = new_output(x.sizes(), at::kFloat);
  args.normal = y.mutable_data_ptr<float>();
  const auto [codes, rows] = quantize_tokens(x, top, levels, args);
  return {y, codes, rows};
}

namespace {

/// Grids [H, 1, 1] or [H, 1, D] of x [.., H, T, D]: each head by itself.
at::Tensor quantize_heads(const at::Tensor& x, const at::Tensor& multiplier,
                          const at::Tensor& offset, QuantizeArgs args, bool is_signed) {
  TORCH_CHECK(multiplier.dim() == 3 && offset.dim() == 3 && x.dim() >= 3 && x.size(-3) > 0 &&
                  x.size(-1) > 0,
              "repquant::quantize: grids ", multiplier.sizes(), " and ", offset.sizes(),
              " do not fit ", x.sizes());
  const std::int64_t heads = x.size(-3), width = x.size(-1);
  args.per_channel = multiplier.size(-1) > 1 || offset.size(-1) > 1;
  const std::int64_t depth = args.per_channel ? width : 1;
  const auto spread = [&](const at::Tensor& grid) {
    return spread_grid(grid, heads, depth, at::kFloat, "quantize: a grid").contiguous();
  };
  const at::Tensor m = spread(multiplier), a = spread(offset), input = in_order(x);
  at::Tensor codes = new_output(x.sizes(), is_signed ? at::kChar : at::kByte);
  if (codes.numel() == 0) return codes;
  args.width = width;
  const std::int64_t rows = x.size(-2);
  const Kernels& table = kernels(current_level());
  split_work(codes.numel() / (rows * width), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      QuantizeArgs part = args;
      part.x = input.const_data_ptr<float>() + block * rows * width;
      part.codes = static_cast<std::uint8_t*>(codes.mutable_data_ptr()) + block * rows * width;
      part.multiplier = m.const_data_ptr<float>() + block % heads * depth;
      part.offset = a.const_data_ptr<float>() + block % heads * depth;
      table.quantize(part, 0, rows);
    }
  });
  return codes;
}

}  // namespace

at::Tensor quantize_cpu(const at::Tensor& x, const at::Tensor& multiplier, const at::Tensor& offset,
                        std::int64_t max_code, bool quadratic, bool is_signed, std::int64_t shift) {
  const bool per_channel = multiplier.numel() > 1 || offset.numel() > 1;
  TORCH_CHECK(x.scalar_type() == at::kFloat && max_code >= 0 && max_code <= 255 &&
                  multiplier.scalar_type() == at::kFloat && offset.scalar_type() == at::kFloat,
              "repquant::quantize: needs float32, got ", x.scalar_type());
  TORCH_CHECK(multiplier.numel() > 0 && offset.numel() > 0 && (!quadratic || max_code <= 15) &&
                  shift >= 0 && shift <= 128,
              "repquant::quantize: an empty grid, or codes outside 8 bits");
  if (multiplier.dim() == 3 || offset.dim() == 3) {
    QuantizeArgs args;
    args.quadratic = quadratic;
    args.max_code = static_cast<int>(max_code);
    args.shift = is_signed ? static_cast<int>(shift) : 0;
    return quantize_heads(x, multiplier, offset, args, is_signed);
  }
  TORCH_CHECK(!per_channel || (x.dim() >= 1 && multiplier.dim() <= 1 && offset.dim() <= 1),
              "repquant::quantize: grids must be scalars or vectors of the last dimension");
  const std::int64_t width = x.dim() == 0 ? 1 : x.size(-1);
  const auto spread = [&](const at::Tensor& t) {
    return per_channel ? t.expand({width}).contiguous() : t.contiguous();
  };
  // One grid for all: the order of elements in memory (channels last) may stay.
  const bool keep_order = !per_channel && x.is_non_overlapping_and_dense();
  const at::Tensor input = keep_order ? x : in_order(x);
  const at::Tensor m = spread(multiplier), a = spread(offset);
  at::Tensor codes = new_output(input.sizes(), is_signed ? at::kChar : at::kByte);
  if (keep_order) codes = codes.as_strided(input.sizes(), input.strides());
  if (codes.numel() == 0) return codes;
  const QuantizeArgs args{input.const_data_ptr<float>(),
                          static_cast<std::uint8_t*>(codes.mutable_data_ptr()),
                          width,
                          m.const_data_ptr<float>(),
                          a.const_data_ptr<float>(),
                          per_channel,
                          quadratic,
                          static_cast<int>(max_code),
                          is_signed ? static_cast<int>(shift) : 0};
  const Kernels& table = kernels(current_level());
  split_work(codes.numel() / width, rows_per_task(width),
             [&](std::int64_t begin, std::int64_t end) { table.quantize(args, begin, end); });
  return codes;
}

std::string cpu_level() { return level_name(current_level()); }

std::vector<std::string> cpu_levels() {
  std::vector<std::string> names;
  for (const CpuLevel level : available_levels()) names.emplace_back(level_name(level));
  return names;
}

std::vector<std::string> known_cpu_levels() {
  std::vector<std::string> names;
  for (const CpuLevel level : kKnownLevels) names.emplace_back(level_name(level));
  return names;
}

std::string set_cpu_level(const std::string& level) {
  for (const CpuLevel known : kKnownLevels) {
    if (level != level_name(known)) continue;
    set_level(known);
    return cpu_level();
  }
  TORCH_CHECK(false, "repquant::set_cpu_level: unknown level '", level, "'; expected one of ",
              known_cpu_levels());
}

}  // namespace repquant::ops
