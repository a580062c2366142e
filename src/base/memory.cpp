#include "base/memory.h"

#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

#include "base/text_table.h"
#include "repquant/error.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMostBytes = std::numeric_limits<std::int64_t>::max();

/// The number behind `key` at the beginning of a line, as in "VmHWM:   123 kB"; 0 if there is none.
std::int64_t number_in(const fs::path& file, const std::string& key) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(key, 0) != 0) continue;
    std::int64_t number = 0;
    std::istringstream(line.substr(key.size())) >> number;
    return number;
  }
  return 0;
}

std::int64_t status_bytes(const std::string& key) {
  return number_in("/proc/self/status", key + ":") * 1024;
}

std::int64_t free_on_machine() {
  const fs::path file = "/proc/meminfo";
  return (number_in(file, "MemAvailable:") + number_in(file, "SwapFree:")) * 1024;
}

/// The number that a file holds; nothing for another text, such as "max", and without the file.
std::optional<std::int64_t> number_of(const fs::path& file) {
  std::int64_t number = 0;
  if (std::ifstream(file) >> number) return number;
  return std::nullopt;
}

/// Names of a control group's files.
struct GroupFiles {
  const char *most, *now, *inactive, *active;
};
constexpr GroupFiles kVersion1{"memory.limit_in_bytes", "memory.usage_in_bytes",
                               "total_inactive_file ", "total_active_file "};
constexpr GroupFiles kVersion2{"memory.max", "memory.current", "inactive_file ", "active_file "};

std::optional<MemoryRoom> room_in_group(const fs::path& group, const GroupFiles& files) {
  constexpr std::int64_t kUnlimited = std::int64_t{1} << 60;  // version 1 says it by a large number
  const auto most = number_of(group / files.most);
  const auto now = number_of(group / files.now);
  if (!most || !now || *most >= kUnlimited) return std::nullopt;
  const std::int64_t reclaimable = number_in(group / "memory.stat", files.inactive) +
                                   number_in(group / "memory.stat", files.active);
  return MemoryRoom{
      std::max<std::int64_t>(0, *most - std::max<std::int64_t>(0, *now - reclaimable)),
      "of a control group (" + group.string() + ")"};
}

void keep_least(std::optional<MemoryRoom>& least, std::optional<MemoryRoom> room) {
  if (room && (!least || room->bytes < least->bytes)) least = std::move(room);
}

/// Room under one of the limits that a process has itself.
std::optional<MemoryRoom> room_under(int resource, const char* taken, const char* name) {
  rlimit limit{};
  if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  const auto most = static_cast<std::int64_t>(std::min<rlim_t>(limit.rlim_cur, kMostBytes));
  return MemoryRoom{std::max<std::int64_t>(0, most - status_bytes(taken)), name};
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

std::optional<MemoryRoom> control_group_room(const fs::path& membership, const fs::path& mount) {
  std::optional<MemoryRoom> least;
  std::ifstream lines(membership);  // "4:memory:/a/b" of version 1, "0::/a/b" of version 2
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second =
        first == std::string::npos ? std::string::npos : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool version2 = controllers == ",,";
    if (!version2 && controllers.find(",memory,") == std::string::npos) continue;
    const fs::path root = version2 ? mount : mount / "memory";
    // In a container the path may be that outside of it; then only the root is there.
    for (fs::path group = fs::path(line.substr(second + 1)).relative_path();;
         group = group.parent_path()) {
      keep_least(least, room_in_group(root / group, version2 ? kVersion2 : kVersion1));
      if (group.empty()) break;
    }
  }
  return least;
}

std::optional<MemoryRoom> memory_room() {
  std::optional<MemoryRoom> least;
  if (const std::int64_t bytes = free_on_machine(); bytes > 0) {
    least = MemoryRoom{bytes, "of what is free on this machine"};
  }
  keep_least(least, control_group_room("/proc/self/cgroup", "/sys/fs/cgroup"));
  keep_least(least, room_under(RLIMIT_AS, "VmSize", "of the address space (ulimit -v)"));
  keep_least(least, room_under(RLIMIT_DATA, "VmData", "of `max_memory` (or ulimit -d)"));
  return least;
}

void limit_memory(std::int64_t bytes) {
  const std::int64_t taken = status_bytes("VmData");
  if (bytes <= taken) {
    throw Error(ErrorKind::kResource,
                {.what = "the limit of memory is below what the program takes to begin with",
                 .where = "`max_memory`",
                 .expected = "more than " + format_bytes(static_cast<double>(taken)),
                 .got = format_bytes(static_cast<double>(bytes))});
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_DATA, &limit) == 0) {
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, static_cast<rlim_t>(bytes));
    if (setrlimit(RLIMIT_DATA, &limit) == 0) return;
  }
  throw Error(ErrorKind::kResource,
              {.what = "the system refuses a limit of memory", .where = "`max_memory`"});
}

bool reset_peak_memory() {
  std::ofstream refs("/proc/self/clear_refs");
  refs << "5" << std::flush;  // proc(5): reset the peak resident set size
  return refs.good();
}

}  // namespace repquant
