#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "ops/kernels/kernels.h"
#include "ops/operators.h"
#include "ops/scratch.h"

namespace repquant::ops {
namespace {

/// [.., H, rows, columns] as [B, H, rows, columns], leading dimensions broadcast to `leading`.
at::Tensor four_dimensional(const at::Tensor& x, at::IntArrayRef leading) {
  std::vector<std::int64_t> sizes = leading.vec();
  sizes.push_back(x.size(-2));
  sizes.push_back(x.size(-1));
  at::Tensor y = x.expand(sizes);
  while (y.dim() < 4) y = y.unsqueeze(0);
  return y.dim() > 4 ? y.flatten(0, y.dim() - 4) : y;
}

at::Tensor operand(const at::Tensor& x, at::IntArrayRef leading, const char* name) {
  TORCH_CHECK(x.scalar_type() == at::kChar, "repquant::attention: ", name,
              " must hold int8 codes, got ", x.scalar_type());
  at::Tensor y = four_dimensional(x, leading);
  return y.stride(3) == 1 || y.size(3) <= 1 ? y : y.contiguous();
}

Strides strides_of(const at::Tensor& x) { return {x.stride(0), x.stride(1), x.stride(2)}; }

/// One value per head from a tensor that has one for all or one for each.
template <class T>
std::vector<T> per_head(const at::Tensor& values, std::int64_t heads, const char* name) {
  TORCH_CHECK(values.numel() == 1 || values.numel() == heads, "repquant::attention: ", name,
              " has ", values.numel(), " elements for ", heads, " heads");
  const at::Tensor flat = values.flatten().contiguous();
  const T* data = flat.const_data_ptr<T>();
  std::vector<T> result(static_cast<std::size_t>(heads));
  for (std::int64_t h = 0; h < heads; ++h) {
    result[static_cast<std::size_t>(h)] = data[values.numel() == 1 ? 0 : h];
  }
  return result;
}

/// Zero points by head and channel, [H, depth padded to whole panels], from int32 [1], [H]
/// or [H, 1, depth].
at::Tensor value_zeros_of(const at::Tensor& zeros, std::int64_t heads, std::int64_t depth) {
  TORCH_CHECK(zeros.scalar_type() == at::kInt, "repquant::attention: value_zero must be int32");
  const std::int64_t count = zeros.numel();
  TORCH_CHECK(count == 1 || count == heads || count == heads * depth,
              "repquant::attention: value_zero has ", count, " elements for ", heads,
              " heads of width ", depth);
  const at::Tensor rows = zeros.reshape({count == 1 ? 1 : heads, -1}).expand({heads, depth});
  return at::constant_pad_nd(rows, {0, (kPanel - depth % kPanel) % kPanel}).contiguous();
}

at::Tensor output_grid(const at::Tensor& grid, std::int64_t heads, std::int64_t depth) {
  return grid.expand({heads, 1, depth});
}

}  // namespace

at::Tensor attention_cpu(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                         const OptionalTensor& mask, const at::Tensor& query_zero,
                         const at::Tensor& value_zero, const at::Tensor& score_scale,
                         const at::Tensor& factor, double score_factor,
                         const at::Tensor& multiplier, const at::Tensor& offset, std::int64_t code,
                         double steps, std::int64_t max_code, bool zero_code,
                         std::int64_t output_max_code, bool transposed) {
  TORCH_CHECK(query.dim() >= 2 && key.dim() >= 2 && value.dim() >= 2 &&
                  query.size(-1) == key.size(-1) && key.size(-2) == value.size(-2),
              "repquant::attention: shapes do not fit: ", query.sizes(), ", ", key.sizes(), ", ",
              value.sizes());
  TORCH_CHECK(code >= 0 && code <= 2 && steps > 0 && max_code >= 1 && max_code <= 255 &&
                  (code != 0 || ((steps == 1 || steps == 2) && max_code <= 15)),
              "repquant::attention: this softmax grid has no integer form here");
  TORCH_CHECK(query.size(-1) == value.size(-1),
              "repquant::attention: keys and values must have the same width");
  const auto leading = query.sizes().slice(0, static_cast<std::size_t>(query.dim() - 2));
  const at::Tensor q = operand(query, leading, "query"), k = operand(key, leading, "key"),
                   v = operand(value, leading, "value");
  AttentionArgs args;
  args.batches = q.size(0);
  args.heads = q.size(1);
  args.rows = q.size(2);
  args.columns = k.size(2);
  args.depth = q.size(3);
  const at::ScalarType type = output_max_code > 0 ? at::kByte : at::kFloat;
  at::Tensor out = transposed ? at::empty({args.batches, args.rows, args.heads, args.depth},
                                          query.options().dtype(type))
                                    .transpose(1, 2)
                              : at::empty(q.sizes(), query.options().dtype(type));
  std::vector<std::int64_t> sizes = leading.vec();
  sizes.push_back(args.rows);
  sizes.push_back(args.depth);
  const bool whole = query.dim() > 4;
  const auto shaped = [&](const at::Tensor& y) {
    if (query.dim() == 4) return y;
    return whole ? y.reshape(sizes) : y.view(sizes);
  };
  if (out.numel() == 0) return shaped(out);
  TORCH_CHECK(args.columns > 0 && args.columns <= 65536,
              "repquant::attention: between 1 and 65536 keys, got ", args.columns);
  args.query = q.const_data_ptr<std::int8_t>();
  args.key = k.const_data_ptr<std::int8_t>();
  args.value = v.const_data_ptr<std::int8_t>();
  args.query_strides = strides_of(q);
  args.key_strides = strides_of(k);
  args.value_strides = strides_of(v);
  const auto query_zeros = per_head<std::int32_t>(query_zero, args.heads, "query_zero");
  const at::Tensor value_zeros = value_zeros_of(value_zero, args.heads, args.depth);
  auto scales = per_head<float>(score_scale, args.heads, "score_scale");
  auto factors = per_head<float>(factor, args.heads, "factor");
  const bool one_factor = factor.numel() == 1;
  for (std::size_t h = 0; h < factors.size(); ++h) {
    if (mask) {
      scales[h] = static_cast<float>(static_cast<double>(scales[h]) * score_factor);
    } else if (one_factor) {  // rounded as the portable form does
      factors[h] = static_cast<float>(static_cast<double>(factors[h]) * score_factor);
    } else {
      factors[h] *= static_cast<float>(score_factor);
    }
  }
  args.query_zero = query_zeros.data();
  args.value_zero = value_zeros.const_data_ptr<std::int32_t>();
  args.value_zero_stride = value_zeros.stride(0);
  args.score_scale = scales.data();
  args.factor = factors.data();
  at::Tensor bias;
  if (mask) {
    auto full = leading.vec();
    full.push_back(args.rows);
    full.push_back(args.columns);
    bias = mask->to(at::kFloat).expand(full);
    while (bias.dim() < 4) bias = bias.unsqueeze(0);
    if (bias.dim() > 4) bias = bias.flatten(0, bias.dim() - 4);
    if (bias.stride(3) != 1 && bias.stride(3) != 0) bias = bias.contiguous();
    args.mask = bias.const_data_ptr<float>();
    args.mask_strides = strides_of(bias);
    args.mask_column_stride = bias.stride(3);
  }
  args.code = static_cast<SoftmaxCode>(code);
  args.steps = static_cast<float>(steps);
  args.max_code = static_cast<int>(max_code);
  args.zero_code = zero_code;
  const at::Tensor m = output_grid(multiplier, args.heads, args.depth);
  const at::Tensor a = output_grid(offset, args.heads, args.depth);
  args.multiplier = m.const_data_ptr<float>();
  args.multiplier_head = m.stride(0);
  args.multiplier_depth = m.stride(2);
  args.offset = a.const_data_ptr<float>();
  args.offset_head = a.stride(0);
  args.offset_depth = a.stride(2);
  args.output_max_code = static_cast<int>(output_max_code);
  args.out = out.mutable_data_ptr();
  args.out_strides = strides_of(out);
  const Kernels& table = kernels(current_level());
  const std::int64_t bytes = attention_scratch(args.rows, args.columns, args.depth);
  at::parallel_for(0, args.batches * args.heads, 1, [&](std::int64_t begin, std::int64_t end) {
    table.attention(args, begin, end, thread_scratch(bytes));
  });
  return shaped(out);
}

}  // namespace repquant::ops
