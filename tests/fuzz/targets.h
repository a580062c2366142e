// What is fuzzed: readers of files that come from anywhere. Each reads the bytes or ends in a
// repquant::Error; everything else, exceptions of other kinds included, is a finding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace repquant::fuzz {

using Input = std::span<const std::uint8_t>;

void fuzz_archive(Input input);      // a whole TorchScript file, as before every load
void fuzz_pickle(Input input);       // its values: nesting, tensors, state of an artifact's classes
void fuzz_code(Input input);         // its code
void fuzz_description(Input input);  // repquant.json of an artifact
void fuzz_loader(Input input);       // an artifact: loaded in both forms, and called
void fuzz_operators(Input input);    // fused operators, whatever an artifact stores for them
void fuzz_npy(Input input);          // arrays
void fuzz_npz(Input input);
void fuzz_saved(Input input);   // tensors saved by PyTorch
void fuzz_tokens(Input input);  // a stream of token ids; the first bytes are its options
void fuzz_image(Input input);   // JPEG and PNG
void fuzz_preset(Input input);  // preprocess.json
void fuzz_recipe(Input input);
void fuzz_plan(Input input);  // of repquant run

}  // namespace repquant::fuzz
