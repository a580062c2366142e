// Operators of LibTorch whose outputs take blocks that earlier ones left.
#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/native/TypeProperties.h>

#include "ops/operators.h"
#include "ops/output.h"

namespace repquant::ops {

// An output of no elements grows to what the operator writes, in its order in memory.

at::Tensor add_cpu(const at::Tensor& x, const at::Tensor& other, const at::Scalar& alpha) {
  const at::AutoDispatchBelowADInplaceOrView guard;  // it refuses to write outputs for gradients
  at::Tensor out = new_output({0}, at::result_type(x, other));
  return at::add_out(out, x, other, alpha);
}

at::Tensor mul_cpu(const at::Tensor& x, const at::Tensor& other) {
  const at::AutoDispatchBelowADInplaceOrView guard;
  at::Tensor out = new_output({0}, at::result_type(x, other));
  return at::mul_out(out, x, other);
}

at::Tensor cat_cpu(at::TensorList tensors, std::int64_t dim) {
  const at::AutoDispatchBelowADInplaceOrView guard;
  at::Tensor out = new_output({0}, at::native::result_type(tensors));
  return at::cat_out(out, tensors, dim);
}

at::Tensor embedding_cpu(const at::Tensor& weight, const at::Tensor& indices) {
  const at::AutoDispatchBelowADInplaceOrView guard;
  TORCH_CHECK(weight.dim() == 2, "repquant::embedding: the table must have two dimensions, got ",
              weight.sizes());
  at::Tensor rows = new_output({0}, weight.scalar_type());
  at::index_select_out(rows, weight, 0, indices.reshape(-1));
  std::vector<std::int64_t> sizes = indices.sizes().vec();
  sizes.push_back(weight.size(1));
  return rows.view(sizes);
}

}  // namespace repquant::ops
