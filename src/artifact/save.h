// Writes a lowered module as a TorchScript archive that depends on nothing but its content.
#pragma once

#include <map>
#include <string>

namespace torch::jit {
struct Module;
}

namespace repquant {

class AtomicFile;

/// Writes the archive through `file` (which the caller commits). `extra_files`: small text files of
/// the archive, by name. Equal modules and texts give equal bytes.
/// Throws Error kFile, for example on a full disk.
void save_artifact(const torch::jit::Module& module,
                   const std::map<std::string, std::string>& extra_files, AtomicFile& file);

}  // namespace repquant
