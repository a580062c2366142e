// What runs where in a form, of an artifact that is loaded already.
#pragma once

#include <string>

#include "repquant/artifact.h"
#include "repquant/load.h"

namespace torch::jit {
struct Module;
}  // namespace torch::jit

namespace repquant {

/// True if u8 x s8 products of pairs are summed without saturation, as LibTorch's library does with
/// VNNI.
bool products_are_exact();

/// `root`: the artifact as torch::jit::load gives it. Throws Error kFile, naming `path`, where it
/// lacks a submodule of its table.
RuntimeReport portable_report(const torch::jit::Module& root, const ArtifactInfo& info,
                              const std::string& path);

/// `loaded`: what load() said; `artifact`: of the same file.
FusedReport fused_report(const LoadReport& loaded, const ArtifactReport& artifact);

}  // namespace repquant
