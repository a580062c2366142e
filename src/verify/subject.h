// An artifact that is being looked at, and how a claim about it is refuted.
#pragma once

#include <map>
#include <string>

#include "repquant/artifact.h"
#include "runtime/lazy_archive.h"

namespace repquant {

using StoredStates = std::map<std::string, StoredState>;  // by submodule

struct Subject {
  std::string path;
  ArtifactInfo info;
  StoredStates stored;
};

/// Throws Error kGate: the claim that is being looked at does not hold. `sentence` says what is
/// wrong, without a full stop.
[[noreturn]] void refute(const std::string& sentence);

/// "1 site", "3 sites".
std::string counted(std::size_t count, const std::string& noun);

}  // namespace repquant
