#include "base/interrupt.h"

#include <chrono>
#include <semaphore>
#include <string>

#include "support/errors.h"

namespace repquant {
namespace {

TEST(InterruptTest, DefaultTokenIsNeverInterrupted) {
  const InterruptScope scope;
  std::raise(SIGINT);
  const InterruptToken token;
  EXPECT_FALSE(token.requested());
  token.throw_if_interrupted();
}

TEST(InterruptTest, SignalsBecomeAnError) {
  for (const int number : {SIGINT, SIGTERM}) {
    const InterruptScope scope;
    const InterruptToken token = scope.token();
    EXPECT_FALSE(token.requested());
    token.throw_if_interrupted();
    std::raise(number);
    EXPECT_TRUE(token.requested());
    EXPECT_ERROR(token.throw_if_interrupted(), ErrorKind::kInterrupted,
                 number == SIGINT ? "SIGINT" : "SIGTERM");
  }
}

TEST(InterruptTest, SecondSignalIsStillHandled) {
  const InterruptScope scope;
  std::raise(SIGINT);
  std::raise(SIGINT);
  EXPECT_TRUE(scope.token().requested());
}

TEST(InterruptTest, WorkThatDoesNotAnswerIsOverdue) {
  std::binary_semaphore called{0};
  std::string said;
  const InterruptScope scope(std::chrono::milliseconds(10), [&](const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInterrupted);
    said = error.what();
    called.release();
  });
  EXPECT_FALSE(called.try_acquire_for(std::chrono::milliseconds(50)));  // nothing without a signal
  std::raise(SIGTERM);
  ASSERT_TRUE(called.try_acquire_for(std::chrono::seconds(20)));
  EXPECT_NE(said.find("SIGTERM"), std::string::npos) << said;
}

TEST(InterruptTest, WorkThatEndsInTimeIsNotOverdue) {
  int overdue = 0;
  for (const bool with_signal : {false, true}) {
    const InterruptScope scope(std::chrono::hours(1), [&](const Error&) { ++overdue; });
    if (with_signal) std::raise(SIGINT);
  }
  EXPECT_EQ(overdue, 0);
}

TEST(InterruptDeathTest, ThirdSignalEndsTheProcess) {
  EXPECT_EXIT(
      {
        const InterruptScope scope;
        std::raise(SIGTERM);
        std::raise(SIGTERM);
        std::raise(SIGTERM);
      },
      ::testing::KilledBySignal(SIGTERM), "");
}

TEST(InterruptDeathTest, ScopeRestoresTheHandler) {
  EXPECT_EXIT(
      {
        { const InterruptScope scope; }
        std::raise(SIGINT);
      },
      ::testing::KilledBySignal(SIGINT), "");
}

}  // namespace
}  // namespace repquant
