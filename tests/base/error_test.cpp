#include "repquant/error.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

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
}

TEST(ErrorTest, EmptyPartsAreNotPrinted) {
  EXPECT_STREQ(Error(ErrorKind::kUsage, {.what = "no model"}).what(), "no model");
}

TEST(ErrorTest, KindsHaveDifferentNames) {
  std::set<std::string> names;
  for (const auto kind : {ErrorKind::kGate, ErrorKind::kUsage, ErrorKind::kUnsupported,
                          ErrorKind::kFile, ErrorKind::kResource, ErrorKind::kNumerical,
                          ErrorKind::kInternal, ErrorKind::kInterrupted}) {
    names.insert(name_of(kind));
  }
  EXPECT_EQ(names.size(), 8U);
  EXPECT_STREQ(name_of(ErrorKind::kFile), "file");
}

}  // namespace
}  // namespace repquant
