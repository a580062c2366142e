// Reading TorchScript files, with errors that a user can act on.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "repquant/error.h"

namespace torch::jit {
struct Module;
}  // namespace torch::jit

namespace repquant {

/// What is wrong with a file that was given as a model: an Error kFile.
Error model_file_error(const std::string& path, std::string what, std::string got,
                       std::string hint);

/// Throws Error kFile for a path that holds no bytes: missing, a folder, unreadable or empty.
void check_model_path(const std::string& path);

/// Rejects what is plainly no TorchScript archive, without loading it.
/// Throws Error kFile (missing, a folder, empty, no zip archive).
void check_archive(const std::string& path);

/// Loads a TorchScript archive to the CPU. A model that is no artifact is made to run on the CPU,
/// in float32 and at inference (make_portable()); `notes` says what was changed. `trusted`: as in
/// validate_archive(). Throws Error kFile (missing, a folder, empty, truncated, not TorchScript),
/// kUnsupported (no forward method, operators that a model does not need).
torch::jit::Module load_archive(const std::string& path, bool trusted,
                                std::vector<std::string>* notes = nullptr);

}  // namespace repquant
