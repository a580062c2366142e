#include "base/interrupt.h"

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
