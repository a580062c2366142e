// Results that are of no use, and what to try.
#pragma once

#include <string>
#include <vector>

#include "repquant/evaluate.h"
#include "repquant/quantize.h"

namespace repquant::cli {

/// Warnings of a result that is lost or of a model that was hardly quantized; none if it is of use.
std::vector<std::string> lost_results(const QuantizeReport& report);

/// Warnings of models that have little in common with the reference; none without one.
std::vector<std::string> lost_results(const EvaluationReport& report);

}  // namespace repquant::cli
