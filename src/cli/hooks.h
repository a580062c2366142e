// What long work reports while it runs, as log and progress of the command line.
#pragma once

#include "cli/command.h"
#include "repquant/evaluate.h"
#include "repquant/quantize.h"

namespace repquant::cli {

QuantizeHooks quantize_hooks(const Context& context);
EvaluationHooks evaluation_hooks(const Context& context);

}  // namespace repquant::cli
