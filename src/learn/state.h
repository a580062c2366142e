// How far learning has come, as a value that a run can be resumed from.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "quantizer/adam.h"

namespace repquant {

struct LearnState {
  int steps = 0;                   // done
  std::vector<at::Tensor> values;  // of the parameters, float32
  std::vector<AdamState> moments;
};

/// Writes learning.pt into `workdir`: atomic, flushed to disk, with a digest. `fingerprint`: what
/// it belongs to. Throws Error kFile.
void write_learn_state(const std::string& workdir, const std::string& fingerprint,
                       const LearnState& state);

/// What was written for this `fingerprint`, whose values have the sizes of `like`; nothing where
/// there is no such file. One that is damaged is told to `warn`.
std::optional<LearnState> read_learn_state(const std::string& workdir,
                                           const std::string& fingerprint,
                                           const std::vector<at::Tensor>& like,
                                           const std::function<void(const std::string&)>& warn);

}  // namespace repquant
