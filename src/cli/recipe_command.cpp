// repquant recipe: what the ready recipes are and say.
#include <algorithm>
#include <memory>
#include <ostream>
#include <string>

#include "cli/command.h"
#include "cli/render.h"
#include "recipe/fields.h"
#include "recipe/json.h"

namespace repquant::cli {
namespace {

std::string recipes_text(const Layout& layout) {
  std::size_t width = 0;
  for (const std::string& name : ready_recipe_names()) width = std::max(width, name.size());
  std::string text;
  for (const std::string& name : ready_recipe_names()) {
    const std::string line =
        name + std::string(width - name.size() + 2, ' ') + ready_recipe_description(name);
    text += wrapped(line, layout.width, width + 2) + "\n";
  }
  return text + "A width such as w4a8 names the defaults at these bits.\n";
}

Json list_json() {
  Json result = result_object("recipe");
  result["recipes"] = Json::array();
  for (const std::string& name : ready_recipe_names()) {
    result["recipes"].push_back({{"name", name}, {"description", ready_recipe_description(name)}});
  }
  return result;
}

/// Every setting with its value, what it means and what it takes.
std::string explained(const Recipe& recipe, const Layout& layout) {
  constexpr std::size_t kIndent = 4;
  const std::string indent(kIndent, ' ');
  std::string text;
  for (const RecipeField& field : recipe_fields()) {
    const std::string about = field.help + " (" + expected_value(field) + ")";
    text += field.path + " = " + field.get(recipe).dump() + "\n" +
            wrapped(indent + about, layout.width, kIndent) + "\n";
  }
  return text;
}

}  // namespace

Command add_recipe(CLI::App& parent) {
  Command command;
  command.app = parent.add_subcommand("recipe", "List the ready recipes, or show one");
  command.app->require_subcommand(1);
  CLI::App* list = command.app->add_subcommand("list", "Names, and what they are for");
  CLI::App* show = command.app->add_subcommand("show", "Every setting of one, for --recipe FILE");
  auto name = std::make_shared<std::string>();
  show->add_option("NAME", *name, "a ready recipe, or a width such as w4a8")->required();
  auto explain = std::make_shared<bool>(false);
  show->add_flag("--explain", *explain, "say what each setting means and takes, instead of JSON");
  command.example = "repquant recipe show paper > mine.json";
  command.common = add_common_options(*command.app);
  list->fallthrough();
  show->fallthrough();
  command.run = [list, name, explain](const Context& context) {
    if (!list->parsed()) {
      const Recipe recipe = ready_recipe(*name, "recipe show");
      const bool text = *explain && !context.json;
      *context.out << (text ? explained(recipe, context.layout) : recipe_to_json(recipe));
    } else if (context.json) {
      write_json(*context.out, list_json());
    } else {
      *context.out << recipes_text(context.layout);
    }
  };
  return command;
}

}  // namespace repquant::cli
