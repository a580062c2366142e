#include "base/setting_names.h"

#include <gtest/gtest.h>

namespace repquant {
namespace {

std::string in_brackets(std::string_view setting) { return "<" + std::string(setting) + ">"; }

TEST(SettingNames, AreReplacedOneByOne) {
  EXPECT_EQ(replace_settings("give `a` or `b=c`.", in_brackets), "give <a> or <b=c>.");
  for (const char* text : {"", "plain", "one ` only"}) {
    EXPECT_EQ(replace_settings(text, in_brackets), text);
  }
}

TEST(SettingNames, HaveAValueOrNot) {
  EXPECT_EQ(split_setting("a=b=c").name, "a");
  EXPECT_EQ(split_setting("a=b=c").value, "b=c");
  EXPECT_EQ(split_setting("a").name, "a");
  EXPECT_EQ(split_setting("a").value, "");
}

}  // namespace
}  // namespace repquant
