#include "cli/sample_options.h"

#include <limits>

#include "pipeline/calibration.h"

namespace repquant::cli {

SampleSource calibration_of(const SampleOptions& options) {
  return named_samples(options.data, options.tokens, options.input_shape);
}

std::optional<SampleSource> samples_of(const SampleOptions& options) {
  check_no_shape(options.data, options.input_shape);
  if (!options.data.empty()) return DataPath{options.data, options.tokens};
  if (!options.input_shape.empty()) return Synthetic{options.input_shape};
  return std::nullopt;
}

void add_token_options(CLI::App& app, TokenOptions& tokens) {
  constexpr std::int64_t kLargest = std::numeric_limits<std::int32_t>::max();
  const std::string group = "Streams of token ids (.npy, .bin)";
  CLI::Option* window =
      app.add_option("--window", tokens.window, "cut the ids into samples of N, BOS included")
          ->group(group)
          ->type_name("N")
          ->check(CLI::Range(std::int64_t{2}, kLargest));
  app.add_option("--stride", tokens.stride, "ids from one window to the next (default: no overlap)")
      ->group(group)
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{1}, kLargest))
      ->needs(window);
  app.add_option("--bos", tokens.bos, "id put before every window that does not begin with it")
      ->group(group)
      ->type_name("ID")
      ->check(CLI::Range(std::int64_t{0}, kLargest))
      ->needs(window);
  app.add_option("--document", tokens.document,
                 "id that begins a document, which no window crosses")
      ->group(group)
      ->type_name("ID")
      ->check(CLI::Range(std::int64_t{0}, kLargest))
      ->needs(window);
  app.add_option("--dtype", tokens.dtype,
                 "the file is nothing but ids of this type: uint16, int32, uint32 or int64")
      ->group(group)
      ->type_name("TYPE")
      ->needs(window);
}

}  // namespace repquant::cli
