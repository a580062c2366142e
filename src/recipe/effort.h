// What --effort stands for: named sets of recipe settings.
#pragma once

#include <span>
#include <string_view>

#include "repquant/recipe.h"

namespace repquant {

struct EffortSetting {
  std::string_view key;    // dotted: "weights.compensation"
  std::string_view value;  // as --set takes it
};

/// The settings that `effort` fixes; the same keys for every effort. Recipe{} is the standard one.
std::span<const EffortSetting> effort_settings(Effort effort);

}  // namespace repquant
