// The names of the recipe's enumerations, one table each; used by JSON, options, schema and help.
#pragma once

#include <array>
#include <string_view>
#include <utility>

#include "repquant/recipe.h"

namespace repquant {

template <class Enum>
using EnumName = std::pair<Enum, std::string_view>;

inline constexpr std::array<EnumName<Clipping>, 4> kClippingNames{{
    {Clipping::kMinMax, "minmax"},
    {Clipping::kPercentile, "percentile"},
    {Clipping::kSearch, "search"},
    {Clipping::kLearned, "learned"},
}};

inline constexpr std::array<EnumName<InputGranularity>, 4> kInputGranularityNames{{
    {InputGranularity::kPerTensor, "per_tensor"},
    {InputGranularity::kPerChannel, "per_channel"},
    {InputGranularity::kAuto, "auto"},
    {InputGranularity::kPerToken, "per_token"},
}};

inline constexpr std::array<EnumName<TokenScales>, 3> kTokenScalesNames{{
    {TokenScales::kNever, "never"},
    {TokenScales::kAlways, "always"},
    {TokenScales::kAuto, "auto"},
}};

inline constexpr std::array<EnumName<GeluGrid>, 3> kGeluGridNames{{
    {GeluGrid::kUniform, "uniform"},
    {GeluGrid::kQuadratic, "quadratic"},
    {GeluGrid::kAuto, "auto"},
}};

inline constexpr std::array<EnumName<SoftmaxGrid>, 3> kSoftmaxGridNames{{
    {SoftmaxGrid::kLog, "log"},
    {SoftmaxGrid::kUniform, "uniform"},
    {SoftmaxGrid::kAuto, "auto"},
}};

inline constexpr std::array<EnumName<SoftmaxScaling>, 2> kSoftmaxScalingNames{{
    {SoftmaxScaling::kRowMaximum, "row_maximum"},
    {SoftmaxScaling::kPerTensor, "per_tensor"},
}};

inline constexpr std::array<EnumName<WeightRounding>, 2> kWeightRoundingNames{{
    {WeightRounding::kNearest, "nearest"},
    {WeightRounding::kGptq, "gptq"},
}};

inline constexpr std::array<EnumName<Compensation>, 3> kCompensationNames{{
    {Compensation::kNone, "none"},
    {Compensation::kInput, "input"},
    {Compensation::kStream, "stream"},
}};

inline constexpr std::array<EnumName<Effort>, 3> kEffortNames{{
    {Effort::kFast, "fast"},
    {Effort::kStandard, "standard"},
    {Effort::kHigh, "high"},
}};

constexpr const auto& names_of(Clipping) { return kClippingNames; }
constexpr const auto& names_of(InputGranularity) { return kInputGranularityNames; }
constexpr const auto& names_of(TokenScales) { return kTokenScalesNames; }
constexpr const auto& names_of(GeluGrid) { return kGeluGridNames; }
constexpr const auto& names_of(SoftmaxGrid) { return kSoftmaxGridNames; }
constexpr const auto& names_of(SoftmaxScaling) { return kSoftmaxScalingNames; }
constexpr const auto& names_of(WeightRounding) { return kWeightRoundingNames; }
constexpr const auto& names_of(Compensation) { return kCompensationNames; }
constexpr const auto& names_of(Effort) { return kEffortNames; }

/// Name of a recipe enumeration's value; empty for a value that the table does not hold.
template <class Enum>
constexpr std::string_view name_of(Enum value) {
  for (const auto& [entry, name] : names_of(value)) {
    if (entry == value) return name;
  }
  return {};
}

}  // namespace repquant
