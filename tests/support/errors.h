// Checks on thrown errors.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "repquant/error.h"

namespace repquant::testing {

/// The error that `action` throws, or nothing. Any other exception passes through and fails a test.
template <class Action>
std::optional<Error> error_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

}  // namespace repquant::testing

/// Fails unless `action` throws a repquant::Error of this kind whose full text has this part.
#define EXPECT_ERROR(action, error_kind, part)                                  \
  do {                                                                          \
    const auto caught = ::repquant::testing::error_of([&] { (void)(action); }); \
    ASSERT_TRUE(caught.has_value()) << "nothing was thrown";                    \
    EXPECT_EQ(caught->kind(), error_kind) << caught->what();                    \
    EXPECT_THAT(std::string(caught->what()), ::testing::HasSubstr(part));       \
  } while (false)
