// What the program tells its caller.
#pragma once

#include "repquant/error.h"

namespace repquant::cli {

/// The exit code of an error, as `repquant --help` lists them.
int exit_code(ErrorKind kind);

}  // namespace repquant::cli
