// What a file is that was given as a model.
#pragma once

#include <string>

#include "repquant/error.h"

namespace repquant {

/// Refuses a file that is no TorchScript archive, by its content and without loading it. The error
/// names what it is instead (a state dict, a pickled module, a .pt2 program, safetensors, ONNX,
/// data, text ...) and how to come from there to TorchScript. Throws Error kFile, also for a file
/// that is missing, a folder, empty or cut short.
void check_model_file(const std::string& path, bool trusted);

}  // namespace repquant
