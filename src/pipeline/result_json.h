// What quantize() reports, as JSON: for the command line and for Python.
#pragma once

#include "base/json_text.h"
#include "repquant/quantize.h"

namespace repquant {

/// The result of `repquant quantize --json`.
Json quantize_json(const QuantizeReport& report);

}  // namespace repquant
