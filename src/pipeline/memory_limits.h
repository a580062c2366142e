// How a run keeps within the memory that it may take (base/memory.h: memory_room()).
#pragma once

#include <string>

#include "fit/spill.h"
#include "pipeline/prepare.h"

namespace repquant {

/// Where living activations go, and from how many bytes on: in `workdir` 256 MB, without one in the
/// folder of `output` (empty: the one for temporary files) an eighth of the memory that there is,
/// since the fit needs room beside them. In `workdir` no more than a quarter of it.
SpillPlace spill_place(const std::string& workdir, const std::string& output);

/// Throws Error kResource for a model whose weights alone do not fit into memory.
void check_model_fits(const std::string& model);

/// Throws Error kResource, with what is needed at least and what there is, for a run that cannot
/// fit into memory.
void check_run_fits(const PreparedRun& run, const WeightRecipe& recipe);

}  // namespace repquant
