#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "ops/kernels/attention_layout.h"
#include "ops/kernels/levels.h"
#include "ops/kernels/library_product.h"

namespace repquant::ops {
namespace {

/// Of our own kernels.
CpuLevel highest_own_level() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni")) {
    return CpuLevel::kAvx512Vnni;
  }
  if (avx2) return CpuLevel::kAvx2;
#endif
  return CpuLevel::kGeneric;
}

CpuLevel highest_level() {
  const CpuLevel own = highest_own_level();
  return own == CpuLevel::kAvx512Vnni && library_has_products() ? CpuLevel::kOneDnn : own;
}

CpuLevel first_level() {
  const char* text = std::getenv("REPQUANT_CPU_LEVEL");
  // Without AMX nothing is tried: that would be work for every process.
  if (text == nullptr || *text == '\0') {
    return library_has_amx() ? highest_level() : highest_own_level();
  }
  std::string available;
  for (const CpuLevel level : available_levels()) {
    if (std::string(text) == level_name(level)) return level;
    available += (available.empty() ? "" : ", ") + std::string(level_name(level));
  }
  throw std::invalid_argument("REPQUANT_CPU_LEVEL=" + std::string(text) +
                              ": this processor has the levels " + available);
}

std::atomic<CpuLevel>& level_in_use() {
  static std::atomic<CpuLevel> level{first_level()};
  return level;
}

}  // namespace

std::int64_t attention_scratch(const AttentionArgs& args) { return AttentionLayout(args).total; }

std::vector<CpuLevel> available_levels() {
  std::vector<CpuLevel> levels;
  for (const CpuLevel level : kKnownLevels) {
    if (level <= highest_level()) levels.push_back(level);
  }
  return levels;
}

const Kernels& kernels(CpuLevel level) {
#if defined(__x86_64__)
  if (level == CpuLevel::kOneDnn) return kOneDnnKernels;
  if (level == CpuLevel::kAvx512Vnni) return kAvx512Kernels;
  if (level == CpuLevel::kAvx2) return kAvx2Kernels;
#endif
  static_cast<void>(level);
  return kGenericKernels;
}

CpuLevel current_level() { return level_in_use().load(std::memory_order_relaxed); }

void set_level(CpuLevel level) {
  const CpuLevel highest = highest_level();
  level_in_use().store(level < highest ? level : highest, std::memory_order_relaxed);
}

const char* level_name(CpuLevel level) {
  switch (level) {
    case CpuLevel::kGeneric:
      return "generic";
    case CpuLevel::kAvx2:
      return "avx2";
    case CpuLevel::kAvx512Vnni:
      return "avx512vnni";
    case CpuLevel::kOneDnn:
      return "onednn";
  }
  return "";
}

}  // namespace repquant::ops
