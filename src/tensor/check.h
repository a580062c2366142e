// Short checks of function arguments, as typed errors.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "repquant/error.h"

namespace repquant {

/// Throws Error(kInternal): a caller inside repquant broke a function's contract.
inline void require(bool holds, const char* where, const char* expected) {
  if (!holds) {
    throw Error(ErrorKind::kInternal,
                {"a function was called with unsuitable arguments", where, expected, "", ""});
  }
}

/// Throws Error(kNumerical) if the tensor holds a NaN or an infinity.
void require_finite(const at::Tensor& values, const char* where, const char* name);

}  // namespace repquant
