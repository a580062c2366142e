#include "cli/render.h"

#include <array>
#include <ostream>

#include "base/text_table.h"
#include "cli/exit_code.h"

namespace repquant::cli {

Json result_object(const std::string& command) {
  Json json;
  json["schema_version"] = kResultSchemaVersion;
  json["command"] = command;
  return json;
}

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

std::string next_command(const std::vector<std::string>& words, const Layout& layout) {
  std::string text = "next: repquant";
  for (const std::string& word : words) {
    const bool plain = !word.empty() && word.find_first_of(" \t\"'\\$&();<>|*?#~`") == word.npos;
    text += " " + (plain ? word : "'" + word + "'");
  }
  // Broken lines end as a shell wants them, so that the command can be copied.
  std::string lines;
  for (const char c : wrapped(text, layout.width - 2, 6)) {
    if (c == '\n') lines += " \\";
    lines += c;
  }
  return lines + "\n";
}

std::string percent(double share, int decimals) { return format_percent(share, decimals); }

std::string count_text(std::int64_t count) { return format_count(static_cast<double>(count)); }

std::string bits_text(int weight_bits, int activation_bits) {
  if (weight_bits == 0 && activation_bits == 0) return "-";
  std::string text;
  if (weight_bits > 0) text.append("w").append(std::to_string(weight_bits));
  return text.append("a").append(std::to_string(activation_bits));
}

}  // namespace repquant::cli
