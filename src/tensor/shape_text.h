// Shapes in messages.
#pragma once

#include <c10/util/ArrayRef.h>

#include <cstdint>
#include <string>

namespace repquant {

/// "[2, 3, 4]"; "[]" of a tensor without dimensions.
std::string shape_text(c10::IntArrayRef shape);

}  // namespace repquant
