// What the description says of its sites, against what the file holds.
#pragma once

#include <string>

#include "verify/subject.h"

namespace repquant {

/// Each site has its submodules, of the class that its kind asks for, with the bits that it states.
std::string look_at_table(const Subject& subject);

/// Every tensor of codes holds at most 2^bits different ones, within -2^(bits-1) ..
/// 2^(bits-1) - 1, and scales are finite.
std::string look_at_codes(const StoredStates& stored);

/// The sums of the coverage are those of the table, and its parameters those of the tensors.
std::string look_at_coverage(const Subject& subject);

/// forward() calls every submodule of the table, no product is left that the coverage does not
/// name; says what runs in integers here, by form.
std::string look_at_integers(const Subject& subject);

}  // namespace repquant
