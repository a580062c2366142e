// An artifact that is being looked at, and how a claim about it is refuted.
#pragma once

#include <map>
#include <string>

#include "repquant/artifact.h"
#include "runtime/both_forms.h"
#include "runtime/lazy_archive.h"

namespace repquant {

using StoredStates = std::map<std::string, StoredState>;  // by submodule

/// Filled in from claim to claim; the file is read and loaded once.
struct Subject {
  std::string path;
  bool trusted = false;  // as VerifyOptions::trust
  ArtifactInfo info{};
  LazyArchive archive{};  // until `forms` takes it
  StoredStates stored{};
  BothForms forms{};
};

/// Throws Error kGate: the claim that is being looked at does not hold. `sentence` says what is
/// wrong, without a full stop.
[[noreturn]] void refute(const std::string& sentence);

}  // namespace repquant
