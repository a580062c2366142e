// Options that say where samples come from, shared by the commands that run models.
#pragma once

#include <CLI/App.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "repquant/samples.h"

namespace repquant::cli {

/// As typed.
struct SampleOptions {
  std::string data;
  TokenOptions tokens;
  std::vector<std::int64_t> input_shape;
};

/// For calibration: the word synthetic stands for random numbers. No data is an empty path, which
/// the library refuses.
SampleSource calibration_of(const SampleOptions& options);

/// The data, else random numbers of the shape that was given, else nothing.
std::optional<SampleSource> samples_of(const SampleOptions& options);

/// Adds --window, --stride, --bos, --document and --dtype.
void add_token_options(CLI::App& app, TokenOptions& tokens);

}  // namespace repquant::cli
