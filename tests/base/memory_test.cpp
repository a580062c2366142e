// The limit of the address space.
#include "base/memory.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

namespace repquant {
namespace {

TEST(MemoryLeft, FollowsTheLimit) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  if (before.rlim_cur == RLIM_INFINITY) {
    EXPECT_FALSE(memory_left().has_value());
  }
  rlimit limit = before;
  constexpr rlim_t kLarge = rlim_t{1} << 46;  // more than sanitizers reserve
  limit.rlim_cur = kLarge;
  if (setrlimit(RLIMIT_AS, &limit) != 0) GTEST_SKIP() << "a lower limit is set";
  const auto left = memory_left();
  limit.rlim_cur = 1 << 20;  // less than what is there already
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  const auto none = memory_left();
  ASSERT_EQ(setrlimit(RLIMIT_AS, &before), 0);
  ASSERT_TRUE(left.has_value());
  EXPECT_GT(*left, 0);
  EXPECT_LT(*left, std::int64_t{1} << 46);
  EXPECT_EQ(none.value_or(-1), 0);
}

}  // namespace
}  // namespace repquant
