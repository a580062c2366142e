#include "nightly/plan_keys.h"

#include <algorithm>
#include <array>

#include "base/setting_names.h"
#include "evaluate/gates.h"

namespace repquant {
namespace {

// Not of a row but of the whole run: whoever started it has names of their own for them.
constexpr std::array<std::string_view, 5> kOfTheRun{"force", "max_memory", "output", "threads",
                                                    "trust"};

std::string in_quotes(std::string_view word) { return "\"" + std::string(word) + "\""; }

bool is_number(std::string_view text) {
  return text.find_first_not_of("0123456789.") == std::string_view::npos;
}

std::string key_of(std::string_view setting) {
  auto [name, value] = split_setting(setting);
  if (std::find(kOfTheRun.begin(), kOfTheRun.end(), name) != kOfTheRun.end()) {
    return "`" + std::string(setting) + "`";
  }
  if (name == "reference") return "\"compare\": true";
  if (name == "required") {
    const GateRule* gate = find_gate_on(value);
    std::string key(gate != nullptr ? gate->name : value);
    std::replace(key.begin(), key.end(), '-', '_');
    return in_quotes(key);
  }
  if (name == "preset") name = "preprocess";
  if (value.size() > 1 && value.front() == '\'' && value.back() == '\'') {
    value = value.substr(1, value.size() - 2);
  }
  if (value.empty()) return in_quotes(name);
  return in_quotes(name) + ": " + (is_number(value) ? std::string(value) : in_quotes(value));
}

}  // namespace

std::string with_plan_keys(std::string_view text) { return replace_settings(text, key_of); }

Error with_plan_keys(const Error& error) { return replace_settings(error, key_of); }

}  // namespace repquant
