// The public interface for callers that speak JSON.
#pragma once

#include <string>

namespace repquant {

/// Runs "quantize" or "evaluate" with `arguments`, a JSON object whose keys are the settings of the
/// function (docs/python.md), and gives a JSON object: `warnings`, a list of texts, and either
/// `result`, as the program's --json writes it, or `error` with kind, what, where, expected, got
/// and hint. Settings that are not those of the function are of the recipe, nested as in its files.
/// No REPQUANT_* variable counts. Never throws.
std::string call(const std::string& function, const std::string& arguments);

}  // namespace repquant
