#include "base/memory.h"

#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

namespace repquant {
namespace {

/// A line such as "VmHWM:   123 kB" of /proc/self/status, in bytes; 0 if there is none.
std::int64_t status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(key + ":", 0) != 0) continue;
    std::istringstream text(line.substr(key.size() + 1));
    std::int64_t kilobytes = 0;
    text >> kilobytes;
    return kilobytes * 1024;
  }
  return 0;
}

}  // namespace

std::int64_t resident_memory_bytes() {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
  return status_bytes("VmRSS");
}

std::int64_t peak_memory_bytes() {
  if (const std::int64_t peak = status_bytes("VmHWM"); peak > 0) return peak;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

std::optional<std::int64_t> memory_left() {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  const auto most = static_cast<std::int64_t>(std::min<rlim_t>(limit.rlim_cur, INT64_MAX));
  return std::max<std::int64_t>(0, most - status_bytes("VmSize"));
}

void return_large_blocks() {
#if defined(__GLIBC__)
  constexpr int kLargeBytes = 1 << 21;
  mallopt(M_MMAP_THRESHOLD, kLargeBytes);  // fixed from now on
  mallopt(M_TRIM_THRESHOLD, 1 << 25);
#endif
}

bool reset_peak_memory() {
  std::ofstream refs("/proc/self/clear_refs");
  refs << "5" << std::flush;  // proc(5): reset the peak resident set size
  return refs.good();
}

}  // namespace repquant
