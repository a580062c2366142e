// Help that fits the terminal.
#pragma once

#include <CLI/App.hpp>
#include <memory>

namespace repquant::cli {

/// Options in two columns with their defaults, everything in lines of at most `width` columns.
std::shared_ptr<CLI::FormatterBase> help_formatter(std::size_t width);

}  // namespace repquant::cli
