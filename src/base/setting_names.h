// Messages of the library speak of settings, in backticks: `calib`, `norm.granularity=per_token`.
// Who shows them puts its own names in their place: options, keys of a file.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "repquant/error.h"

namespace repquant {

/// What stands for a setting, which comes without its backticks.
using SettingName = std::function<std::string(std::string_view setting)>;

std::string replace_settings(std::string_view text, const SettingName& name_of);

/// The same for what an error says; what was found (`got`) is left as it is.
Error replace_settings(const Error& error, const SettingName& name_of);

/// The parts of `name=value`; without a value the second is empty.
struct SettingParts {
  std::string_view name, value;
};
SettingParts split_setting(std::string_view setting);

}  // namespace repquant
