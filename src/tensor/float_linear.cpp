#include "tensor/float_linear.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <string_view>

namespace repquant {
namespace {

/// Multiplications below which a call of oneDNN costs more than it saves.
constexpr std::int64_t kFewest = std::int64_t{1} << 20;

using Scalars = c10::List<std::optional<at::Scalar>>;
using LinearPointwise = at::Tensor(const at::Tensor&, const at::Tensor&,
                                   const std::optional<at::Tensor>&, std::string_view, Scalars,
                                   std::optional<std::string_view>);

bool has_wide_vectors() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") != 0;
#else
  return false;
#endif
}

bool is_plain(const at::Tensor& x) {
  return x.scalar_type() == at::kFloat && x.device().is_cpu() && x.layout() == at::kStrided &&
         !(at::GradMode::is_enabled() && x.requires_grad());
}

bool suits_onednn(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  static const bool wide = has_wide_vectors();
  return wide && x.dim() >= 2 && weight.dim() == 2 && x.size(-1) == weight.size(1) && is_plain(x) &&
         is_plain(weight) &&
         (!bias.defined() ||
          (is_plain(bias) && bias.dim() == 1 && bias.size(0) == weight.size(0))) &&
         x.numel() * weight.size(0) >= kFewest;
}

}  // namespace

at::Tensor float_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const std::optional<at::Tensor> added = bias.defined() ? std::optional(bias) : std::nullopt;
  if (!suits_onednn(x, weight, bias)) return at::linear(x, weight, added);
  static const auto linear = c10::Dispatcher::singleton()
                                 .findSchemaOrThrow("mkldnn::_linear_pointwise", "")
                                 .typed<LinearPointwise>();
  return linear.call(x.contiguous(), weight.contiguous(), added, "none", Scalars(), std::nullopt);
}

}  // namespace repquant
