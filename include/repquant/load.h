// Loading an artifact for use: the same file, rewritten at load to fused operators.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace torch::jit {
struct Module;
}  // namespace torch::jit

namespace repquant {

struct LoadOptions {
  bool fused = true;   // false: the portable operators everywhere, as torch::jit::load gives them
  bool trust = false;  // the file's code may reach files and processes (docs/security.md)
};

/// How one submodule of the artifact runs.
struct LoadedSite {
  std::string module;  // its name in the artifact, as in the site table
  std::string op;      // "repquant::linear u8 x s4", or the class of the portable submodule
  bool fused = false;
  std::string reason;  // why it is not fused; or what was fused into it
};

struct LoadReport {
  std::string cpu_level;          // instruction set of the fused operators, see cpu_level()
  std::vector<LoadedSite> sites;  // in the order in which the graph calls them
};

/// The instruction set of the fused operators in this process: generic, avx2, avx512vnni, or
/// onednn, which is avx512vnni with the products of Linears by LibTorch's oneDNN, for processors
/// with AMX. Throws Error kUsage if REPQUANT_CPU_LEVEL names no level that this processor has.
std::string cpu_level();

/// Which instruction set, and among which. Looks for all of them: for diagnosis.
struct CpuLevelReport {
  std::string level;                   // as cpu_level()
  std::vector<std::string> available;  // on this processor, rising
  bool requested = false;              // by REPQUANT_CPU_LEVEL; else the fastest is used
};

/// Throws Error kUsage as cpu_level().
CpuLevelReport cpu_level_report();

/// The fused operators of one instruction set on small problems, against plain loops.
struct KernelTest {
  std::string level;       // as cpu_level() names it
  bool available = false;  // on this processor; else nothing was run
  std::string wrong{};     // operators whose result is wrong; empty: none

  bool passed() const { return wrong.empty(); }
};

/// Every instruction set that operators are written for, rising. Runs them one after the other and
/// switches the whole process for that: for diagnosis, while nothing else computes.
std::vector<KernelTest> test_kernels();

/// Loads an artifact and replaces its submodules by fused operators where they have one, site by
/// site; the others keep the portable operators. The module has the artifact's forward().
/// Fused weights keep their width in memory: two codes per byte up to 4 bits.
/// Throws Error kFile (missing, damaged), kUnsupported (no artifact of repquant, or of another
/// major version), kUsage as cpu_level(). The caller includes <torch/script.h>.
torch::jit::Module load(const std::string& path, const LoadOptions& options = {},
                        LoadReport* report = nullptr);

}  // namespace repquant
