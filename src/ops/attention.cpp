#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>

#include "ops/grid.h"
#include "ops/kernels/kernels.h"
#include "ops/operators.h"
#include "ops/output.h"
#include "ops/parallel.h"
#include "ops/rearrange.h"
#include "ops/scratch.h"

namespace repquant::ops {
namespace {

constexpr std::int64_t kMostKeys = 65536;
static_assert(kMostKeys * 255 * 128 <= INT32_MAX);  // a sum of weights times codes of values

/// `x` broadcast to [leading.., rows, columns], as [B, H, rows, columns].
at::Tensor four_dimensional(const at::Tensor& x, at::IntArrayRef leading, std::int64_t rows,
                            std::int64_t columns) {
  std::vector<std::int64_t> sizes = leading.vec();
  sizes.push_back(rows);
  sizes.push_back(columns);
  at::Tensor y = x.expand(sizes);
  while (y.dim() < 4) y = y.unsqueeze(0);
  return y.dim() > 4 ? y.flatten(0, y.dim() - 4) : y;
}

at::Tensor operand(const at::Tensor& x, at::IntArrayRef leading, std::int64_t rows,
                   const char* name) {
  TORCH_CHECK(x.scalar_type() == at::kChar, "repquant::attention: ", name,
              " must hold int8 codes, got ", x.scalar_type());
  at::Tensor y = four_dimensional(x, leading, rows, x.size(-1));
  return y.stride(3) == 1 || y.size(3) <= 1 ? y : in_order(y);
}

Strides strides_of(const at::Tensor& x) { return {x.stride(0), x.stride(1), x.stride(2)}; }

/// Sizes that all operands broadcast to, as they do in the products and sums that this stands for.
struct Shape {
  std::vector<std::int64_t> leading;
  std::int64_t rows, columns;
};

Shape broadcast_shape(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                      const OptionalTensor& mask) {
  TORCH_CHECK(
      query.dim() >= 2 && key.dim() >= 2 && value.dim() >= 2 && query.size(-1) == key.size(-1),
      "repquant::attention: shapes do not fit: ", query.sizes(), ", ", key.sizes(), ", ",
      value.sizes());
  const auto leading_of = [](const at::Tensor& x) {
    return x.sizes().slice(0, static_cast<std::size_t>(x.dim() - 2));
  };
  std::vector<std::int64_t> scores = at::infer_size(leading_of(query), leading_of(key));
  scores.push_back(query.size(-2));
  scores.push_back(key.size(-2));
  if (mask) scores = at::infer_size(scores, mask->sizes());
  Shape shape;
  shape.columns = scores.back();
  scores.pop_back();
  shape.rows = scores.back();
  scores.pop_back();
  shape.leading = at::infer_size(scores, leading_of(value));
  TORCH_CHECK(value.size(-2) == shape.columns, "repquant::attention: ", shape.columns,
              " keys, but values of ", value.size(-2));
  return shape;
}

/// One value per head from a grid that does not go by channel.
template <class T>
std::vector<T> per_head(const at::Tensor& grid, std::int64_t heads, const char* name) {
  const at::Tensor flat =
      spread_grid(grid, heads, 1, c10::CppTypeToScalarType<T>::value, name).contiguous();
  const T* data = flat.const_data_ptr<T>();
  return {data, data + heads};
}

/// Scales [.., rows, 1] as [B, H, rows, 1], those of a head behind each other.
at::Tensor token_scales(const at::Tensor& scale, at::IntArrayRef leading, std::int64_t rows,
                        const char* name) {
  TORCH_CHECK(scale.scalar_type() == at::kFloat && scale.dim() >= 2 && scale.size(-1) == 1 &&
                  scale.size(-2) == rows,
              "repquant::attention: ", name, " must be float32 [.., ", rows, ", 1], got ",
              scale.sizes());
  const at::Tensor y = four_dimensional(scale, leading, rows, 1);
  return y.stride(2) == 1 || rows <= 1 ? y : y.contiguous();
}

/// Zero points by head and channel, [H, depth padded to whole panels].
at::Tensor value_zeros_of(const at::Tensor& zeros, std::int64_t heads, std::int64_t depth) {
  const at::Tensor rows =
      spread_grid(zeros, heads, depth, at::kInt, "attention: value_zero").squeeze(1);
  return at::constant_pad_nd(rows, {0, (kPanel - depth % kPanel) % kPanel}).contiguous();
}

}  // namespace

at::Tensor attention_cpu(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                         const OptionalTensor& mask, const at::Tensor& query_zero,
                         const at::Tensor& value_zero, const at::Tensor& score_scale,
                         const at::Tensor& factor, double score_factor,
                         const at::Tensor& multiplier, const at::Tensor& offset, std::int64_t code,
                         double steps, std::int64_t max_code, bool zero_code,
                         std::int64_t output_max_code, bool transposed,
                         const OptionalTensor& query_scale, const OptionalTensor& key_scale) {
  const auto [leading, rows, columns] = broadcast_shape(query, key, value, mask);
  TORCH_CHECK(code >= 0 && code <= 2 && steps > 0 && max_code >= 1 && max_code <= 255 &&
                  output_max_code >= 0 && output_max_code <= 255 &&
                  (code != 0 || ((steps == 1 || steps == 2) && max_code <= 15)),
              "repquant::attention: this softmax grid, or this output, has no integer form here");
  const at::Tensor q = operand(query, leading, rows, "query"),
                   k = operand(key, leading, columns, "key"),
                   v = operand(value, leading, columns, "value");
  AttentionArgs args;
  args.batches = q.size(0);
  args.heads = q.size(1);
  args.rows = rows;
  args.columns = columns;
  args.depth = q.size(3);
  args.value_depth = v.size(3);
  const at::ScalarType type = output_max_code > 0 ? at::kByte : at::kFloat;
  const at::Tensor out =
      transposed ? new_output({args.batches, args.rows, args.heads, args.value_depth}, type)
                       .transpose(1, 2)
                 : new_output({args.batches, args.heads, args.rows, args.value_depth}, type);
  std::vector<std::int64_t> sizes = leading;
  sizes.push_back(args.rows);
  sizes.push_back(args.value_depth);
  const auto shaped = [&](const at::Tensor& y) {
    if (sizes.size() == 4) return y;
    return sizes.size() > 4 ? y.reshape(sizes) : y.view(sizes);
  };
  if (out.numel() == 0) return shaped(out);
  TORCH_CHECK(args.columns <= kMostKeys, "repquant::attention: at most ", kMostKeys, " keys, got ",
              args.columns, "; the portable form of the model takes more (torch.jit.load)");
  args.query = q.const_data_ptr<std::int8_t>();
  args.key = k.const_data_ptr<std::int8_t>();
  args.value = v.const_data_ptr<std::int8_t>();
  args.query_strides = strides_of(q);
  args.key_strides = strides_of(k);
  args.value_strides = strides_of(v);
  const auto query_zeros = per_head<std::int32_t>(query_zero, args.heads, "attention: query_zero");
  const at::Tensor value_zeros = value_zeros_of(value_zero, args.heads, args.value_depth);
  auto scales = per_head<float>(score_scale, args.heads, "attention: score_scale");
  auto factors = per_head<float>(factor, args.heads, "attention: factor");
  const bool one_factor = factor.numel() == 1;
  for (std::size_t h = 0; h < factors.size(); ++h) {
    if (mask || query_scale) {
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
    bias = four_dimensional(mask->to(at::kFloat), leading, rows, columns);
    if (bias.stride(3) != 1 && bias.stride(3) != 0) bias = bias.contiguous();
    args.mask = bias.const_data_ptr<float>();
    args.mask_strides = strides_of(bias);
    args.mask_column_stride = bias.stride(3);
  }
  TORCH_CHECK(query_scale.has_value() == key_scale.has_value(),
              "repquant::attention: scales of queries and of keys come together");
  at::Tensor of_queries, of_keys;
  if (query_scale) {
    of_queries = token_scales(*query_scale, leading, rows, "query_scale");
    of_keys = token_scales(*key_scale, leading, columns, "key_scale");
    args.query_scale = of_queries.const_data_ptr<float>();
    args.key_scale = of_keys.const_data_ptr<float>();
    args.query_scale_strides = strides_of(of_queries);
    args.key_scale_strides = strides_of(of_keys);
  }
  args.code = static_cast<SoftmaxCode>(code);
  args.steps = static_cast<float>(steps);
  args.max_code = static_cast<int>(max_code);
  args.zero_code = zero_code;
  const at::Tensor m =
      spread_grid(multiplier, args.heads, args.value_depth, at::kFloat, "attention: multiplier");
  const at::Tensor a =
      spread_grid(offset, args.heads, args.value_depth, at::kFloat, "attention: offset");
  if (args.columns == 0) {  // no keys, where the data choose them: a sum of nothing
    if (output_max_code == 0) {
      out.zero_();
    } else {
      out.copy_(a.add(0.5).clamp(0.5, static_cast<double>(output_max_code) + 0.5));
    }
    return shaped(out);
  }
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
  const std::int64_t bytes = attention_scratch(args);
  split_work(args.batches * args.heads, 1, [&](std::int64_t begin, std::int64_t end) {
    table.attention(args, begin, end, thread_scratch(bytes));
  });
  return shaped(out);
}

}  // namespace repquant::ops
