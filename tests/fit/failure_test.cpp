#include "fit/failure.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <new>
#include <stdexcept>

#include "repquant/error.h"
#include "support/errors.h"

namespace repquant {
namespace {

template <class Exception>
std::string reason_of(const Exception& exception) {
  try {
    throw exception;
  } catch (...) {
    return reason_of_failure();
  }
}

TEST(Failure, OfASiteIsOneLine) {
  EXPECT_EQ(reason_of(Error(ErrorKind::kNumerical, {.what = "not finite", .where = "fc1"})),
            "not finite");
  EXPECT_EQ(reason_of(std::runtime_error("first\nsecond")), "first");
  try {
    at::matmul(at::ones({2, 3}), at::ones({2, 3}));
    FAIL() << "shapes that do not fit were accepted";
  } catch (...) {
    const std::string reason = reason_of_failure();
    EXPECT_NE(reason.find("shapes"), std::string::npos) << reason;
    EXPECT_EQ(reason.find('\n'), std::string::npos) << reason;
  }
}

TEST(Failure, OfNoSiteGoesOn) {
  for (const ErrorKind kind : {ErrorKind::kUsage, ErrorKind::kFile, ErrorKind::kInterrupted}) {
    EXPECT_THROW(reason_of(Error(kind, {.what = "stop"})), Error);
  }
  EXPECT_ERROR(reason_of(std::bad_alloc()), ErrorKind::kResource, "out of memory");
}

}  // namespace
}  // namespace repquant
