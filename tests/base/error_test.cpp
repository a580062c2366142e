#include "repquant/error.h"

#include <gtest/gtest.h>

namespace repquant {
namespace {

TEST(ErrorTest, MessageHoldsEveryPartOnItsOwnLine) {
  const Error error(ErrorKind::kFile, {.what = "cannot read image",
                                       .where = "a/b.jpg",
                                       .expected = "a JPEG file",
                                       .got = "0 bytes",
                                       .hint = "delete it"});
  EXPECT_STREQ(error.what(),
               "cannot read image\n  where: a/b.jpg\n  expected: a JPEG file\n  got: 0 bytes\n"
               "  try: delete it");
  EXPECT_EQ(error.exit_code(), 5);
}

TEST(ErrorTest, EmptyPartsAreNotPrinted) {
  EXPECT_STREQ(Error(ErrorKind::kUsage, {.what = "no model"}).what(), "no model");
}

TEST(ErrorTest, KindsAreTheDocumentedExitCodes) {
  const auto code = [](ErrorKind kind) { return Error(kind, {.what = "x"}).exit_code(); };
  EXPECT_EQ(code(ErrorKind::kGate), 1);
  EXPECT_EQ(code(ErrorKind::kUsage), 2);
  EXPECT_EQ(code(ErrorKind::kDevice), 3);
  EXPECT_EQ(code(ErrorKind::kUnsupported), 4);
  EXPECT_EQ(code(ErrorKind::kFile), 5);
  EXPECT_EQ(code(ErrorKind::kResource), 6);
  EXPECT_EQ(code(ErrorKind::kNumerical), 7);
  EXPECT_EQ(code(ErrorKind::kInternal), 70);
  EXPECT_EQ(code(ErrorKind::kInterrupted), 130);
}

}  // namespace
}  // namespace repquant
