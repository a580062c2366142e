// The state of the sequential fit as a value: the plans decided so far. The two value streams are a
// deterministic function of plans and data, so they are recomputed on resume (two forward passes)
// and not stored.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plan/site_plan.h"

namespace repquant {

struct FitState {
  std::string fingerprint;  // model, data and recipe that the plans belong to
  /// In execution order; nothing where a file is damaged: that site is fitted again.
  std::vector<std::optional<SitePlan>> plans;
  std::vector<std::string> damaged;  // those files
};

/// Whether plans of this run follow the one that is written.
enum class CheckpointEnd { kHere, kLater };

/// Writes one file per plan into `workdir` as they come: site_0003.pt. Atomic, never half-written,
/// flushed to disk, with a digest. kHere ends the checkpoint: what an older run left behind it is
/// not read any more. Throws Error kFile when the folder cannot be written.
void append_checkpoint(const std::string& workdir, const std::string& fingerprint,
                       std::size_t index, const SitePlan& plan,
                       CheckpointEnd end = CheckpointEnd::kHere);

/// Reads what append_checkpoint wrote, up to the first missing index; no plans if there are none.
/// A file that is damaged costs its site alone.
/// Throws Error kUsage if the checkpoint belongs to another model, data set or recipe.
FitState read_checkpoint(const std::string& workdir, const std::string& fingerprint);

/// Whether a run has left one there.
bool has_checkpoint(const std::string& workdir);

}  // namespace repquant
