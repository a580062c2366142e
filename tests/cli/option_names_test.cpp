#include "cli/option_names.h"

#include <gtest/gtest.h>

namespace repquant::cli {
namespace {

TEST(OptionNames, StandForSettings) {
  EXPECT_EQ(with_option_names("give `calib` a folder"), "give --calib a folder");
  EXPECT_EQ(with_option_names("`max_kl` or `target_bits`"), "--max-drop-kl or --target-bits");
  EXPECT_EQ(with_option_names("try `norm.granularity=per_tensor`"),
            "try --set norm.granularity=per_tensor");
  EXPECT_EQ(with_option_names("raise `calibration.samples`"), "raise --calib-samples");
  EXPECT_EQ(with_option_names("`min_sqnr`, `calibration.hold_back`"), "--min-sqnr, --hold-back");
  EXPECT_EQ(with_option_names("`calib=synthetic` uses"), "--calib synthetic uses");
  EXPECT_EQ(with_option_names("`trust`, `recipe=static`"), "--trust, --recipe static");
  EXPECT_EQ(with_option_names("`required=top1`, `required=kl`"), "--min-top1, --max-kl");
  EXPECT_EQ(with_option_names("(`exclude='a.*'`)"), "(--exclude 'a.*')");
}

TEST(OptionNames, LeaveTheRest) {
  for (const char* text : {"", "plain", "one ` only", "`nothing known`", "``"}) {
    EXPECT_EQ(with_option_names(text), text);
  }
}

TEST(OptionNames, LeaveWhatWasFound) {
  const Error error(ErrorKind::kUsage, {.what = "bad", .where = "`window`", .got = "`window`"});
  const Error translated = with_option_names(error);
  EXPECT_EQ(translated.parts().where, "--window");
  EXPECT_EQ(translated.parts().got, "`window`");
  EXPECT_EQ(translated.kind(), ErrorKind::kUsage);
}

}  // namespace
}  // namespace repquant::cli
