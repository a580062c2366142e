#include "cli/help.h"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <string>

#include "cli/layout.h"

namespace repquant::cli {
namespace {

constexpr std::size_t kLeft = 26;  // of the names

/// Names in the left column, the text wrapped in the right one.
std::string two_columns(const std::string& names, const std::string& text, std::size_t width) {
  std::string line = "  " + names;
  if (line.size() + 2 > kLeft) {
    line += "\n" + std::string(kLeft, ' ');
  } else {
    line.resize(kLeft, ' ');
  }
  std::string right = wrapped(text, std::max<std::size_t>(width, 2 * kLeft) - kLeft);
  for (std::size_t at = 0; (at = right.find('\n', at)) != right.npos; at += kLeft) {
    right.insert(++at, kLeft, ' ');
  }
  return line + right + "\n";
}

class HelpFormatter final : public CLI::Formatter {
 public:
  explicit HelpFormatter(std::size_t width) : width_(width) {}

  std::string make_option(const CLI::Option* option, bool positional) const override {
    std::string names = make_option_name(option, positional);
    const bool takes_value = option->get_type_size() != 0;
    std::string type = takes_value && !positional ? option->get_type_name() : "";
    type = type.substr(0, type.find(':'));  // without the ranges of checks
    if (!type.empty()) names += " " + type;
    std::string text = option->get_description();
    const std::string& value = option->get_default_str();
    if (takes_value && !value.empty()) text += " (default: " + value + ")";
    if (option->get_required() && !positional) text += " (required)";
    return two_columns(names, text, width_);
  }

  std::string make_subcommand(const CLI::App* command) const override {
    return two_columns(command->get_name(), command->get_description(), width_);
  }

  std::string make_description(const CLI::App* app) const override {
    return wrapped(app->get_description(), width_) + "\n\n";
  }

  std::string make_footer(const CLI::App* app) const override {
    return wrapped(app->get_footer(), width_, 0) + "\n";
  }

 private:
  std::size_t width_;
};

}  // namespace

std::shared_ptr<CLI::FormatterBase> help_formatter(std::size_t width) {
  return std::make_shared<HelpFormatter>(width);
}

}  // namespace repquant::cli
