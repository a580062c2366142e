#include "cli/exit_code.h"

#include <gtest/gtest.h>

namespace repquant::cli {
namespace {

TEST(ExitCode, IsTheDocumentedOne) {
  EXPECT_EQ(exit_code(ErrorKind::kGate), 1);
  EXPECT_EQ(exit_code(ErrorKind::kUsage), 2);
  EXPECT_EQ(exit_code(ErrorKind::kUnsupported), 4);
  EXPECT_EQ(exit_code(ErrorKind::kFile), 5);
  EXPECT_EQ(exit_code(ErrorKind::kResource), 6);
  EXPECT_EQ(exit_code(ErrorKind::kNumerical), 7);
  EXPECT_EQ(exit_code(ErrorKind::kInternal), 70);
  EXPECT_EQ(exit_code(ErrorKind::kInterrupted), 130);
}

}  // namespace
}  // namespace repquant::cli
