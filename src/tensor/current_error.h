// Exceptions of other libraries as errors of this one.
#pragma once

#include "repquant/error.h"

namespace repquant {

/// The exception that is being handled (call it in a catch block) as an Error: an Error as it is,
/// exhausted memory as kResource, everything else as kInternal.
Error current_error();

}  // namespace repquant
