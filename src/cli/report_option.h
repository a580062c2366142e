// The option --report of commands with a result to hand on.
#pragma once

#include <CLI/App.hpp>
#include <memory>
#include <string>

#include "base/json_text.h"

namespace repquant::cli {

/// Adds --report; the result is the file, empty if none was asked for.
std::shared_ptr<std::string> add_report_option(CLI::App& app);

/// Before the work: throws Error kUsage for an ending that is neither .html nor .md, kFile where
/// the file cannot be written or was not written by an earlier --report.
void check_report(const std::string& path);

/// Writes `result`, the JSON of the command, as a page or as Markdown; nothing for an empty path.
/// Throws Error kFile.
void write_report(const std::string& path, const Json& result);

}  // namespace repquant::cli
