#include "tensor/products.h"

#include <ATen/ATen.h>
#include <ATen/Operators.h>
#include <torch/library.h>

#include <atomic>

namespace repquant {
namespace {

std::atomic<int> alive{0};

/// Below this many multiply-accumulates there is nothing to gain.
constexpr std::int64_t kLeastMacs = 1 << 15;

bool is_plain(const at::Tensor& t) {
  return (t.scalar_type() == at::kFloat || t.scalar_type() == at::kDouble) &&
         t.layout() == at::kStrided && t.device().is_cpu() && !t.is_conj() && !t.is_neg() &&
         !t._is_zerotensor();
}

/// The last two dimensions are rows or columns in memory that do not overlap.
bool is_matrix(const at::Tensor& t) {
  const bool rows = t.stride(-1) == 1 && t.stride(-2) >= t.size(-1);
  const bool columns = t.stride(-2) == 1 && t.stride(-1) >= t.size(-2);
  return rows || columns;
}

/// Operands of `dims` dimensions, the last two a product that is worth it.
bool can_take(const at::Tensor& a, const at::Tensor& b, std::int64_t dims) {
  if (alive.load(std::memory_order_relaxed) == 0) return false;
  return is_plain(a) && is_plain(b) && a.scalar_type() == b.scalar_type() && a.dim() == dims &&
         b.dim() == dims && a.size(-1) == b.size(-2) &&
         a.size(-2) * a.size(-1) * b.size(-1) >= kLeastMacs && is_matrix(a) && is_matrix(b);
}

/// Adds to `out` the products of the last two dimensions; before them there may be one more.
void add_products(const at::Tensor& a, const at::Tensor& b, double factor, const at::Tensor& out) {
  const bool many = out.dim() == 3;
  const auto add = [&]<typename T>(T as) {
    const auto view = [&](const at::Tensor& t, std::int64_t i) {
      return internal::MatrixView<T>{t.const_data_ptr<T>() + (many ? i * t.stride(0) : 0),
                                     t.size(-2), t.size(-1), t.stride(-2), t.stride(-1)};
    };
    for (std::int64_t i = 0; i < (many ? out.size(0) : 1); ++i) {
      internal::add_product(view(a, i), view(b, i), as,
                            out.mutable_data_ptr<T>() + (many ? i * out.stride(0) : 0),
                            out.stride(-2));
    }
  };
  if (out.scalar_type() == at::kFloat) {
    add(static_cast<float>(factor));
  } else {
    add(factor);
  }
}

c10::DispatchKeySet behind(c10::DispatchKeySet keys) {
  return keys &
         c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, c10::DispatchKey::BackendSelect);
}

at::Tensor mm(c10::DispatchKeySet keys, const at::Tensor& a, const at::Tensor& b) {
  if (!can_take(a, b, 2)) return at::_ops::mm::redispatch(behind(keys), a, b);
  at::Tensor out = at::zeros({a.size(0), b.size(1)}, a.options());
  add_products(a, b, 1, out);
  return out;
}

at::Tensor bmm(c10::DispatchKeySet keys, const at::Tensor& a, const at::Tensor& b) {
  if (!can_take(a, b, 3) || a.size(0) != b.size(0)) {
    return at::_ops::bmm::redispatch(behind(keys), a, b);
  }
  at::Tensor out = at::zeros({a.size(0), a.size(1), b.size(2)}, a.options());
  add_products(a, b, 1, out);
  return out;
}

bool can_add(const at::Tensor& self, const at::Tensor& a, const at::Tensor& b,
             const at::Scalar& beta) {
  return (beta.equal(1) || beta.equal(0)) && is_plain(self) && can_take(a, b, 2) &&
         self.scalar_type() == a.scalar_type();
}

at::Tensor addmm(c10::DispatchKeySet keys, const at::Tensor& self, const at::Tensor& a,
                 const at::Tensor& b, const at::Scalar& beta, const at::Scalar& alpha) {
  if (!can_add(self, a, b, beta) || !at::is_expandable_to(self.sizes(), {a.size(0), b.size(1)})) {
    return at::_ops::addmm::redispatch(behind(keys), self, a, b, beta, alpha);
  }
  at::Tensor out = self.expand({a.size(0), b.size(1)}).clone(at::MemoryFormat::Contiguous);
  if (beta.equal(0)) out.zero_();  // not a product with 0: NaN must go
  add_products(a, b, alpha.toDouble(), out);
  return out;
}

at::Tensor& add_to(c10::DispatchKeySet keys, at::Tensor& self, const at::Tensor& a,
                   const at::Tensor& b, const at::Scalar& beta, const at::Scalar& alpha) {
  const bool ours = can_add(self, a, b, beta) && self.dim() == 2 && self.size(0) == a.size(0) &&
                    self.size(1) == b.size(1) && self.stride(1) == 1 &&
                    self.stride(0) >= self.size(1) && !self.is_alias_of(a) && !self.is_alias_of(b);
  if (!ours) return at::_ops::addmm_::redispatch(behind(keys), self, a, b, beta, alpha);
  if (beta.equal(0)) self.zero_();
  add_products(a, b, alpha.toDouble(), self);
  return self;
}

/// Kernels of BackendSelect stand before those of every backend, and behind gradients. LibTorch has
/// none there for these operators.
void register_kernels() {
  static torch::Library library(torch::Library::IMPL, "aten", c10::DispatchKey::BackendSelect,
                                __FILE__, __LINE__);
  library.impl("mm", TORCH_FN(mm));
  library.impl("addmm", TORCH_FN(addmm));
  library.impl("addmm_", TORCH_FN(add_to));
  library.impl("bmm", TORCH_FN(bmm));
}

/// Registers the kernels at the first call, where they pay.
bool in_use() {
  static const bool kPays = [] {
#if defined(__x86_64__)
    const bool pays = internal::has_fast_products() && !__builtin_cpu_is("intel");
#else
    const bool pays = false;
#endif
    if (pays) register_kernels();
    return pays;
  }();
  return kPays;
}

}  // namespace

bool internal::has_fast_products() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

FastProducts::FastProducts() {
  if (in_use()) ++alive;
}

FastProducts::~FastProducts() {
  if (in_use()) --alive;
}

}  // namespace repquant
