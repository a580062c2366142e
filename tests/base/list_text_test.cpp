#include "base/list_text.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace repquant {
namespace {

TEST(ListTextTest, CommasStandBetween) {
  EXPECT_EQ(list_text(std::vector<std::string>{}), "");
  EXPECT_EQ(list_text(std::array<const char*, 1>{"a"}), "a");
  EXPECT_EQ(list_text(std::vector<std::string>{"", "b", "c"}), ", b, c");
}

}  // namespace
}  // namespace repquant
