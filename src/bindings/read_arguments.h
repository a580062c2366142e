// The settings of a call from JSON.
#pragma once

#include "base/json_object.h"
#include "repquant/evaluate.h"
#include "repquant/quantize.h"

namespace repquant {

/// How the call itself goes.
struct CallSettings {
  bool progress = false;       // on stderr
  bool interruptible = false;  // SIGINT ends the work
};
CallSettings read_call_settings(JsonObject& object);

/// Keys that are no settings of quantize() are settings of the recipe, with "recipe" a file below
/// them. Throws Error kUsage naming the key, kFile for the recipe file.
QuantizeOptions read_quantize(JsonObject& object);

/// Throws Error kUsage naming the key, also for an unknown one.
EvaluationOptions read_evaluate(JsonObject& object);

}  // namespace repquant
