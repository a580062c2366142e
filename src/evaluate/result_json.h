// What evaluate() reports, as JSON: for the command line and for Python.
#pragma once

#include "base/json_text.h"
#include "evaluate/gates.h"
#include "repquant/evaluate.h"

namespace repquant {

/// The result of `repquant evaluate --json`, without gates.
Json evaluation_json(const EvaluationReport& report);

Json gate_json(const GateResult& gate);

}  // namespace repquant
