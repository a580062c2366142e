// What the classes of an artifact may store.
#pragma once

#include <string>

#include "archive/pickle.h"

namespace repquant {

/// Checks every stored value of every instance of the artifact's classes in `pickle`, an archive's
/// data.pkl: number of values, types, ranges, shapes of tensors and how they fit together. The
/// operators, fused or not, take them for granted. Instances of other classes are none of its
/// business. Throws Error kFile that names the class and the attribute after `where`.
void check_state(const internal::Pickle& pickle, const std::string& where);

}  // namespace repquant
