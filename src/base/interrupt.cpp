#include "base/interrupt.h"

#include <atomic>

#include "repquant/error.h"

namespace repquant {
namespace {

// A signal handler can only reach static storage. Lock-free, hence safe inside the handler.
std::atomic<int> signals_seen{0};
std::atomic<int> last_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);

constexpr int kSignalsUntilExit = 3;

extern "C" void note_signal(int signal_number) {
  last_signal.store(signal_number, std::memory_order_relaxed);
  if (signals_seen.fetch_add(1, std::memory_order_relaxed) + 1 >= kSignalsUntilExit) {
    static_cast<void>(std::signal(signal_number, SIG_DFL));
    static_cast<void>(std::raise(signal_number));
  }
}

}  // namespace

bool InterruptToken::requested() const noexcept {
  return armed_ && signals_seen.load(std::memory_order_relaxed) > 0;
}

void InterruptToken::throw_if_interrupted() const {
  if (!requested()) return;
  const bool terminated = last_signal.load(std::memory_order_relaxed) == SIGTERM;
  throw Error(ErrorKind::kInterrupted, {.what = "interrupted, nothing was written",
                                        .got = terminated ? "SIGTERM" : "SIGINT"});
}

InterruptScope::InterruptScope() {
  signals_seen.store(0, std::memory_order_relaxed);
  struct sigaction action {};
  action.sa_handler = note_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &previous_int_);
  sigaction(SIGTERM, &action, &previous_term_);
}

InterruptScope::~InterruptScope() {
  sigaction(SIGINT, &previous_int_, nullptr);
  sigaction(SIGTERM, &previous_term_, nullptr);
}

}  // namespace repquant
