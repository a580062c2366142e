// What long work reports while it runs, as progress.
#pragma once

#include "base/log.h"
#include "base/progress.h"
#include "repquant/observer.h"

namespace repquant {

/// Phases and items go to `progress`, short phases to `log` as its status. Nothing else is
/// replaced.
Observer progress_observer(const Log& log, const Progress& progress);

}  // namespace repquant
