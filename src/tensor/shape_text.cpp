#include "tensor/shape_text.h"

namespace repquant {

std::string shape_text(c10::IntArrayRef shape) {
  std::string text, separator;
  for (const std::int64_t size : shape) {
    text += separator + std::to_string(size);
    separator = ", ";
  }
  return "[" + text + "]";
}

}  // namespace repquant
