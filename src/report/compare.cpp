#include "report/compare.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <map>

#include "report/values.h"
#include "repquant/error.h"

namespace repquant {
namespace {

/// Keys that name an element of a list, in the order in which they are put together.
constexpr std::array<const char*, 11> kNaming{
    "path",       "model",           "row",  "form", "gate", "name", "kind", "weight_bits",
    "batch_size", "activation_bits", "phase"};

/// What an element of a list calls itself; empty if it has no name.
std::string name_of_element(const Json& element) {
  if (!element.is_object()) return "";
  std::string name;
  for (const char* key : kNaming) {
    const Json& value = value_at(element, key);
    if (value.is_null() || value.is_structured()) continue;
    // Files by their names: last night's lie in another folder.
    const bool file =
        value.is_string() && (std::string_view(key) == "model" || std::string_view(key) == "path");
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    name +=
        (name.empty() ? "" : " ") + (file ? std::filesystem::path(text).filename().string() : text);
  }
  return name;
}

bool is_plain_list(const Json& value) {
  return value.is_array() &&
         std::none_of(value.begin(), value.end(), [](const Json& e) { return e.is_structured(); });
}

class Flattened {
 public:
  explicit Flattened(const Json& json) { add("", json); }

  std::vector<std::string> order;
  std::map<std::string, const Json*> values;

 private:
  void add(const std::string& name, const Json& value) {
    if (value.is_object()) {
      for (const auto& item : value.items()) {
        // Sites have a table of their own; histograms are for the eye.
        if (name.empty() && (item.key() == "sites" || item.key() == "histograms")) continue;
        add(name.empty() ? item.key() : name + "/" + item.key(), item.value());
      }
    } else if (value.is_array() && !is_plain_list(value)) {
      for (std::size_t i = 0; i < value.size(); ++i) {
        std::string element = name_of_element(value[i]);
        if (element.empty()) element = std::to_string(i + 1);
        std::string full = name + "/" + element;
        // Two of one name keep their order.
        for (int again = 2; !taken_.emplace(full, again).second; ++again) {
          full = name + "/" + element + " #" + std::to_string(again);
        }
        add(full, value[i]);
      }
    } else if (values.emplace(name, &value).second) {
      order.push_back(name);
    }
  }

  std::map<std::string, int> taken_;
};

void add_sites(const Json& left, const Json& right, Comparison& comparison) {
  std::map<std::string, const Json*> others;
  for (const Json& site : items_at(right, "sites")) others[text_at(site, "path")] = &site;
  for (const Json& site : items_at(left, "sites")) {
    ComparedSite compared{.path = text_at(site, "path"), .left = site, .right = {}};
    if (const auto found = others.find(compared.path); found != others.end()) {
      compared.right = *found->second;
      others.erase(found);
    }
    comparison.sites.push_back(std::move(compared));
  }
  for (const Json& site : items_at(right, "sites")) {
    const std::string path = text_at(site, "path");
    if (others.count(path) > 0)
      comparison.sites.push_back({.path = path, .left = {}, .right = site});
  }
}

}  // namespace

Comparison compare_results(const Json& left, const Json& right) {
  const std::string first = text_at(left, "command"), second = text_at(right, "command");
  if (first != second) {
    throw Error(ErrorKind::kUsage, {.what = "these are results of different kinds",
                                    .expected = "two artifacts, or two results of one command",
                                    .got = first + " and " + second});
  }
  const Flattened a(left), b(right);
  Comparison comparison;
  for (const auto& name : a.order) {
    const auto other = b.values.find(name);
    comparison.values.push_back({.name = name,
                                 .left = *a.values.at(name),
                                 .right = other != b.values.end() ? *other->second : Json()});
  }
  for (const auto& name : b.order) {
    if (a.values.count(name) > 0) continue;
    comparison.values.push_back({.name = name, .left = {}, .right = *b.values.at(name)});
  }
  add_sites(left, right, comparison);
  return comparison;
}

double difference_of(const Json& left, const Json& right) {
  if (!left.is_number() || !right.is_number()) return std::numeric_limits<double>::quiet_NaN();
  return right.get<double>() - left.get<double>();
}

}  // namespace repquant
