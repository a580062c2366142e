// Limits of memory: of the process, of its control groups.
#include "base/memory.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <fstream>

#include "support/errors.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::TempDir;

/// A limit of this process that is put back.
class Limit {
 public:
  explicit Limit(int resource) : resource_(static_cast<decltype(resource_)>(resource)) {
    EXPECT_EQ(getrlimit(resource_, &before_), 0);
  }
  ~Limit() { EXPECT_EQ(setrlimit(resource_, &before_), 0); }
  Limit(const Limit&) = delete;
  Limit& operator=(const Limit&) = delete;

  bool set(rlim_t bytes) const {
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    return setrlimit(resource_, &limit) == 0;
  }

 private:
  decltype(RLIMIT_AS) resource_;
  rlimit before_{};
};

void write(const std::filesystem::path& file, const std::string& text) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file) << text;
}

/// Left above what is taken already, so that reading /proc does not fail for want of memory itself.
constexpr std::int64_t kLeft = std::int64_t{1} << 26;

/// What the process may give back or take between two readings of what it takes: stacks, buffers.
constexpr std::int64_t kElsewhere = std::int64_t{1} << 20;

/// What the process takes now, of `key` in proc(5)'s status.
std::int64_t taken_bytes(const std::string& key) {
  std::ifstream lines("/proc/self/status");
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(key, 0) == 0) return std::stoll(line.substr(key.size())) * 1024;
  }
  ADD_FAILURE() << "no " << key;
  return 0;
}

void expect_room_of(const std::string& limit) {
  const auto room = memory_room();
  ASSERT_TRUE(room.has_value());
  EXPECT_NEAR(static_cast<double>(room->bytes), kLeft, kElsewhere);
  EXPECT_NE(room->limit.find(limit), std::string::npos) << room->limit;
}

TEST(MemoryRoom, FollowsTheLimitOfTheAddressSpace) {
  const Limit limit(RLIMIT_AS);
  ASSERT_TRUE(limit.set(static_cast<rlim_t>(taken_bytes("VmSize:") + kLeft)));
  expect_room_of("ulimit -v");
}

TEST(MemoryRoom, IsWhatLimitMemoryLeaves) {
  const Limit limit(RLIMIT_DATA);
  EXPECT_ERROR(limit_memory(4096), ErrorKind::kResource, "begin with");
  ASSERT_TRUE(limit.set(RLIM_INFINITY));
  const std::int64_t most = taken_bytes("VmData:") + kLeft;
  limit_memory(most);
  rlimit now{};
  ASSERT_EQ(getrlimit(RLIMIT_DATA, &now), 0);
  EXPECT_EQ(now.rlim_cur, static_cast<rlim_t>(most));
  expect_room_of("`max_memory`");
}

TEST(ControlGroupRoom, TheLeastOfAGroupAndThoseItIsIn) {
  const TempDir folder;
  const auto mount = folder.path() / "cgroup";
  write(folder / "membership", "0::/outer/inner\n");
  EXPECT_FALSE(control_group_room(folder / "membership", mount).has_value());
  write(mount / "outer/inner/memory.max", "max\n");
  write(mount / "outer/inner/memory.current", "500\n");
  EXPECT_FALSE(control_group_room(folder / "membership", mount).has_value());
  write(mount / "outer/memory.max", "10000\n");
  write(mount / "outer/memory.current", "7000\n");
  write(mount / "outer/memory.stat", "anon 1\ninactive_file 1500\nactive_file 500\n");
  const auto outer = control_group_room(folder / "membership", mount);
  ASSERT_TRUE(outer.has_value());
  EXPECT_EQ(outer->bytes, 5000);  // 7000 in use, of which 2000 are pages of files
  EXPECT_NE(outer->limit.find("outer"), std::string::npos);
  write(mount / "outer/inner/memory.max", "600\n");
  const auto inner = control_group_room(folder / "membership", mount);
  ASSERT_TRUE(inner.has_value());
  EXPECT_EQ(inner->bytes, 100);
}

TEST(ControlGroupRoom, InAContainerThatSeesItsOwnRootOnly) {
  const TempDir folder;
  const auto mount = folder.path() / "cgroup";
  write(folder / "membership", "0::/machine/docker-1\n");
  write(mount / "memory.max", "1000\n");
  write(mount / "memory.current", "1200\n");
  const auto room = control_group_room(folder / "membership", mount);
  ASSERT_TRUE(room.has_value());
  EXPECT_EQ(room->bytes, 0);
}

TEST(ControlGroupRoom, VersionOne) {
  const TempDir folder;
  const auto mount = folder.path() / "cgroup";
  write(folder / "membership", "7:cpu,cpuacct:/a\n4:hugetlb,memory:/a\n0::/\n");
  write(mount / "memory/memory.limit_in_bytes", "9223372036854771712\n");
  write(mount / "memory/memory.usage_in_bytes", "5000\n");
  EXPECT_FALSE(control_group_room(folder / "membership", mount).has_value());
  write(mount / "memory/a/memory.limit_in_bytes", "9000\n");
  write(mount / "memory/a/memory.usage_in_bytes", "5000\n");
  write(mount / "memory/a/memory.stat", "total_inactive_file 1000\ninactive_file 7\n");
  const auto room = control_group_room(folder / "membership", mount);
  ASSERT_TRUE(room.has_value());
  EXPECT_EQ(room->bytes, 5000);
}

}  // namespace
}  // namespace repquant
