// Options for streams of token ids, shared by quantize, evaluate and inspect.
#pragma once

#include <CLI/App.hpp>

#include "repquant/tokens.h"

namespace repquant::cli {

/// Adds --window, --stride, --bos, --document and --dtype.
void add_token_options(CLI::App& app, TokenOptions& tokens);

}  // namespace repquant::cli
