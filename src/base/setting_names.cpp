#include "base/setting_names.h"

#include <algorithm>
#include <utility>

namespace repquant {

std::string replace_settings(std::string_view text, const SettingName& name_of) {
  std::string result;
  for (;;) {
    const std::size_t begin = text.find('`');
    const std::size_t end = begin == text.npos ? text.npos : text.find('`', begin + 1);
    if (end == text.npos) return result.append(text);
    result.append(text.substr(0, begin));
    result.append(name_of(text.substr(begin + 1, end - begin - 1)));
    text.remove_prefix(end + 1);
  }
}

Error replace_settings(const Error& error, const SettingName& name_of) {
  ErrorParts parts = error.parts();
  for (std::string* part : {&parts.what, &parts.where, &parts.expected, &parts.hint}) {
    *part = replace_settings(*part, name_of);
  }
  return {error.kind(), std::move(parts)};
}

SettingParts split_setting(std::string_view setting) {
  const std::size_t end = std::min(setting.find('='), setting.size());
  return {setting.substr(0, end), setting.substr(std::min(end + 1, setting.size()))};
}

}  // namespace repquant
