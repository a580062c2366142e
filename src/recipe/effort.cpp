#include "recipe/effort.h"

#include <array>

namespace repquant {
namespace {

// fast: the paper's method, and what costs no time.
constexpr std::array<EffortSetting, 2> kFast = {{
    {"weights.compensation", "none"},
    {"weights.sensitivity", "0"},
}};

constexpr std::array<EffortSetting, 2> kStandard = {{
    {"weights.compensation", "stream"},
    {"weights.sensitivity", "0.8"},
}};

}  // namespace

std::span<const EffortSetting> effort_settings(Effort effort) {
  switch (effort) {
    case Effort::kFast:
      return kFast;
    case Effort::kStandard:
      return kStandard;
  }
  return kStandard;
}

}  // namespace repquant
