#include "data/past.h"

#include <ATen/Functions.h>

#include <algorithm>

#include "archive/extra_file.h"
#include "base/json_text.h"
#include "repquant/error.h"

namespace repquant {
namespace {

constexpr int kPastVersion = 1;
constexpr const char *kFloatType = "float32", *kCodesType = "uint8";
constexpr JsonLimits kPastLimits{std::size_t{1} << 20, 4};
constexpr std::size_t kMostTensors = 4096;
constexpr std::int64_t kLargestSize = std::int64_t{1} << 20;

[[noreturn]] void fail(const std::string& where, const std::string& pointer, std::string expected,
                       const Json& got) {
  throw Error(ErrorKind::kUsage, {.what = "wrong description of a decoder's keys and values",
                                  .where = json_location(where, pointer),
                                  .expected = std::move(expected),
                                  .got = describe_json(got),
                                  .hint = "the export scripts write it with --cache"});
}

std::vector<std::int64_t> read_shape(const Json& value, const std::string& where,
                                     const std::string& pointer) {
  const std::string expected = "sizes of one sample, such as [heads, 0, width], with one 0";
  if (!value.is_array() || value.size() < 2 || value.size() > 4) {
    fail(where, pointer, expected, value);
  }
  std::vector<std::int64_t> shape;
  for (const Json& size : value) {
    const bool fits = size.is_number_integer() && size.get<double>() >= 0 &&
                      size.get<double>() <= static_cast<double>(kLargestSize);
    if (!fits) fail(where, pointer, expected, size);
    shape.push_back(size.get<std::int64_t>());
  }
  if (std::count(shape.begin(), shape.end(), 0) != 1) fail(where, pointer, expected, value);
  return shape;
}

}  // namespace

Past past_from_json(const std::string& text, const std::string& where) {
  const Json json = parse_json(text, where, kPastLimits);
  const bool typed = json.is_object() && json.contains("type");
  if (!json.is_object() || json.size() != (typed ? 3U : 2U) || !json.contains("schema_version") ||
      !json.contains("past")) {
    fail(where, "", "the keys schema_version and past, perhaps type", json);
  }
  if (json["schema_version"] != kPastVersion) {
    fail(where, "/schema_version", std::to_string(kPastVersion), json["schema_version"]);
  }
  const Json& tensors = json["past"];
  if (!tensors.is_array() || tensors.empty() || tensors.size() > kMostTensors) {
    fail(where, "/past", "1 to " + std::to_string(kMostTensors) + " shapes", tensors);
  }
  Past past;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    past.shapes.push_back(read_shape(tensors[i], where, "/past/" + std::to_string(i)));
  }
  if (typed) {
    const Json& type = json["type"];
    past.codes = type == kCodesType;
    if (!past.codes && type != kFloatType) fail(where, "/type", "\"float32\" or \"uint8\"", type);
  }
  return past;
}

std::string past_to_json(const Past& past) {
  Json json;
  json["schema_version"] = kPastVersion;
  json["past"] = past.shapes;
  if (past.codes) json["type"] = kCodesType;
  return json.dump();
}

Past find_past(const std::filesystem::path& model) {
  const auto text = read_extra_file(model, kCacheFile, kPastLimits.bytes);
  return text ? past_from_json(*text, model.string() + ":" + kCacheFile) : Past{};
}

std::vector<at::Tensor> empty_past(const Past& past, std::int64_t samples) {
  std::vector<at::Tensor> tensors;
  for (const auto& shape : past.shapes) {
    std::vector<std::int64_t> sizes{samples};
    sizes.insert(sizes.end(), shape.begin(), shape.end());
    tensors.push_back(at::zeros(sizes, past.codes ? at::kByte : at::kFloat));
  }
  return tensors;
}

}  // namespace repquant
