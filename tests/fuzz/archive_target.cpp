#include <cstdint>

#include "archive/pickle.h"
#include "archive/pickled_tensor.h"
#include "format/check_code.h"
#include "format/check_state.h"
#include "format/description.h"
#include "format/validate.h"
#include "fuzz/input.h"

namespace repquant::fuzz {

void fuzz_archive(Input input) {
  const InputFile file(input);
  survive([&] { validate_archive(file.path()); });
}

void fuzz_pickle(Input input) {
  constexpr std::uint64_t kEntry = 64;  // bytes of every entry: 16 floats
  survive([&] {
    const internal::Pickle pickle = internal::read_pickle(input, "fuzz");
    internal::check_pickle_depth(pickle, "fuzz");
    internal::check_pickled_tensors(
        pickle, [](const std::string&) { return kEntry; }, "fuzz");
    check_state(pickle, "fuzz");
  });
}

void fuzz_code(Input input) {
  survive([&] { check_code(std::string(text_of(input)), "fuzz", false); });
}

void fuzz_description(Input input) {
  survive([&] { artifact_from_json(std::string(text_of(input)), "fuzz"); });
}

}  // namespace repquant::fuzz
