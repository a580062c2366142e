#include "tensor/cache_codes.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

namespace repquant {
namespace {

at::Tensor call(const char* name, const at::Tensor& x) {
  return c10::Dispatcher::singleton()
      .findSchemaOrThrow(name, "")
      .typed<at::Tensor(const at::Tensor&)>()
      .call(x);
}

}  // namespace

at::Tensor cache_codes(const at::Tensor& values) {
  return call(kCacheQuantizeOp, values.to(at::kFloat));
}

at::Tensor cache_values(const at::Tensor& codes) { return call(kCacheDequantizeOp, codes); }

}  // namespace repquant
