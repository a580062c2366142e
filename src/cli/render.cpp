#include "cli/render.h"

#include <algorithm>
#include <array>
#include <ostream>

#include "base/text_table.h"
#include "cli/exit_code.h"

namespace repquant::cli {

Json error_json(const Error& error) {
  const auto part = [](const std::string& text) {
    return text.empty() ? Json(nullptr) : Json(text);
  };
  const ErrorParts& parts = error.parts();
  Json json;
  json["schema_version"] = kResultSchemaVersion;
  json["error"] = {{"kind", name_of(error.kind())},    {"exit_code", exit_code(error.kind())},
                   {"what", part(parts.what)},         {"where", part(parts.where)},
                   {"expected", part(parts.expected)}, {"got", part(parts.got)},
                   {"hint", part(parts.hint)}};
  return json;
}

void write_json(std::ostream& out, const Json& json) {
  out << json.dump(2, ' ', false, Json::error_handler_t::replace) << '\n';
}

std::string shell_word(const std::string& word) {
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  const bool control = std::any_of(word.begin(), word.end(), is_control);
  const bool plain =
      !control && !word.empty() && word.find_first_of(" \"'\\$&();<>|*?#~`![]{}") == word.npos;
  if (plain) return word;
  std::string quoted = control ? "$'" : "'";
  for (const char c : word) {
    if (!control) {
      quoted += c == '\'' ? "'\\''" : std::string(1, c);
    } else if (is_control(c)) {
      constexpr const char* kDigits = "0123456789abcdef";
      const auto byte = static_cast<unsigned char>(c);
      quoted.append("\\x").append({kDigits[byte / 16], kDigits[byte % 16]});
    } else {
      quoted += (c == '\'' || c == '\\' ? "\\" : "") + std::string(1, c);
    }
  }
  return quoted + "'";
}

std::string next_command(const std::vector<std::string>& words, const Layout& layout) {
  constexpr std::size_t kContinued = 2;  // broken lines end as a shell wants them
  std::string text, line = "next: repquant";
  for (const std::string& word : words) {
    const std::string quoted = shell_word(word);
    if (width_of(line) + 1 + width_of(quoted) > layout.width - kContinued) {
      text += line + " \\\n";
      line = "     ";
    }
    line += " " + quoted;
  }
  return text + line + "\n";
}

std::string count_text(std::int64_t count) { return format_count(static_cast<double>(count)); }

std::string bits_text(int weight_bits, int activation_bits) {
  if (weight_bits == 0 && activation_bits == 0) return "-";
  std::string text;
  if (weight_bits > 0) text.append("w").append(std::to_string(weight_bits));
  return text.append("a").append(std::to_string(activation_bits));
}

}  // namespace repquant::cli
