#include "nightly/plan_keys.h"

#include <gtest/gtest.h>

namespace repquant {
namespace {

TEST(PlanKeys, StandForSettings) {
  EXPECT_EQ(with_plan_keys("needs `task=perplexity`"), "needs \"task\": \"perplexity\"");
  EXPECT_EQ(with_plan_keys("`required=kl`"), "\"max_kl\"");
  EXPECT_EQ(with_plan_keys("`required=ppl_ratio`, `required=x`"), "\"max_ppl_ratio\", \"x\"");
  EXPECT_EQ(with_plan_keys("model as `reference`"), "model as \"compare\": true");
  EXPECT_EQ(with_plan_keys("(`exclude='a.*'`)"), "(\"exclude\": \"a.*\")");
  EXPECT_EQ(with_plan_keys("`force`, `trust`"), "`force`, `trust`");
  EXPECT_EQ(with_plan_keys("one ` only"), "one ` only");
  EXPECT_EQ(with_plan_keys("use `batch_size=4`"), "use \"batch_size\": 4");
}

TEST(PlanKeys, LeaveWhatWasFound) {
  const Error error(ErrorKind::kUsage,
                    {.what = "bad", .where = "`required=top1`", .got = "`labels`"});
  const Error translated = with_plan_keys(error);
  EXPECT_EQ(translated.parts().where, "\"min_top1\"");
  EXPECT_EQ(translated.parts().got, "`labels`");
}

}  // namespace
}  // namespace repquant
