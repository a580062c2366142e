// The command line as a function; main() only maps its errors to exit codes.
#pragma once

#include <iosfwd>

#include "base/interrupt.h"

namespace repquant::cli {

/// Parses the arguments, runs one command and writes its result to `out`. Returns the exit code of
/// a run without error, which is 0. Throws Error; kUsage for bad options.
int run(int argc, const char* const* argv, std::ostream& out, const InterruptToken& interrupt);

}  // namespace repquant::cli
