// What quantize() is asked for in tests on the planted model.
#pragma once

#include <string>

#include "recipe/json.h"
#include "repquant/quantize.h"
#include "support/fixtures.h"
#include "support/temp_dir.h"

namespace repquant::testing {

/// w4a4 from 32 samples, written to `name` in `folder`.
inline QuantizeOptions planted_options(const TempDir& folder, const std::string& name) {
  QuantizeOptions options;
  options.model = (fixture_dir() / "planted.trace.pt").string();
  options.calib = DataPath{(fixture_dir() / "planted_calib.npz").string()};
  options.output = (folder / name).string();
  options.recipe = recipe_for_bits({4, 4});
  options.recipe.calibration.samples = 32;
  return options;
}

}  // namespace repquant::testing
