// The command line as a function; main() only maps its errors to exit codes.
#pragma once

#include <iosfwd>

#include "base/interrupt.h"
#include "repquant/error.h"

namespace repquant::cli {

/// Parses the arguments, runs one command and writes its result to `out`. Returns the exit code of
/// a run without error, which is 0. Throws Error; kUsage for bad options.
int run(int argc, const char* const* argv, std::ostream& out, const InterruptToken& interrupt);

/// The error as JSON in the place of a result, if the arguments ask for JSON.
void write_error(int argc, const char* const* argv, std::ostream& out, const Error& error);

}  // namespace repquant::cli
