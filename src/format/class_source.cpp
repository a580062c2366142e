#include "format/class_source.h"

#include <algorithm>
#include <cctype>
#include <span>

#include "base/embedded_file.h"
#include "repquant/error.h"

namespace repquant {

std::span<const EmbeddedFile> class_files();

namespace {

constexpr std::string_view kNamespace = "__torch__.repquant.";
constexpr std::string_view kIndent = "    ";

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

bool is_constant_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isupper(c) != 0 || c == '_';
  });
}

void replace_all(std::string& text, const std::string& name, const std::string& value) {
  for (auto at = text.find(name); at != std::string::npos; at = text.find(name, at)) {
    text.replace(at, name.size(), value);
    at += value.size();
  }
}

/// "name: type" of an attribute, "NAME = value" of a constant; empty if the line is neither.
std::pair<std::string, std::string> split_at(std::string_view line, std::string_view separator) {
  const std::size_t at = line.find(separator);
  if (at == std::string_view::npos) return {};
  return {std::string(line.substr(0, at)), std::string(line.substr(at + separator.size()))};
}

std::vector<ClassSource> read_classes() {
  std::vector<ClassSource> sources;
  for (const EmbeddedFile& file : class_files()) sources.push_back(parse_class(file.text));
  return sources;
}

}  // namespace

ClassSource parse_class(std::string_view text) {
  ClassSource source;
  auto* attributes = &source.stored;
  bool methods = false;
  for (std::string_view line : lines_of(text)) {
    if (source.name.empty()) {
      if (line.starts_with("class ")) source.name = line.substr(6, line.find(':') - 6);
      if (auto constant = split_at(line, " = "); is_constant_name(constant.first)) {
        source.constants.insert(std::move(constant));
      }
      continue;
    }
    if (line.starts_with(kIndent)) line.remove_prefix(kIndent.size());
    methods = methods || line.empty();
    if (methods) {
      source.methods.append(line).append("\n");
    } else if (line.starts_with("# Derived")) {
      attributes = &source.derived;
    } else if (!line.starts_with("#")) {
      attributes->push_back(split_at(line, ": "));
    }
  }
  if (source.name.empty())
    throw Error(ErrorKind::kInternal, {.what = "an embedded file has no class"});
  for (const auto& [name, value] : source.constants) replace_all(source.methods, name, value);
  return source;
}

const std::vector<ClassSource>& class_sources() {
  static const std::vector<ClassSource> sources = read_classes();
  return sources;
}

const ClassSource& class_source(ClassKind kind) {
  return class_sources().at(static_cast<std::size_t>(kind));
}

std::string qualified_name(const ClassSource& source) {
  return std::string(kNamespace) + source.name;
}

const ClassSource* find_class(std::string_view qualified_name) {
  if (!qualified_name.starts_with(kNamespace)) return nullptr;
  const auto kind = find_class_kind(qualified_name.substr(kNamespace.size()));
  return kind ? &class_source(*kind) : nullptr;
}

std::optional<ClassKind> find_class_kind(std::string_view name) {
  const auto& sources = class_sources();
  const auto found = std::find_if(sources.begin(), sources.end(),
                                  [&](const ClassSource& source) { return source.name == name; });
  if (found == sources.end()) return std::nullopt;
  return static_cast<ClassKind>(found - sources.begin());
}

std::int64_t integer_scores_work() {
  return std::stoll(class_source(ClassKind::kScores).constants.at("INTEGER_WORK"));
}

std::string full_source(const ClassSource& source) {
  std::string types, values, assignments;
  std::size_t index = 0;
  auto stored = source.stored;
  stored.emplace_back("training", "bool");
  for (const auto& [name, type] : stored) {
    const std::string separator = index == 0 ? "" : ", ";
    types.append(separator).append(type);
    values.append(separator).append("self.").append(name);
    assignments += "    self." + name + " = state[" + std::to_string(index) + "]\n";
    ++index;
  }
  const std::string tuple = "Tuple[" + types + "]";
  return source.methods + "\ndef __getstate__(self) -> " + tuple + ":\n    return (" + values +
         ")\n\ndef __setstate__(self, state: " + tuple + ") -> None:\n" + assignments +
         "    self.prepare()\n";
}

}  // namespace repquant
