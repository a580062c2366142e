// Which failures are one site's own.
#pragma once

#include <string>

#include "repquant/error.h"

namespace repquant {

/// Kinds of errors that one site may be to blame for.
bool is_of_one_site(ErrorKind kind);

/// In a handler of an exception that the fit of a site threw: why the site cannot be quantized, in
/// one line. Throws on what no site is to blame for: mistakes of usage, files, resources and
/// memory, and interruption.
std::string reason_of_failure();

}  // namespace repquant
