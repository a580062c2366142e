#include "format/names.h"

#include <algorithm>
#include <array>
#include <utility>

#include "repquant/error.h"

namespace repquant {
namespace {

template <typename T, std::size_t N>
using Names = std::array<std::pair<T, std::string_view>, N>;

constexpr Names<SiteInput, 8> kInputs{{{SiteInput::kNone, ""},
                                       {SiteInput::kNorm, "norm"},
                                       {SiteInput::kActivation, "activation"},
                                       {SiteInput::kAttention, "attention"},
                                       {SiteInput::kOperands, "operands"},
                                       {SiteInput::kQuantize, "quantize"},
                                       {SiteInput::kFloat, "float"},
                                       {SiteInput::kIndices, "indices"}}};
constexpr Names<SiteOutput, 5> kOutputs{{{SiteOutput::kNone, ""},
                                         {SiteOutput::kFloat, "float"},
                                         {SiteOutput::kOperandCodes, "operand codes"},
                                         {SiteOutput::kProductCodes, "product codes"},
                                         {SiteOutput::kIntegerProducts, "integer products"}}};
constexpr Names<SitePart, 5> kParts{{{SitePart::kNone, ""},
                                     {SitePart::kSite, "site"},
                                     {SitePart::kInputCodes, "input codes"},
                                     {SitePart::kSideColumns, "side columns"},
                                     {SitePart::kRowScales, "scales of rows"}}};

template <typename T, std::size_t N>
std::string find_name(const Names<T, N>& names, T value) {
  const auto found =
      std::find_if(names.begin(), names.end(), [&](const auto& row) { return row.first == value; });
  return found == names.end() ? "" : std::string(found->second);
}

template <typename T, std::size_t N>
T find_value(const Names<T, N>& names, std::string_view name, const std::string& source) {
  const auto found =
      std::find_if(names.begin(), names.end(), [&](const auto& row) { return row.second == name; });
  if (found != names.end()) return found->first;
  std::string expected;
  for (const auto& row : names) {
    if (!row.second.empty()) expected += (expected.empty() ? "" : ", ") + std::string(row.second);
  }
  throw Error(ErrorKind::kFile, {.what = "the artifact's description has an unknown form of a site",
                                 .where = source,
                                 .expected = expected,
                                 .got = std::string(name.substr(0, 60)),
                                 .hint = "use the release of repquant that wrote it"});
}

}  // namespace

std::string name_of(SiteInput input) { return find_name(kInputs, input); }
std::string name_of(SiteOutput output) { return find_name(kOutputs, output); }
std::string name_of(SitePart part) { return find_name(kParts, part); }

SiteInput parse_site_input(std::string_view name, const std::string& source) {
  return find_value(kInputs, name, source);
}

SiteOutput parse_site_output(std::string_view name, const std::string& source) {
  return find_value(kOutputs, name, source);
}

}  // namespace repquant
