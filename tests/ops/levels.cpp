#include "ops/levels.h"

#include "artifact/classes.h"
#include "ops/operators.h"

namespace repquant::testing {

LevelScope::LevelScope(const std::string& level) : before_(ops::cpu_level()) {
  TORCH_CHECK(ops::set_cpu_level(level) == level, "no level ", level);
}

LevelScope::~LevelScope() { ops::set_cpu_level(before_); }

PackedWeight pack(const at::Tensor& codes, int bits, const ops::OptionalTensor& levels) {
  const auto [weight, sums] =
      ops::pack_weight_cpu(pack_codes(codes, bits), bits, codes.size(1), levels);
  return {weight, sums};
}

at::Tensor padded(const at::Tensor& vector) {
  const std::int64_t rest = (64 - vector.size(-1) % 64) % 64;
  return at::constant_pad_nd(vector, {0, rest}).contiguous();
}

at::Tensor random_codes(std::int64_t low, std::int64_t high, at::IntArrayRef sizes,
                        at::ScalarType type) {
  return at::randint(low, high + 1, sizes, at::kInt).to(type);
}

CodeDifference difference(const at::Tensor& a, const at::Tensor& b) {
  TORCH_CHECK(a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type(),
              "codes of other form: ", a.scalar_type(), a.sizes(), " ", b.scalar_type(), b.sizes());
  if (a.numel() == 0) return {};
  const at::Tensor d = (a.to(at::kInt) - b.to(at::kInt)).abs();
  return {d.gt(0).sum().item<std::int64_t>(), d.max().item<std::int64_t>()};
}

}  // namespace repquant::testing
