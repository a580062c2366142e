// Operators on CPU tensors; schemas and meanings stand in operators.cpp.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace repquant::ops {

using OptionalTensor = std::optional<at::Tensor>;

/// Type of what linear() writes: 0 float32, 1 int8, 2 uint8.
inline at::ScalarType output_type(std::int64_t output) {
  return output == 0 ? at::kFloat : output == 1 ? at::kChar : at::kByte;
}

std::tuple<at::Tensor, at::Tensor> pack_weight_cpu(const at::Tensor& codes, std::int64_t bits,
                                                   std::int64_t columns,
                                                   const OptionalTensor& levels = {});

at::Tensor norm_quantize_cpu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             double epsilon, std::int64_t max_code, bool root_mean_square = false);

at::Tensor quantize_cpu(const at::Tensor& x, const at::Tensor& multiplier, const at::Tensor& offset,
                        std::int64_t max_code, bool quadratic, bool is_signed, std::int64_t shift);

std::tuple<at::Tensor, at::Tensor> token_quantize_cpu(const at::Tensor& x, std::int64_t top,
                                                      const OptionalTensor& levels,
                                                      const OptionalTensor& multiplier = {},
                                                      const OptionalTensor& offset = {});

at::Tensor group_quantize_cpu(const at::Tensor& x, std::int64_t group_size, std::int64_t top,
                              const OptionalTensor& levels);

/// Codes and grids.
std::tuple<at::Tensor, at::Tensor> group_codes_cpu(const at::Tensor& x, std::int64_t group_size,
                                                   std::int64_t top, const OptionalTensor& levels);

std::tuple<at::Tensor, at::Tensor> norm_group_codes_cpu(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double epsilon,
    bool root_mean_square, std::int64_t group_size, std::int64_t top, const OptionalTensor& levels);

std::tuple<at::Tensor, at::Tensor> norm_tokens_cpu(const at::Tensor& x, const at::Tensor& weight,
                                                   const at::Tensor& bias, double epsilon,
                                                   bool root_mean_square, std::int64_t top,
                                                   const OptionalTensor& levels);

std::tuple<at::Tensor, at::Tensor, at::Tensor> norm_and_tokens_cpu(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double epsilon,
    bool root_mean_square, std::int64_t top, const OptionalTensor& levels,
    const OptionalTensor& multiplier = {}, const OptionalTensor& offset = {});

at::Tensor cache_quantize_cpu(const at::Tensor& x);
at::Tensor cache_dequantize_cpu(const at::Tensor& codes);
at::Tensor cache_operand_cpu(const at::Tensor& codes, const at::Tensor& multiplier,
                             const at::Tensor& offset, std::int64_t max_code, std::int64_t shift);

/// What a list of steps for rearrange() begins with, each followed by a count.
inline constexpr std::int64_t kReshapeStep = 0, kPermuteStep = 1, kTransposeStep = 2;
at::Tensor rearrange_cpu(const at::Tensor& x, at::IntArrayRef sizes, at::IntArrayRef steps);
at::Tensor rearrange_meta(const at::Tensor& x, at::IntArrayRef sizes, at::IntArrayRef steps);
at::Tensor add_cpu(const at::Tensor& x, const at::Tensor& other, const at::Scalar& alpha);
at::Tensor mul_cpu(const at::Tensor& x, const at::Tensor& other);
at::Tensor cat_cpu(at::TensorList tensors, std::int64_t dim);
at::Tensor embedding_cpu(const at::Tensor& weight, const at::Tensor& indices);
at::Tensor embedding_rows_cpu(const at::Tensor& codes, const at::Tensor& scale,
                              const at::Tensor& indices, std::int64_t columns);

at::Tensor windows_cpu(const at::Tensor& x, at::IntArrayRef before, at::IntArrayRef after,
                       at::IntArrayRef kernel, at::IntArrayRef stride, at::IntArrayRef dilation,
                       double zero);

at::Tensor depthwise_cpu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                         const at::Tensor& bias, const OptionalTensor& multiplier,
                         const OptionalTensor& zero_point, std::int64_t max_code,
                         at::IntArrayRef kernel, at::IntArrayRef stride, at::IntArrayRef padding,
                         at::IntArrayRef dilation, std::int64_t activation);

std::tuple<at::Tensor, at::Tensor> depthwise_tokens_cpu(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale, const at::Tensor& bias,
    const OptionalTensor& multiplier, const OptionalTensor& zero_point, std::int64_t max_code,
    at::IntArrayRef kernel, at::IntArrayRef stride, at::IntArrayRef padding,
    at::IntArrayRef dilation, std::int64_t activation, std::int64_t top,
    const OptionalTensor& levels, const OptionalTensor& token_multiplier = {},
    const OptionalTensor& token_offset = {});

at::Tensor linear_cpu(const at::Tensor& codes, const at::Tensor& weight,
                      const at::Tensor& compensation, const at::Tensor& scale,
                      const at::Tensor& bias, const OptionalTensor& multiplier,
                      const OptionalTensor& offset, const OptionalTensor& residual,
                      std::int64_t channels, std::int64_t columns, std::int64_t bits,
                      std::int64_t activation, std::int64_t output, std::int64_t low,
                      std::int64_t high, bool quadratic, const OptionalTensor& grids = {},
                      const OptionalTensor& sums = {});

std::tuple<at::Tensor, at::Tensor> linear_tokens_cpu(
    const at::Tensor& codes, const at::Tensor& weight, const at::Tensor& compensation,
    const at::Tensor& scale, const at::Tensor& bias, std::int64_t channels, std::int64_t columns,
    std::int64_t bits, std::int64_t activation, const OptionalTensor& grids,
    const OptionalTensor& sums, std::int64_t top, const OptionalTensor& levels,
    const OptionalTensor& multiplier = {}, const OptionalTensor& offset = {});

at::Tensor grouped_linear_cpu(const at::Tensor& x, const at::Tensor& weight,
                              const at::Tensor& compensation, const at::Tensor& scale,
                              const at::Tensor& bias, const at::Tensor& sums, std::int64_t channels,
                              std::int64_t columns, std::int64_t bits, std::int64_t activation,
                              std::int64_t top, at::TensorList levels,
                              const OptionalTensor& multiplier = {},
                              const OptionalTensor& offset = {});

at::Tensor linear_side_cpu(const at::Tensor& codes, const at::Tensor& weight,
                           const at::Tensor& compensation, const at::Tensor& scale,
                           const at::Tensor& bias, const at::Tensor& x,
                           const at::Tensor& side_channels, const at::Tensor& side_inverse,
                           const at::Tensor& side_zero, const at::Tensor& side_weight,
                           std::int64_t side_max_code, const OptionalTensor& residual,
                           std::int64_t channels, std::int64_t columns, std::int64_t bits);

std::tuple<at::Tensor, at::Tensor> pack_weight_only_cpu(const at::Tensor& codes,
                                                        const at::Tensor& scale, std::int64_t bits,
                                                        std::int64_t columns,
                                                        std::int64_t group_size,
                                                        const OptionalTensor& levels = {});

at::Tensor weight_only_linear_cpu(const at::Tensor& x, const at::Tensor& weight,
                                  const at::Tensor& scale, const at::Tensor& bias,
                                  std::int64_t channels, std::int64_t columns, std::int64_t bits,
                                  std::int64_t group_size, std::int64_t activation);

/// Whether group_linear() takes weights of `bits` bits and groups of so many columns.
bool fits_group_linear(std::int64_t bits, std::int64_t group_size);

std::tuple<at::Tensor, at::Tensor> pack_group_weight_cpu(const at::Tensor& codes,
                                                         const at::Tensor& scale, std::int64_t bits,
                                                         std::int64_t columns,
                                                         std::int64_t group_size,
                                                         const OptionalTensor& levels = {});

at::Tensor group_linear_cpu(const at::Tensor& codes, const at::Tensor& grids,
                            const at::Tensor& weight, const at::Tensor& scale,
                            const at::Tensor& bias, std::int64_t channels, std::int64_t columns,
                            std::int64_t bits, std::int64_t group_size, std::int64_t activation,
                            const OptionalTensor& residual = {});

at::Tensor attention_cpu(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                         const OptionalTensor& mask, const at::Tensor& query_zero,
                         const at::Tensor& value_zero, const at::Tensor& score_scale,
                         const at::Tensor& factor, double score_factor,
                         const at::Tensor& multiplier, const at::Tensor& offset, std::int64_t code,
                         double steps, std::int64_t max_code, bool zero_code,
                         std::int64_t output_max_code, bool transposed,
                         const OptionalTensor& query_scale = {},
                         const OptionalTensor& key_scale = {});

/// Codes and scales.
std::tuple<at::Tensor, at::Tensor> operand_rows_cpu(const at::Tensor& x, std::int64_t bits);

/// Throws std::invalid_argument as current_level() does.
std::string cpu_level();
/// What this processor has, rising.
std::vector<std::string> cpu_levels();
/// What any processor may have, rising.
std::vector<std::string> known_cpu_levels();
std::string set_cpu_level(const std::string& level);

}  // namespace repquant::ops
