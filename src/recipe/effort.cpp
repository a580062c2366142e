#include "recipe/effort.h"

#include <array>

namespace repquant {
namespace {

// fast: the paper's method, and what costs no time.
constexpr std::array<EffortSetting, 3> kFast = {{
    {"weights.compensation", "none"},
    {"weights.sensitivity", "0"},
    {"learning.steps", "0"},
}};

constexpr std::array<EffortSetting, 3> kStandard = {{
    {"weights.compensation", "stream"},
    {"weights.sensitivity", "0.8"},
    {"learning.steps", "0"},
}};

constexpr std::array<EffortSetting, 3> kHigh = {{
    {"weights.compensation", "stream"},
    {"weights.sensitivity", "0.8"},
    {"learning.steps", "500"},
}};

}  // namespace

std::span<const EffortSetting> effort_settings(Effort effort) {
  switch (effort) {
    case Effort::kFast:
      return kFast;
    case Effort::kStandard:
      return kStandard;
    case Effort::kHigh:
      return kHigh;
  }
  return kStandard;
}

}  // namespace repquant
