#include "tensor/check.h"

#include <ATen/ATen.h>

namespace repquant {

void require_finite(const at::Tensor& values, const char* where, const char* name) {
  if (at::isfinite(values).all().item<bool>()) return;
  throw Error(ErrorKind::kNumerical,
              {std::string(name) + " holds a NaN or an infinity", where, "finite values", "",
               "look for overflow in the model or data"});
}

}  // namespace repquant
