// What long work reports while it runs, as log and progress of the command line.
#pragma once

#include "cli/command.h"
#include "repquant/observer.h"

namespace repquant::cli {

Observer observer_of(const Context& context);

}  // namespace repquant::cli
