// Memory of this process, as Linux accounts for it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace repquant {

/// Bytes of RAM in use now (resident set size); 0 where the system does not tell. Memory that was
/// freed but is kept by the allocator is handed back first.
std::int64_t resident_memory_bytes();

/// Largest resident set size since the start, or since reset_peak_memory().
std::int64_t peak_memory_bytes();

/// How much more memory this process may take, and what says so.
struct MemoryRoom {
  std::int64_t bytes = 0;  // not below 0
  std::string limit;       // "of the address space (ulimit -v)", to follow "the limit"
};

/// The least room under the limits of the process (ulimit -v, ulimit -d, limit_memory()), of its
/// control groups, and of what is free on the machine; nothing where the system does not tell.
std::optional<MemoryRoom> memory_room();

/// The same of control groups alone, versions 1 and 2: those that `membership` (as in
/// /proc/self/cgroup) names below `mount` (as in /sys/fs/cgroup), and the ones they are in. Pages
/// of files, which the kernel takes back, count as free.
std::optional<MemoryRoom> control_group_room(const std::filesystem::path& membership,
                                             const std::filesystem::path& mount);

/// From now on this process allocates at most `bytes` in all (RLIMIT_DATA): what is beyond fails as
/// where memory is exhausted. Mapped libraries do not count. Throws Error kResource where it has
/// taken more already.
void limit_memory(std::int64_t bytes);

/// Starts a new peak; false where the system does not allow it.
bool reset_peak_memory();

}  // namespace repquant
