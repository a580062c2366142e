#include <ATen/ATen.h>

#include <array>

#include "data/arrays.h"
#include "data/tokens.h"
#include "fuzz/input.h"

namespace repquant::fuzz {
namespace {

/// So that a sanitizer sees a tensor beyond its storage.
void read_every_element(const Arrays& arrays) {
  for (const at::Tensor& tensor : arrays.tensors) static_cast<void>(tensor.clone());
}

}  // namespace

void fuzz_npy(Input input) {
  survive([&] { parse_npy(input, "fuzz"); });
}

void fuzz_npz(Input input) {
  const InputFile file(input);
  survive([&] { read_every_element(read_npz(file.path())); });
}

void fuzz_saved(Input input) {
  const InputFile file(input);
  survive([&] { read_every_element(read_pt(file.path())); });
}

void fuzz_tokens(Input input) {
  constexpr std::array<const char*, 6> kTypes{"", "uint16", "int32", "uint32", "int64", "float"};
  constexpr std::size_t kOptions = 5;
  if (input.size() < kOptions) return;
  const TokenOptions options{.window = input[1],
                             .stride = input[2],
                             .bos = std::int64_t{input[3]} - 1,
                             .document = std::int64_t{input[4]} - 1,
                             .dtype = kTypes[input[0] % kTypes.size()]};
  const InputFile file(input.subspan(kOptions));
  survive([&] {
    check_token_options(options);
    const at::Tensor stream = read_token_stream(file.path(), options);
    for (const bool whole : {false, true}) {
      const auto windows = cut_windows(stream, options, whole);
      static_cast<void>(window_ids(stream, windows, options));
    }
  });
}

}  // namespace repquant::fuzz
