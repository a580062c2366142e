#include "report/compare.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "report/values.h"
#include "repquant/error.h"

namespace repquant {
namespace {

/// Keys that name an element of a list, in the order in which they are put together.
constexpr std::array<const char*, 11> kNaming{
    "path",       "model",           "row",  "form", "gate", "name", "kind", "weight_bits",
    "batch_size", "activation_bits", "phase"};

bool names_file(std::string_view key) { return key == "model" || key == "path"; }

/// What an element of a list calls itself, without its file: "fused".
struct ElementName {
  std::string file;  // without its folder: last night's lie in another one
  std::string rest;

  std::string text() const { return file + (file.empty() || rest.empty() ? "" : " ") + rest; }
};

ElementName name_of(const Json& element) {
  ElementName name;
  if (!element.is_object()) return name;
  for (const char* key : kNaming) {
    const Json& value = value_at(element, key);
    if (value.is_null() || value.is_structured()) continue;
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    if (value.is_string() && names_file(key)) {
      name.file = std::filesystem::path(text).filename().string();
    } else {
      name.rest += (name.rest.empty() ? "" : " ") + text;
    }
  }
  return name;
}

/// The elements of a list under names that no two of them share.
std::vector<std::pair<std::string, const Json*>> named_elements(const Json& list) {
  std::vector<std::pair<std::string, const Json*>> elements;
  std::set<std::string> taken;
  for (std::size_t i = 0; i < list.size(); ++i) {
    std::string name = name_of(list[i]).text();
    if (name.empty()) name = std::to_string(i + 1);
    std::string own = name;  // two of one name keep their order
    for (int again = 2; !taken.insert(own).second; ++again) {
      own = name + " #" + std::to_string(again);
    }
    elements.emplace_back(std::move(own), &list[i]);
  }
  return elements;
}

struct Pair {
  std::string name;
  const Json *left, *right;  // null where a side has none
};

/// By name; then of those that are left, other files under otherwise the same name in their order,
/// so that the same figures of two models stand side by side.
std::vector<Pair> paired_elements(const Json& left, const Json& right) {
  auto others = named_elements(right);
  std::vector<Pair> pairs;
  for (const auto& [name, element] : named_elements(left))
    pairs.push_back({name, element, nullptr});
  const auto take = [&](Pair& pair, const auto& fits) {
    const auto found = std::find_if(others.begin(), others.end(), fits);
    if (pair.right != nullptr || found == others.end()) return;
    pair.right = found->second;
    if (found->first != pair.name) pair.name += " | " + found->first;
    others.erase(found);
  };
  for (Pair& pair : pairs) {
    take(pair, [&](const auto& other) { return other.first == pair.name; });
  }
  for (Pair& pair : pairs) {
    const ElementName own = name_of(*pair.left);
    take(pair, [&](const auto& other) {
      const ElementName name = name_of(*other.second);
      return !own.file.empty() && !name.file.empty() && name.rest == own.rest;
    });
  }
  for (const auto& [name, element] : others) pairs.push_back({name, nullptr, element});
  return pairs;
}

bool is_structured(const Json& value) {
  return value.is_object() ||
         (value.is_array() &&
          std::any_of(value.begin(), value.end(), [](const Json& e) { return e.is_structured(); }));
}

/// Sites have a table of their own; histograms are for the eye.
bool stands_elsewhere(const std::string& name) { return name == "sites" || name == "histograms"; }

Json or_null(const Json* value) { return value != nullptr ? *value : Json(); }

const Json* find(const Json* object, const std::string& key) {
  if (object == nullptr) return nullptr;
  const auto found = object->find(key);
  return found != object->end() ? &*found : nullptr;
}

/// Every value under `name`, of either side; null pointers where a side has none.
void add_values(const std::string& name, const Json* left, const Json* right,
                std::vector<ComparedValue>& values) {
  const auto inside = [&](const std::string& key) { return name.empty() ? key : name + "/" + key; };
  const Json* one = left != nullptr ? left : right;
  if (left != nullptr && right != nullptr &&
      (is_structured(*left) != is_structured(*right) ||
       (is_structured(*left) && left->is_object() != right->is_object()))) {
    add_values(name, left, nullptr, values);
    add_values(name, nullptr, right, values);
  } else if (!is_structured(*one)) {
    values.push_back({name, or_null(left), or_null(right)});
  } else if (one->is_object()) {
    std::vector<std::string> keys;
    for (const Json* side : {left, right}) {
      if (side == nullptr) continue;
      for (const auto& item : side->items()) {
        if (side == left || find(left, item.key()) == nullptr) keys.push_back(item.key());
      }
    }
    for (const std::string& key : keys) {
      if (name.empty() && stands_elsewhere(key)) continue;
      add_values(inside(key), find(left, key), find(right, key), values);
    }
  } else {
    static const Json kNothing = Json::array();
    for (const Pair& pair : paired_elements(left != nullptr ? *left : kNothing,
                                            right != nullptr ? *right : kNothing)) {
      add_values(inside(pair.name), pair.left, pair.right, values);
    }
  }
}

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
  Comparison comparison;
  add_values("", &left, &right, comparison.values);
  add_sites(left, right, comparison);
  return comparison;
}

double difference_of(const Json& left, const Json& right) {
  if (!left.is_number() || !right.is_number()) return std::numeric_limits<double>::quiet_NaN();
  return right.get<double>() - left.get<double>();
}

}  // namespace repquant
