#include "base/interrupt.h"

#include <semaphore.h>

#include <atomic>
#include <cerrno>
#include <ctime>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "base/text_table.h"

namespace repquant {
namespace {

// A signal handler can only reach static storage. Lock-free, hence safe inside the handler.
std::atomic<int> signals_seen{0};
std::atomic<int> last_signal{0};
std::atomic<sem_t*> watched{nullptr};  // posted at the first signal
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<sem_t*>::is_always_lock_free);

constexpr int kSignalsUntilExit = 3;

extern "C" void note_signal(int signal_number) {
  last_signal.store(signal_number, std::memory_order_relaxed);
  const int seen = signals_seen.fetch_add(1, std::memory_order_relaxed) + 1;
  sem_t* const watcher = watched.load();
  if (seen == 1 && watcher != nullptr) static_cast<void>(sem_post(watcher));
  if (seen >= kSignalsUntilExit) {
    static_cast<void>(std::signal(signal_number, SIG_DFL));
    static_cast<void>(std::raise(signal_number));
  }
}

const char* name_of_signal() {
  return last_signal.load(std::memory_order_relaxed) == SIGTERM ? "SIGTERM" : "SIGINT";
}

Error overdue_error(std::chrono::milliseconds grace) {
  const double seconds = std::chrono::duration<double>(grace).count();
  return Error(ErrorKind::kInterrupted,
               {.what = "interrupted, and ended in the middle of its work",
                .got = std::string(name_of_signal()) + ", and no end within " +
                       format_number(seconds, 1) + " s",
                .hint = "a model whose code loops without end never comes further; what was "
                        "finished before, such as checkpoints in `workdir`, is there"});
}

}  // namespace

// Sleeps until the first signal, then for `grace`, and says so if it was not stopped by then.
class InterruptScope::Watch {
 public:
  Watch(std::chrono::milliseconds grace, std::function<void(const Error&)> overdue)
      : grace_(grace), overdue_(std::move(overdue)) {
    sem_init(&wake_, 0, 0);
    watched.store(&wake_);
    try {
      thread_ = std::thread([this] { watch(); });
    } catch (const std::system_error&) {
      // No thread to be had: three signals still end the process.
    }
  }

  ~Watch() {
    stopped_.store(true);
    sem_post(&wake_);
    if (thread_.joinable()) thread_.join();
    sem_destroy(&wake_);
  }

  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

 private:
  void watch() {
    while (sem_wait(&wake_) != 0 && errno == EINTR) {
    }
    if (!stopped_.load() && !stopped_within_grace()) overdue_(overdue_error(grace_));
  }

  bool stopped_within_grace() {
    timespec end{};
    ::clock_gettime(CLOCK_MONOTONIC, &end);
    constexpr std::int64_t kNano = 1'000'000'000;
    const std::int64_t nanoseconds = end.tv_nsec + std::chrono::nanoseconds(grace_).count();
    end.tv_sec += nanoseconds / kNano;
    end.tv_nsec = nanoseconds % kNano;
    while (sem_clockwait(&wake_, CLOCK_MONOTONIC, &end) != 0) {
      if (errno != EINTR) return false;
    }
    return true;
  }

  sem_t wake_{};
  std::chrono::milliseconds grace_;
  std::function<void(const Error&)> overdue_;
  std::atomic<bool> stopped_{false};
  std::thread thread_;
};

bool InterruptToken::requested() const noexcept {
  return armed_ && signals_seen.load(std::memory_order_relaxed) > 0;
}

void InterruptToken::throw_if_interrupted() const {
  if (!requested()) return;
  throw Error(ErrorKind::kInterrupted,
              {.what = "interrupted, nothing was written", .got = name_of_signal()});
}

InterruptScope::InterruptScope() { install(); }

InterruptScope::InterruptScope(std::chrono::milliseconds grace,
                               std::function<void(const Error&)> overdue)
    : watch_(std::make_unique<Watch>(grace, std::move(overdue))) {
  install();
}

void InterruptScope::install() {
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
  watched.store(nullptr);
}

}  // namespace repquant
