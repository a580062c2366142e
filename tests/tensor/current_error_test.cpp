// What other libraries throw, as errors of this one.
#include "tensor/current_error.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <new>
#include <stdexcept>
#include <system_error>

#include "support/errors.h"

namespace repquant {
namespace {

/// What a catch block that explains failures makes of `body`.
template <typename Body>
void explain(const Body& body) {
  try {
    body();
  } catch (const std::exception&) {
    rethrow_if_out_of_memory("there");
    throw Error(ErrorKind::kUnsupported, {.what = "the operator failed"});
  }
}

TEST(OutOfMemory, WhoeverSaysSo) {
  // More than any address space has.
  const auto allocate = [] { at::empty({std::int64_t{1} << 55}, at::kFloat); };
  EXPECT_ERROR(explain(allocate), ErrorKind::kResource, "out of memory");
  EXPECT_ERROR(explain([] { throw std::bad_alloc(); }), ErrorKind::kResource, "there");
  EXPECT_ERROR(explain([] { throw std::runtime_error("in forward: std::bad_alloc"); }),
               ErrorKind::kResource, "out of memory");
  EXPECT_ERROR(
      explain([] {
        throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
      }),
      ErrorKind::kResource, "out of memory");
}

TEST(OutOfMemory, OtherFailuresAreExplained) {
  EXPECT_ERROR(explain([] { at::ones({2}) + at::ones({3}); }), ErrorKind::kUnsupported, "operator");
  EXPECT_ERROR(explain([] { throw Error(ErrorKind::kFile, {.what = "no std::bad_alloc"}); }),
               ErrorKind::kUnsupported, "operator");
}

}  // namespace
}  // namespace repquant
