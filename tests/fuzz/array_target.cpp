#include <ATen/ATen.h>

#include "data/arrays.h"
#include "fuzz/input.h"

namespace repquant::fuzz {

void fuzz_npy(Input input) {
  survive([&] { parse_npy(input, "fuzz"); });
}

void fuzz_npz(Input input) {
  const InputFile file(input);
  survive([&] {
    for (const at::Tensor& tensor : read_npz(file.path()).tensors) {
      // Every element, so that a sanitizer sees a tensor beyond its storage.
      static_cast<void>(tensor.clone());
    }
  });
}

}  // namespace repquant::fuzz
